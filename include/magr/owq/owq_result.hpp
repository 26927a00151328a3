// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include <magr/config.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/quantize/optq_result.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] constexpr int bits_of(storage_type type) noexcept {
    if (type == storage_type::native) return 8 * static_cast<int>(sizeof(Scalar));
    return type == storage_type::f32 ? 32 : 16;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

/// A quantized weight matrix with a few columns that are kept as numbers of 16 bits.
///
/// It is no `quantized_matrix`, so the packers do not take it: their formats have no room for these columns. `codes` alone is one, for
/// engines that read the weak columns from a place of their own and add their part of the output.
template <compute_scalar Scalar>
struct owq_matrix {
    quantized_matrix<Scalar> codes;                 ///< rows x cols; 0, by the code of the zero point, in weak columns
    std::vector<index_t> weak_ids;                  ///< the weak columns, ascending
    matrix<Scalar> weak_values;                     ///< rows x weak columns, in the order of `weak_ids`
    storage_type weak_storage = storage_type::f16;  ///< the type that can hold all weak values

    /// The weights, rows x cols.
    /// @par Cost      O(rows * cols), allocates the result
    [[nodiscard]] MAGR_ALWAYS_INLINE matrix<Scalar> dequantize() const {
        matrix<Scalar> weights = codes.dequantize();
        for (index_t i = 0; i < weak_values.rows(); ++i)
            for (index_t k = 0; k < weak_values.cols(); ++k) weights(i, weak_ids[static_cast<std::size_t>(k)]) = weak_values(i, k);
        return weights;
    }

    /// All that is stored, per weight: codes, also in weak columns, scales, integer zero points as codes, weak values, and 32 bits for the
    /// number of each weak column.
    [[nodiscard]] MAGR_ALWAYS_INLINE double bits_per_weight() const {
        const auto rows = static_cast<double>(codes.codes.rows()), cols = static_cast<double>(codes.codes.cols());
        const auto weak = static_cast<double>(weak_ids.size());
        const int grid = detail::bits_of<Scalar>(codes.storage) + (codes.zero_point == zero_point::integer ? codes.bits : 0);
        const double grids = grid * static_cast<double>(codes.scales.cols()) / cols;
        return codes.bits + grids + weak / cols * (detail::bits_of<Scalar>(weak_storage) + 32 / rows);
    }
};

/// Outcome of `quantize_owq`. The report is that of OPTQ for the columns that are not weak; its `loss` counts weak columns before they are
/// rounded to their storage type, where they cost nothing, and its `output_error` afterwards.
template <compute_scalar Scalar>
struct [[nodiscard]] owq_result : optq_report {
    owq_matrix<Scalar> quantized;  ///< empty (0 x 0) if `status` says that nothing was quantized
    index_t weak_limited = 0;      ///< weak values that were limited to the largest number of their storage type

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.codes.empty(); }
};

}  // namespace magr
