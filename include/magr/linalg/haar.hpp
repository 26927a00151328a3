// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <magr/detail/random_stream.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

constexpr index_t haar_rows = 16;  ///< rows that are processed together

/// to <- to + factor x for so many numbers. The product is rounded first: the compiler must not fuse the two, or bits would depend on the
/// instruction set, so it is told that the products may have changed.
MAGR_ALWAYS_INLINE void add_product(double* to, double factor, const double* x) noexcept {
    double products[static_cast<std::size_t>(haar_rows)];
    for (index_t r = 0; r < haar_rows; ++r) products[r] = factor * x[r];
    asm volatile("" : "+m"(products));
    for (index_t r = 0; r < haar_rows; ++r) to[r] += products[r];
}

/// I + factor v v^T, a reflection, times -side in its first column. v begins with coordinate `first`.
struct haar_reflection {
    std::vector<double> v;
    double factor;
    double side;

    /// Of a uniform first column of R.
    haar_reflection(index_t size, random_stream& random) : v(random.direction(size)) {
        double square = 0;
        for (const double x : v) {
            double product = x * x;
            asm volatile("" : "+m"(product));
            square += product;
        }
        // I - 2 v v^T / (v^T v) takes e_0 to -sign(x_0) x / |x| for v = x + sign(x_0) |x| e_0
        const double length = std::sqrt(square);
        side = std::signbit(v[0]) ? -1 : 1;
        v[0] = side * (std::abs(v[0]) + length);
        factor = -1 / (length * std::abs(v[0]));  // -2 / (v^T v)
    }

    /// y <- y R for the rows of a strip: element r of coordinate j at y[j * haar_rows + r].
    void apply(index_t first, double* y) const noexcept {
        double sums[static_cast<std::size_t>(haar_rows)] = {};
        double* const begin = y + first * haar_rows;
        for (std::size_t j = 0; j < v.size(); ++j) add_product(sums, v[j], begin + static_cast<index_t>(j) * haar_rows);
        for (double& sum : sums) sum *= factor;
        for (std::size_t j = 0; j < v.size(); ++j) add_product(begin + static_cast<index_t>(j) * haar_rows, v[j], sums);
        for (index_t r = 0; r < haar_rows; ++r) begin[r] *= -side;
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// Fills Q with a rotation of uniform law (Haar) among those of n dimensions.
///
///   Q = R_n diag(1, R_{n-1}) .. diag(1, .., 1, R_2) diag(1, .., 1, +-1)        R_k: k x k, of a uniform first column; det Q = 1
///
/// @par Shapes    Q: n x n
/// @par Cost      n^3 multiplications and as many additions; allocates n^2 / 2 numbers
/// @par Numerics  sums of rounded products in a fixed order, square roots and divisions: the same bits on every platform with IEEE
///                arithmetic. ||Q Q^T - I|| is a small multiple of n times 1e-16
/// @par Source    G. W. Stewart, The efficient generation of random orthogonal matrices (SIAM J. Numer. Anal. 17, 1980)
inline void fill_haar(matrix_view<double> Q, detail::random_stream& random) {
    const index_t n = Q.rows();
    std::vector<detail::haar_reflection> reflections;
    double sign = 1;  // of the determinant: each R_k has that of its side
    for (index_t size = n; size >= 2; --size) sign *= reflections.emplace_back(size, random).side;
    constexpr index_t strip = detail::haar_rows;
    std::vector<double> y(static_cast<std::size_t>(n * strip));
    for (index_t i0 = 0; i0 < n; i0 += strip) {
        const index_t rows = (std::min)(strip, n - i0);
        std::fill(y.begin(), y.end(), 0.0);
        for (index_t r = 0; r < rows; ++r) y[static_cast<std::size_t>((i0 + r) * strip + r)] = 1;
        for (std::size_t k = 0; k < reflections.size(); ++k) reflections[k].apply(static_cast<index_t>(k), y.data());
        for (index_t r = 0; r < rows; ++r)
            for (index_t j = 0; j < n; ++j) Q(i0 + r, j) = y[static_cast<std::size_t>(j * strip + r)] * (j == n - 1 ? sign : 1);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
