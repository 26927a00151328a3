// SPDX-License-Identifier: MIT
#include <magr/linalg/triangular_solve.hpp>

#include <Eigen/Core>
#include <limits>
#include <random>
#include <vector>

#include <magr/matrix/eigen.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;

TEMPLATE_TEST_CASE("triangular_solve: solves with L and its transpose, without a look above the diagonal", "[linalg][triangular_solve]",
                   float, double) {
    using matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    std::mt19937 random(3);
    std::uniform_real_distribution<TestType> uniform(-1, 1);
    std::vector<TestType> scratch(static_cast<std::size_t>(magr::kernels::product_blocks<TestType, magr::simd::default_arch>::scratch));
    for (const index_t n : {1, 2, 47, 48, 49, 150})
        for (const index_t m : {1, 5, 32}) {
            CAPTURE(n, m);
            matrix L(n, n), X(n, m);
            for (index_t i = 0; i < n; ++i) {
                for (index_t j = 0; j < n; ++j) L(i, j) = j > i ? TestType(1e30) : uniform(random) / static_cast<TestType>(n);
                L(i, i) = 2 + uniform(random);
                for (index_t j = 0; j < m; ++j) X(i, j) = uniform(random);
            }
            matrix B = matrix::Zero(n, m), C = matrix::Zero(n, m);  // L X and L^T X
            for (index_t i = 0; i < n; ++i)
                for (index_t k = 0; k <= i; ++k) {
                    B.row(i) += L(i, k) * X.row(k);
                    C.row(k) += L(i, k) * X.row(i);
                }
            const matrix_view<const TestType> lower = magr::as_const_view(L);
            magr::linalg::solve_lower(lower, magr::as_mutable_view(B), scratch.data());
            magr::linalg::solve_lower_transposed(lower, magr::as_mutable_view(C), scratch.data());
            const TestType tolerance = 100 * std::numeric_limits<TestType>::epsilon();
            CHECK((B - X).cwiseAbs().maxCoeff() < tolerance);
            CHECK((C - X).cwiseAbs().maxCoeff() < tolerance);
        }
}
