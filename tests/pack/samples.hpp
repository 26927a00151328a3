// SPDX-License-Identifier: MIT
// Random quantized matrices, and helpers to read packed bytes by a format's definition.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <magr/grid/storage.hpp>
#include <magr/quantize.hpp>

namespace samples {

using magr::index_t;

/// A positive number of the storage type, anywhere from 2^-14 to 2.
template <class Scalar>
Scalar random_number(magr::storage_type storage, std::mt19937& random) {
    const auto exponent = static_cast<int>(random() % 15) - 14;
    const float fraction = 1 + static_cast<float>(random() % (1 << 23)) * 0x1p-23f;
    return magr::round_to_storage<Scalar>(std::ldexp(static_cast<double>(fraction), exponent), storage);
}

/// Random codes on random grids of the kind that the options describe. Zero points that are codes are `lowest_zero` or more.
template <class Scalar = float>
magr::quantized_matrix<Scalar> quantized(index_t rows, index_t cols, const magr::grid_options& options, std::mt19937& random,
                                         int lowest_zero = 0) {
    magr::quantized_matrix<Scalar> q;
    q.bits = options.bits;
    q.zero_point = options.zero_point;
    q.storage = options.storage;
    q.group_size = std::min(options.group_size.value_or(cols), cols);
    const index_t groups = (cols + q.group_size - 1) / q.group_size;
    q.scales = magr::matrix<Scalar>(rows, groups);
    q.zeros = magr::matrix<Scalar>(rows, groups);
    const unsigned codes = 1U << q.bits;
    for (index_t i = 0; i < rows; ++i)
        for (index_t g = 0; g < groups; ++g) {
            q.scales(i, g) = random_number<Scalar>(q.storage, random);
            switch (q.zero_point) {
                case magr::zero_point::none: q.zeros(i, g) = static_cast<Scalar>(codes / 2); break;
                case magr::zero_point::middle: q.zeros(i, g) = static_cast<Scalar>(codes / 2 - random() % 2); break;
                case magr::zero_point::integer:
                    q.zeros(i, g) =
                        static_cast<Scalar>(static_cast<unsigned>(lowest_zero) + random() % (codes - static_cast<unsigned>(lowest_zero)));
                    break;
                default: q.zeros(i, g) = random_number<Scalar>(q.storage, random) * (random() % 2 == 0 ? Scalar(1) : Scalar(-1));
            }
        }
    for (index_t j = 0; j < cols; ++j) q.group_of_column.push_back(j / q.group_size);
    q.codes = magr::matrix<std::uint8_t>(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) q.codes(i, j) = static_cast<std::uint8_t>(random() % codes);
    return q;
}

/// Changes the groups to those of a matrix whose columns were quantized in another order.
template <class Scalar>
void shuffle_groups(magr::quantized_matrix<Scalar>& q, std::mt19937& random) {
    std::shuffle(q.group_of_column.begin(), q.group_of_column.end(), random);
}

template <class T>
magr::matrix<float> to_float(const magr::matrix<T>& m) {
    magr::matrix<float> out(m.rows(), m.cols());
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) out(i, j) = static_cast<float>(m(i, j));
    return out;
}

/// Whether two matrices hold equal numbers, whatever their types.
template <class A, class B>
bool equal(const magr::matrix<A>& a, const magr::matrix<B>& b) {
    if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
    for (index_t i = 0; i < a.rows(); ++i)
        for (index_t j = 0; j < a.cols(); ++j)
            if (!(static_cast<double>(a(i, j)) == static_cast<double>(b(i, j)))) return false;
    return true;
}

/// Whether everything that matters was kept: codes, scales, zeros and the groups of columns.
template <class A, class B>
bool same(const magr::quantized_matrix<A>& a, const magr::quantized_matrix<B>& b) {
    return a.bits == b.bits && a.codes == b.codes && equal(a.scales, b.scales) && equal(a.zeros, b.zeros) &&
           a.group_of_column == b.group_of_column && a.group_size == b.group_size;
}

}  // namespace samples

/// Reads numbers by the definition of their types.
namespace textbook {

/// IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 bits of fraction.
inline double half(unsigned bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const int fraction = static_cast<int>(bits & 1023);
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return (bits >> 15) != 0 ? -magnitude : magnitude;
}

inline double half_at(const std::uint8_t* bytes) { return half(static_cast<unsigned>(bytes[0] + 256 * bytes[1])); }

/// Number `index` of an array of f32, f16 or bf16 (the upper half of an f32) in little-endian bytes.
inline double number_at(const std::vector<std::uint8_t>& bytes, magr::storage_type type, std::size_t index) {
    if (type == magr::storage_type::f16) return half_at(bytes.data() + 2 * index);
    const std::size_t width = type == magr::storage_type::f32 ? 4 : 2;
    std::uint32_t bits = 0;
    for (std::size_t b = 0; b < width; ++b) bits |= std::uint32_t{bytes[width * index + b]} << 8 * (b + 4 - width);
    return static_cast<double>(std::bit_cast<float>(bits));
}

/// Code k of a stream of `bits`-bit codes without gaps in words of 8 * sizeof(Word) bits; word(n) is word n of the stream.
template <class Words>
unsigned code_in_stream(Words&& word, int bits, std::size_t k) {
    unsigned code = 0;
    for (std::size_t b = 0; b < static_cast<std::size_t>(bits); ++b) {
        const std::size_t position = k * static_cast<std::size_t>(bits) + b;
        auto holds = word(position);  // {word, bit in it}
        code |= static_cast<unsigned>(holds.first >> holds.second & 1U) << b;
    }
    return code;
}

}  // namespace textbook
