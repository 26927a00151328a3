// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <magr/preprocess/options.hpp>
#include <magr/quantize_layer.hpp>

/// The names of options' values, on the command line and in files.
namespace examples {

template <class Enum>
struct choice {
    const char* name;
    Enum value;
};
template <class Enum>
choice(const char*, Enum) -> choice<Enum>;

inline constexpr std::array solvers{choice{"admm", magr::solver::admm}, choice{"proximal_gradient", magr::solver::proximal_gradient}};
inline constexpr std::array column_orders{choice{"natural", magr::column_order::natural},
                                          choice{"act_order", magr::column_order::act_order},
                                          choice{"group_aware", magr::column_order::group_aware}};
inline constexpr std::array zero_points{choice{"none", magr::zero_point::none}, choice{"integer", magr::zero_point::integer},
                                        choice{"real", magr::zero_point::real}, choice{"offset", magr::zero_point::offset}};
inline constexpr std::array storage_types{choice{"f32", magr::storage_type::f32}, choice{"f16", magr::storage_type::f16},
                                          choice{"bf16", magr::storage_type::bf16}};
inline constexpr std::array range_searches{choice{"min_max", magr::range_search::min_max}, choice{"mse", magr::range_search::mse},
                                           choice{"output_error", magr::range_search::output_error},
                                           choice{"row_output_error", magr::range_search::row_output_error}};
inline constexpr std::array rounding_targets{choice{"preprocessed", magr::rounding_target::preprocessed},
                                             choice{"original", magr::rounding_target::original}};

/// The name of a value, which must be one of these.
template <class Choices, class Enum>
[[nodiscard]] const char* name_in(const Choices& choices, Enum value) {
    return std::find_if(choices.begin(), choices.end(), [&](const auto& choice) { return choice.value == value; })->name;
}

}  // namespace examples
