// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] inline std::uint16_t half_bits_of(float value) { return std::bit_cast<std::uint16_t>(Eigen::half(value)); }
[[nodiscard]] inline float half_value_of(std::uint16_t bits) { return static_cast<float>(std::bit_cast<Eigen::half>(bits)); }

/// Refuses a number that its storage type cannot hold. Rounding it here would silently change the weights.
template <compute_scalar Scalar>
void require_stored_exactly(const char* function, const char* what, index_t row, index_t group, Scalar value, storage_type type) {
    if (is_finite(value) && round_to_storage<Scalar>(static_cast<double>(value), type) == value) return;
    raise<value_error>(concat(function, ": ", what, " (row ", row, ", group ", group, ") must be a number of type ", to_string(type),
                              ", it is ", value, "; set grid_options::storage to storage_type::", to_string(type)));
}

template <compute_scalar Scalar>
void require_stored_exactly(const char* function, const char* what, const matrix<Scalar>& values, storage_type type) {
    for (index_t i = 0; i < values.rows(); ++i)
        for (index_t g = 0; g < values.cols(); ++g) require_stored_exactly(function, what, i, g, values(i, g), type);
}

/// The f16 bits of numbers that have been checked.
template <compute_scalar Scalar>
[[nodiscard]] matrix<std::uint16_t> half_bits(const matrix<Scalar>& values) {
    matrix<std::uint16_t> bits(values.rows(), values.cols());
    for (index_t i = 0; i < values.rows(); ++i)
        for (index_t g = 0; g < values.cols(); ++g) bits(i, g) = half_bits_of(static_cast<float>(values(i, g)));
    return bits;
}

[[nodiscard]] inline matrix<float> half_values(const matrix<std::uint16_t>& bits) {
    matrix<float> values(bits.rows(), bits.cols());
    for (index_t i = 0; i < bits.rows(); ++i)
        for (index_t g = 0; g < bits.cols(); ++g) values(i, g) = half_value_of(bits(i, g));
    return values;
}

/// The type that a file has for numbers of this type, if its format takes any.
[[nodiscard]] constexpr storage_type type_in_file(storage_type storage) noexcept {
    return storage == storage_type::native ? storage_type::f32 : storage;
}

[[nodiscard]] constexpr index_t bytes_of(storage_type type) noexcept { return type == storage_type::f32 ? 4 : 2; }

/// The bytes of numbers that have been checked.
template <compute_scalar Scalar>
[[nodiscard]] stored_matrix store_matrix(const matrix<Scalar>& values, storage_type type) {
    stored_matrix out{type, values.rows(), values.cols(), {}};
    out.bytes.reserve(static_cast<std::size_t>(values.rows() * values.cols() * bytes_of(type)));
    for (index_t i = 0; i < values.rows(); ++i)
        for (index_t g = 0; g < values.cols(); ++g) {
            const auto value = static_cast<float>(values(i, g));
            std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
            if (type == storage_type::f16) bits = half_bits_of(value);
            if (type == storage_type::bf16) bits >>= 16;
            for (index_t b = 0; b < bytes_of(type); ++b) out.bytes.push_back(static_cast<std::uint8_t>(bits >> 8 * b));
        }
    return out;
}

/// The numbers of a stored matrix, which must have this shape.
/// @par Errors    shape_error, option_error
[[nodiscard]] inline matrix<float> load_matrix(const char* function, const char* argument, const stored_matrix& stored, index_t rows,
                                               index_t cols) {
    require_option(stored.type != storage_type::native && is_enumerator(stored.type), function, "type of a stored_matrix",
                   "f32, f16 or bf16", to_string(stored.type));
    const index_t width = bytes_of(stored.type);
    if (stored.rows != rows || stored.cols != cols || static_cast<index_t>(stored.bytes.size()) != rows * cols * width)
        raise<shape_error>(concat(function, ": ", argument, " must be ", rows, " x ", cols, " and have ", rows * cols * width,
                                  " bytes, it is ", stored.rows, " x ", stored.cols, " and has ", stored.bytes.size()));
    matrix<float> values(rows, cols);
    const std::uint8_t* at = stored.bytes.data();
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < cols; ++g, at += width) {
            std::uint32_t bits = 0;
            for (index_t b = 0; b < width; ++b) bits |= static_cast<std::uint32_t>(at[b]) << 8 * b;
            if (stored.type == storage_type::f16)
                values(i, g) = half_value_of(static_cast<std::uint16_t>(bits));
            else
                values(i, g) = std::bit_cast<float>(stored.type == storage_type::bf16 ? bits << 16 : bits);
        }
    return values;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
