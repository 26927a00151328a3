// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] constexpr bool is_prime(index_t q) noexcept {
    if (q < 2) return false;
    for (index_t d = 2; d <= q / d; ++d)
        if (q % d == 0) return false;
    return true;
}

/// The prime q of Paley's constructions of order n: q + 1 with q = 3 (mod 4), else 2 (q + 1) with q = 1 (mod 4). 0 if there is none.
[[nodiscard]] constexpr index_t paley_prime(index_t n) noexcept {
    if (n < 4 || n % 4 != 0) return 0;
    if (is_prime(n - 1)) return n - 1;
    return n / 2 % 4 == 2 && is_prime(n / 2 - 1) ? n / 2 - 1 : 0;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

namespace magr::linalg {
inline namespace MAGR_ISA_NAMESPACE {

/// Whether `fill_paley` knows a matrix of this order.
[[nodiscard]] constexpr bool has_paley(index_t n) noexcept { return detail::paley_prime(n) != 0; }

/// Fills M with a Hadamard matrix of order n: entries +-1 and M M^T = n I.
///
///   n = q + 1, q = 3 (mod 4):     M = I + S,   S = [0  e^T; -e  Q]
///   n = 2 (q + 1), q = 1 (mod 4): M = S (x) [1 1; 1 -1] + I (x) [1 -1; -1 -1],   S = [0  e^T; e  Q]
///
/// for a prime q, where Q_ij is the quadratic character of i - j modulo q, and e are ones.
///
/// @par Shapes    M: n x n
/// @pre           `has_paley(n)`
/// @par Source    R. Paley, On orthogonal matrices (J. Math. Phys. 12, 1933)
inline void fill_paley(matrix_view<double> M) {
    const index_t n = M.rows(), q = detail::paley_prime(n);
    std::vector<double> character(static_cast<std::size_t>(q), -1.0);
    character[0] = 0;
    for (index_t a = 1; a < q; ++a) character[static_cast<std::size_t>(a * a % q)] = 1;
    const bool first_kind = q + 1 == n;
    const auto conference = [&](index_t i, index_t j) -> double {  // S
        if (i == 0 && j == 0) return 0;
        if (i == 0) return 1;
        if (j == 0) return first_kind ? -1 : 1;
        return character[static_cast<std::size_t>(i >= j ? i - j : i - j + q)];
    };
    for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < n; ++j) {
            if (first_kind) {
                M(i, j) = conference(i, j) + (i == j ? 1 : 0);
            } else if (i / 2 == j / 2) {
                M(i, j) = i % 2 == 0 && j % 2 == 0 ? 1 : -1;
            } else {
                M(i, j) = conference(i / 2, j / 2) * (i % 2 == 1 && j % 2 == 1 ? -1 : 1);
            }
        }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::linalg
