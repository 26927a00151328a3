// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include <magr/fit/dint.hpp>
#include <magr/grid/grid_family.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {

/// A weight matrix on dINT grids, as a file stores it. Codes are packed like those of integers, whose readers would take the last two codes
/// for integers as well: a file must say which format it is.
struct dint_tensors {
    static constexpr const char* format_name = "dint";

    std::string format = format_name;
    int bits = 0;
    index_t rows = 0;
    index_t cols = 0;
    index_t group_size = 0;
    matrix<std::uint8_t> codes;        ///< rows x ceil(cols bits / 8), packed as by `pack_bits`
    stored_matrix scales;              ///< rows x groups
    matrix<std::uint8_t> zero_points;  ///< rows x ceil(groups bits / 8), packed as by `pack_bits`

    friend bool operator==(const dint_tensors&, const dint_tensors&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Packs a matrix on dINT grids. Scales are stored in the type of `dint_options::storage`, f32 if it was native.
///
/// @par Cost      O(rows * cols)
/// @par Errors    those of `dint_grids::require`; shape_error; value_error if a code is not below 2^bits, or a scale is not a number of
///                that type
template <compute_scalar Scalar>
[[nodiscard]] dint_tensors pack_dint(const coded_matrix<dint_grids<Scalar>>& q);

/// The inverse of `pack_dint`.
///
/// @par Errors    option_error if it is another format, or for invalid bits or group_size; shape_error; value_error for an invalid scale or
///                zero point
[[nodiscard]] MAGR_CORE coded_matrix<dint_grids<float>> unpack_dint(const dint_tensors& packed);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/pack/dint_impl.hpp>
#endif
