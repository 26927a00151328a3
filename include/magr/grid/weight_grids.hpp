// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include <magr/grid/grid.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {

/// Scales that are products of two numbers, as in the k-quants of GGUF: several groups share two stored numbers.
///
/// scale of group g = scales(i, g / groups) * scale_codes(i, g); offset of group g = -offsets(i, g / groups) * offset_codes(i, g).
template <compute_scalar Scalar>
struct shared_scales {
    index_t groups = 0;                 ///< groups that share, per block; 0: nothing is shared
    matrix<Scalar> scales;              ///< rows x blocks, f16 numbers
    matrix<Scalar> offsets;             ///< rows x blocks, f16 numbers; 0 x 0 without offsets
    matrix<std::int8_t> scale_codes;    ///< rows x groups
    matrix<std::uint8_t> offset_codes;  ///< rows x groups; 0 x 0 without offsets
};

/// The grids of a weight matrix: what its codes mean, and everything that is stored besides them.
///
/// Column j of row i has the grid {scales(i, g), zeros(i, g)} with g = group_of_column[j].
template <compute_scalar Scalar>
struct weight_grids {
    int bits = 0;                                       ///< codes lie in 0..2^bits - 1
    magr::zero_point zero_point = zero_point::integer;  ///< the meaning of `zeros`
    storage_type storage = storage_type::native;        ///< the type that can hold all scales, real zero points and offsets
    index_t group_size = 0;                             ///< columns per group; the last group may have fewer
    matrix<Scalar> scales;                              ///< rows x groups, > 0
    matrix<Scalar> zeros;                               ///< rows x groups; 2^(bits-1) without a zero point, 0 with levels
    std::vector<index_t> group_of_column;               ///< cols; j / group_size unless groups were formed in another column order
    std::vector<Scalar> levels;                         ///< if not empty, code c stands for scale * levels[c]
    shared_scales<Scalar> shared;                       ///< the factors of scales and offsets, if these are stored as products

    [[nodiscard]] index_t rows() const noexcept { return scales.rows(); }
    [[nodiscard]] index_t cols() const noexcept { return static_cast<index_t>(group_of_column.size()); }
};

/// Counts the grids at the limits of their storage type.
struct storage_limits {
    index_t largest = 0;    ///< scale, zero point or offset is the largest finite number: larger ones were limited to it
    index_t smallest = 0;   ///< scale is the smallest one used: smaller ones were raised to it
    index_t subnormal = 0;  ///< scale is a subnormal f16 number, which some engines treat as 0
};

inline namespace MAGR_ISA_NAMESPACE {

/// Refuses grids that weights cannot be rounded onto.
/// @par Errors    shape_error if scales, zeros and group_of_column are not those of a rows x cols matrix; value_error if bits are not in
///                2..8, group_size is less than 1, zero_point or storage is not an enumerator, a scale is not > 0 or not finite, a zero
///                point is not finite or (if integer) not a code, levels are not 2 to 2^bits increasing numbers of at most 1e6, or the
///                weight of the lowest or highest code is not finite
template <compute_scalar Scalar>
void require_grids(const char* function, const weight_grids<Scalar>& grids, index_t rows, index_t cols);

/// Counts the grids at the limits of their storage type.
/// @par Cost      O(rows * groups)
template <compute_scalar Scalar>
[[nodiscard]] storage_limits count_storage_limits(const weight_grids<Scalar>& grids);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/grid/weight_grids_impl.hpp>
#endif
