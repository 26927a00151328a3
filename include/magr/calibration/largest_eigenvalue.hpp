// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/linalg/vectors.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A power of two s that brings H near 1: the largest diagonal entry of s H is in [1/2, 1), or as near to that as a normal number in the
/// arithmetic type of H can bring it. Eigenvalues of H itself, and their reciprocals, may overflow a double.
[[nodiscard]] inline double unit_scale(const matrix_ref& H) {
    const int limit = H.type().is_double ? 1000 : 126;
    double largest = 0;
    for (index_t i = 0; i < H.rows(); ++i) largest = (std::max)(largest, H(i, i));
    int exponent = 0;
    static_cast<void>(std::frexp(largest, &exponent));
    return std::ldexp(1.0, std::clamp(-exponent, -limit, limit));
}

/// The next state of a linear congruential generator. Its high bits are scattered well enough for start vectors of Krylov methods.
[[nodiscard]] constexpr std::uint64_t next_scattered(std::uint64_t state) noexcept {
    return state * 6364136223846793005u + 1442695040888963407u;
}

/// Largest eigenvalue of scale H, for a symmetric positive semi-definite H, by the Lanczos method with full reorthogonalisation.
///
/// @param scale   `unit_scale(H)`, or 1 if H is near 1 already: Eigen's tridiagonal solver does not scale
/// @pre           H symmetric and finite, with a positive diagonal entry
/// @return        theta <= lambda_max with an error estimate of at most 1e-10 theta, or after 200 steps the best theta found
/// @par Cost      n^2 multiply-adds per step, commonly 10-40 steps; allocates min(n, 200) * n doubles
/// @par Numerics  in double, whatever type H is stored in; the start vector depends on H, but not on its power of two
/// @par Source    Golub and Van Loan, Matrix Computations, section 10.1
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] double largest_eigenvalue(matrix_ref H, double scale = 1) {
    const index_t n = H.rows();
    if (H.row_stride() > H.col_stride()) H = H.transposed();
    const index_t limit = (std::min<index_t>)(n, 200);
    const aligned_buffer<double> basis(n * limit), next(n), work(n);
    std::vector<double> diagonal, off, shares(static_cast<std::size_t>(limit));
    const auto column = [&](index_t k) { return basis.data() + k * n; };
    // The start vector has scattered signs and sizes, because a regular one could be orthogonal to the wanted eigenvector. It depends on
    // the digits of H, so that no direction is missed for all matrices alike.
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    const auto stir = [&](double value) {
        int exponent = 0;  // ignored, because a power of two changes it
        state = (state ^ static_cast<std::uint64_t>(std::ldexp(std::abs(std::frexp(value, &exponent)), 62))) * 6364136223846793005u;
        state ^= state >> 32;
    };
    for (index_t i = 0; i < n; ++i) {
        stir(H(i, i));
        stir(H(i, 0));
    }
    for (index_t i = 0; i < n; ++i) {
        state = next_scattered(state);
        next.data()[i] = static_cast<double>(state >> 11) * 0x1p-52 - 1.0;
    }
    const auto take_next = [&](index_t k, double length) {
        for (index_t i = 0; i < n; ++i) column(k)[i] = next.data()[i] / length;
    };
    take_next(0, linalg::norm(next.data(), n));
    double theta = 0;
    for (index_t k = 0; k < limit; ++k) {
        for (index_t i = 0; i < n; ++i) work.data()[i] = scale * column(k)[i];
        for (index_t i = 0; i < n; ++i) next.data()[i] = H.column_times(i, work.data());
        diagonal.push_back(linalg::dot(next.data(), column(k), n));
        for (int pass = 0; pass < 2; ++pass) {
            linalg::multiply_transposed(basis.data(), n, k + 1, next.data(), shares.data());
            linalg::multiply(basis.data(), n, k + 1, shares.data(), work.data());
            for (index_t i = 0; i < n; ++i) next.data()[i] -= work.data()[i];
        }
        off.push_back(linalg::norm(next.data(), n));
        if ((k + 1) % 4 == 0 || k + 1 == limit || off.back() <= 1e-14 * *std::max_element(diagonal.begin(), diagonal.end())) {
            const auto ritz = linalg::tridiagonal_eigenvectors(diagonal.data(), off.data(), k + 1);
            theta = ritz.eigenvalues()(k);
            if (off.back() * std::abs(ritz.eigenvectors()(k, k)) <= 1e-10 * theta) break;
        }
        if (k + 1 < limit) take_next(k + 1, off.back());
    }
    return theta;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
