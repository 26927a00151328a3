// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <magr/preprocess/options.hpp>
#include <magr/quantize_layer.hpp>

/// The values that options can have; on the command line and in files they go by the names of `to_string`.
namespace examples {

inline constexpr std::array solvers{magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient};
inline constexpr std::array column_orders{magr::column_order::natural, magr::column_order::act_order, magr::column_order::group_aware,
                                          magr::column_order::reversed};
inline constexpr std::array zero_points{magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real,
                                        magr::zero_point::offset};
inline constexpr std::array storage_types{magr::storage_type::f32, magr::storage_type::f16, magr::storage_type::bf16};
inline constexpr std::array range_searches{magr::range_search::min_max, magr::range_search::mse, magr::range_search::output_error,
                                           magr::range_search::row_output_error};
inline constexpr std::array rounding_targets{magr::rounding_target::preprocessed, magr::rounding_target::original};

}  // namespace examples
