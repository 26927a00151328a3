// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/transform/column_scaling.hpp>

/// Moves the division of a layer's inputs by s into whatever writes these inputs, so that an engine does nothing at run time.
///
/// | the input comes from              | what is divided                                                                         |
/// |-----------------------------------|-----------------------------------------------------------------------------------------|
/// | a norm with gain and bias         | both: `divide_norm`                                                                     |
/// | a layer, also with ReLU after it  | its rows and bias: `divide_outputs`, because ReLU(z / s) = ReLU(z) / s                  |
/// | a gated MLP, act(gate) * up       | rows and bias of up, never of gate                                                      |
/// | attention over values             | rows and bias of the value layer, by `shared_scaling`: heads that share a value share s |
///
/// All layers that read the same input must be multiplied by the same s. After GELU, SiLU or another function that is not homogeneous,
/// with nothing multiplied afterwards, s cannot be moved: quantize such a layer without scaling, or divide its input at run time. The same
/// holds for an input that something else reads, too, such as the residual stream.
namespace magr {

/// How a norm stores its gain.
enum class norm_gain {
    plain,    ///< as g
    one_plus  ///< as g - 1, like Gemma
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(norm_gain gain) noexcept {
    switch (gain) {
        case norm_gain::plain: return "plain";
        case norm_gain::one_plus: return "one_plus";
    }
    return "unknown";
}

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Rows that are divided by one factor each: v <- (v + shift) / s - shift.
struct divided_rows {
    const char* argument;
    mutable_matrix_ref values;
    double shift = 0;
};

template <storage_scalar T>
[[nodiscard]] matrix_view<T> as_column(std::span<T> values) noexcept {
    return {values.data(), static_cast<index_t>(values.size()), 1};
}

/// Divides all parts, or refuses and divides none.
inline void divide_rows(const char* function, const column_scaling& scaling, std::initializer_list<divided_rows> parts) {
    std::vector<double> row;
    const auto load_divided = [&](const divided_rows& part, index_t i) {
        const double s = scaling.scales()[static_cast<std::size_t>(i)];
        row.resize(static_cast<std::size_t>(part.values.cols()));
        part.values.load_row(i, 0, part.values.cols(), row.data());
        for (double& value : row) value = part.shift == 0 ? value / s : (value + part.shift) / s - part.shift;
    };
    for (const divided_rows& part : parts) {
        require_shape(function, part.argument, part.values, scaling.inputs(), part.values.cols());
        require_distinct(function, part.argument, part.values);
        require_finite(function, part.argument, part.values);
        for (index_t i = 0; i < part.values.rows(); ++i) {
            load_divided(part, i);
            part.values.type().round(row.data(), part.values.cols());
            if (!std::all_of(row.begin(), row.end(), [](double value) { return is_finite(value); }))
                raise<value_error>(concat(function, ": ", part.argument, " must stay finite in its type, row ", i, " divided by ",
                                          scaling.scales()[static_cast<std::size_t>(i)], " does not"));
        }
    }
    if (parts.size() == 2)
        require_apart(function, parts.begin()->argument, parts.begin()->values, (parts.end() - 1)->argument, (parts.end() - 1)->values);
    for (const divided_rows& part : parts)
        for (index_t i = 0; i < part.values.rows(); ++i) {
            load_divided(part, i);
            part.values.store_row(i, 0, part.values.cols(), row.data());
        }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Divides what a norm writes: gain <- gain / s and bias <- bias / s. A gain stored as g - 1 becomes g / s - 1.
///
/// @par Shapes    gain, bias: one number per input of the scaled layer; no bias: an empty span
/// @par Errors    option_error; shape_error; value_error if a number is NaN or infinite, or its quotient is. All before any write
/// @par Numerics  in double, rounded to the storage type
template <storage_scalar T>
void divide_norm(std::span<T> gain, std::span<T> bias, const column_scaling& scaling, norm_gain stored = norm_gain::plain) {
    detail::require_enumerator("divide_norm", "stored", stored);
    const detail::divided_rows gains{"gain", detail::as_column(gain), stored == norm_gain::one_plus ? 1.0 : 0.0};
    if (bias.empty())
        detail::divide_rows("divide_norm", scaling, {gains});
    else
        detail::divide_rows("divide_norm", scaling, {gains, {"bias", detail::as_column(bias)}});
}

/// Divides what a layer writes: row i of W and bias i by s_i.
///
/// @par Shapes    W: as many rows as the scaled layer has inputs, any storage and layout; bias: one number per row, or empty without bias
/// @par Errors    shape_error; value_error if an entry is NaN or infinite, or its quotient is. All before any write
/// @par Numerics  in double, rounded to the storage type
template <class Weights, storage_scalar T>
void divide_outputs(Weights&& W, std::span<T> bias, const column_scaling& scaling) {
    const detail::divided_rows weights{"W", as_mutable_view(std::forward<Weights>(W))};
    if (bias.empty())
        detail::divide_rows("divide_outputs", scaling, {weights});
    else
        detail::divide_rows("divide_outputs", scaling, {weights, {"bias", detail::as_column(bias)}});
}

/// The same without bias.
template <class Weights>
void divide_outputs(Weights&& W, const column_scaling& scaling) {
    divide_outputs(std::forward<Weights>(W), std::span<float>(), scaling);
}

/// Which output of the value layer each input of the layer behind attention averages, when several query heads share one value head. Inputs
/// with the same one must have the same scale: pass the result as `aqas_options::tie`.
///
///   head h reads value head h / (heads / value_heads), and every head has inputs / heads channels
///
/// @param inputs  of the layer behind attention, heads * channels
/// @par Errors    option_error unless value_heads divides heads and heads divides inputs, all at least 1
[[nodiscard]] inline std::vector<index_t> shared_value_channels(index_t inputs, index_t heads, index_t value_heads) {
    detail::require_option(value_heads >= 1, "shared_value_channels", "value_heads", "at least 1", value_heads);
    detail::require_option(heads >= 1 && heads % value_heads == 0, "shared_value_channels", "heads", "a multiple of value_heads", heads);
    detail::require_option(inputs >= 1 && inputs % heads == 0, "shared_value_channels", "inputs", "a multiple of heads", inputs);
    const index_t channels = inputs / heads;
    std::vector<index_t> shared(static_cast<std::size_t>(inputs));
    for (index_t j = 0; j < inputs; ++j)
        shared[static_cast<std::size_t>(j)] = j / channels / (heads / value_heads) * channels + j % channels;
    return shared;
}

/// The scales of the outputs that inputs share, for `divide_outputs` of the value layer. Outputs that no input reads keep the scale 1.
///
/// @param tie     for each input the output that it reads
/// @par Errors    shape_error unless there is one number per input; value_error if one is not in 0..inputs-1, or inputs that share an
///                output have different scales
[[nodiscard]] inline column_scaling shared_scaling(const column_scaling& scaling, std::span<const index_t> tie) {
    if (tie.size() != scaling.scales().size())
        detail::raise<shape_error>(detail::concat("shared_scaling: tie must have ", scaling.inputs(), " entries, it has ", tie.size()));
    std::vector<double> shared;
    std::vector<char> is_known;
    for (std::size_t j = 0; j < tie.size(); ++j) {
        if (tie[j] < 0 || tie[j] >= scaling.inputs())
            detail::raise<value_error>(
                detail::concat("shared_scaling: tie must be in 0..", scaling.inputs() - 1, ", tie[", j, "] is ", tie[j]));
        const auto output = static_cast<std::size_t>(tie[j]);
        if (output >= shared.size()) {
            shared.resize(output + 1, 1.0);
            is_known.resize(output + 1);
        }
        if (is_known[output] != 0 && shared[output] != scaling.scales()[j])
            detail::raise<value_error>(detail::concat("shared_scaling: inputs that share output ", output,
                                                      " must have one scale, they have ", shared[output], " and ", scaling.scales()[j]));
        shared[output] = scaling.scales()[j];
        is_known[output] = 1;
    }
    return column_scaling(std::move(shared));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
