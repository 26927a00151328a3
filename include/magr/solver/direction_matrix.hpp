// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {

inline namespace MAGR_ISA_NAMESPACE {

/// How many directions of H a metric may hold.
inline constexpr index_t most_directions = 16;

/// One number for each direction in use.
using direction_vector = std::array<double, static_cast<std::size_t>(most_directions)>;

/// A symmetric matrix with one row for each direction in use, on the stack.
class direction_matrix {
public:
    [[nodiscard]] double& operator()(index_t i, index_t j) noexcept { return values_[at(i, j)]; }
    [[nodiscard]] double operator()(index_t i, index_t j) const noexcept { return values_[at(i, j)]; }

    /// Replaces the lower triangle by its Cholesky factor; false if the matrix is not positive definite.
    [[nodiscard]] bool factor(index_t n) noexcept {
        auto& a = *this;
        for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j <= i; ++j) {
                double sum = a(i, j);
                for (index_t k = 0; k < j; ++k) sum -= a(i, k) * a(j, k);
                if (i == j && !(sum > 0)) return false;
                a(i, j) = i == j ? std::sqrt(sum) : sum / a(j, j);
            }
        return true;
    }

    /// b <- the solution. Call `factor` first.
    void solve(index_t n, direction_vector& b) const noexcept {
        const auto& a = *this;
        const auto at = [&](index_t i) -> double& { return b[static_cast<std::size_t>(i)]; };
        for (index_t i = 0; i < n; ++i) {
            for (index_t k = 0; k < i; ++k) at(i) -= a(i, k) * at(k);
            at(i) /= a(i, i);
        }
        for (index_t i = n - 1; i >= 0; --i) {
            for (index_t k = i + 1; k < n; ++k) at(i) -= a(k, i) * at(k);
            at(i) /= a(i, i);
        }
    }

private:
    [[nodiscard]] static constexpr std::size_t at(index_t i, index_t j) noexcept {
        return static_cast<std::size_t>(i * most_directions + j);
    }

    std::array<double, static_cast<std::size_t>(most_directions* most_directions)> values_{};
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
