// SPDX-License-Identifier: MIT
#include <magr/kernels/multiply_add.hpp>

#include <Eigen/Core>
#include <cmath>
#include <random>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;
using magr::kernels::multiply_add;
using magr::kernels::product_blocks;
using magr::kernels::register_tile;
using magr::kernels::whole;
using magr::simd::default_arch;
using magr::simd::scalar_arch;

namespace {

/// A matrix of random numbers inside a larger one, by rows or by columns, or with gaps both ways.
template <class T>
struct operand {
    std::vector<T> data;
    matrix_view<T> view;

    operand(index_t rows, index_t cols, int arrangement, std::mt19937& random)
        : data(static_cast<std::size_t>(2 * (rows + 3) * (cols + 3))) {
        std::uniform_real_distribution<float> uniform(-1, 1);
        for (T& value : data) value = static_cast<T>(uniform(random));
        const index_t row_stride = arrangement == 0 ? cols + 3 : arrangement == 1 ? 1 : 2 * (cols + 3);
        const index_t col_stride = arrangement == 0 ? 1 : arrangement == 1 ? rows + 3 : 2;
        view = matrix_view<T>::with_strides(data.data() + 1, rows, cols, row_stride, col_stride);
    }
    [[nodiscard]] matrix_view<const T> read() const { return view; }
};

/// Compares C + factor A B with sums in long double. Elements outside of the result, and everything around C, must keep their bits.
template <class T, class A, class B, class Arch>
void check(index_t m, index_t n, index_t depth, int arrangement, index_t diagonal, double factor, Arch arch) {
    std::mt19937 random(static_cast<unsigned>(m * 1000003 + n * 1009 + depth * 13 + arrangement));
    const operand<A> a(m, depth, arrangement % 3, random);
    const operand<B> b(depth, n, arrangement / 3, random);
    operand<T> c(m, n, arrangement % 2, random);
    std::vector<T> expected = c.data;
    const auto at = [&](index_t i, index_t j) -> T& { return expected[static_cast<std::size_t>(&c.view(i, j) - c.data.data())]; };
    double worst = 0;
    std::vector<T> scratch(static_cast<std::size_t>(product_blocks<T, Arch>::scratch));
    multiply_add(c.view, factor, a.read(), b.read(), scratch.data(), diagonal, arch);
    for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j) {
            if (diagonal != whole && j > i + diagonal) continue;
            long double sum = 0, size = 0;
            for (index_t k = 0; k < depth; ++k) {
                const long double term = static_cast<long double>(a.view(i, k)) * static_cast<long double>(b.view(k, j));
                sum += term;
                size += std::abs(term);
            }
            sum = at(i, j) + static_cast<long double>(factor) * sum;
            size = std::abs(at(i, j)) + std::abs(static_cast<long double>(factor)) * size;
            worst = std::max(worst, static_cast<double>(std::abs(c.view(i, j) - sum) / (size + 1e-30L)));
            at(i, j) = c.view(i, j);
        }
    INFO("m " << m << ", n " << n << ", depth " << depth << ", arrangement " << arrangement << ", diagonal " << diagonal);
    // each term is rounded once for the factor, and enters at most depth + 2 additions
    CHECK(worst <= static_cast<double>(depth + 4) * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2);
    CHECK(c.data == expected);
}

}  // namespace

TEMPLATE_TEST_CASE("multiply_add: any shapes, strides and triangles", "[kernels][product][oracle]", float, double) {
    for (const index_t m : {1, 12, 13, 40})
        for (const index_t n : {1, 16, 33, 70})
            for (const index_t depth : {0, 1, 30})
                for (int arrangement = 0; arrangement < 9; ++arrangement)
                    for (const index_t diagonal : {whole, index_t{0}, index_t{-3}, index_t{9}}) {
                        check<TestType, TestType, TestType>(m, n, depth, arrangement, diagonal, 1.0, default_arch{});
                        check<TestType, TestType, TestType>(m, n, depth, arrangement, diagonal, -0.5, scalar_arch{});
                    }
}

TEMPLATE_TEST_CASE("multiply_add: more than one block each way", "[kernels][product][oracle]", float, double) {
    using blocks = product_blocks<TestType, default_arch>;
    check<TestType, TestType, TestType>(2 * blocks::rows + 5, 30, blocks::depth + 1, 0, whole, 1.0, default_arch{});
    check<TestType, TestType, TestType>(17, blocks::cols + 40, 2 * blocks::depth + 3, 4, whole, -1.0, default_arch{});
    check<TestType, TestType, TestType>(2 * blocks::rows + 5, 2 * blocks::rows + 5, 20, 3, 0, 1.0, default_arch{});
}

TEST_CASE("multiply_add: operands of other storage types", "[kernels][product][oracle]") {
    check<float, Eigen::bfloat16, Eigen::bfloat16>(30, 40, 50, 1, whole, 1.0, default_arch{});
    check<float, Eigen::half, float>(30, 40, 50, 3, 0, 1.0, default_arch{});
    check<double, float, Eigen::half>(30, 40, 50, 5, whole, 1.0, default_arch{});
}

TEMPLATE_TEST_CASE("multiply_add: an element does not depend on what is computed with it", "[kernels][product][determinism]", float,
                   double) {
    using blocks = product_blocks<TestType, default_arch>;
    std::mt19937 random(5);
    const index_t m = blocks::rows + 20, n = 90, depth = blocks::depth + 50;
    const operand<TestType> a(m, depth, 0, random), b(depth, n, 0, random);
    std::vector<TestType> scratch(static_cast<std::size_t>(blocks::scratch));
    std::vector<TestType> all(static_cast<std::size_t>(m * n)), part(1);
    multiply_add(matrix_view<TestType>(all.data(), m, n), 1.0, a.read(), b.read(), scratch.data());
    for (const index_t i : {index_t{0}, index_t{11}, index_t{12}, blocks::rows, m - 1})
        for (const index_t j : {index_t{0}, index_t{31}, index_t{32}, n - 1}) {
            part[0] = 0;
            multiply_add(matrix_view<TestType>(part.data(), 1, 1), 1.0, a.read().block(i, 0, 1, depth), b.read().block(0, j, depth, 1),
                         scratch.data());
            CHECK(part[0] == all[static_cast<std::size_t>(i * n + j)]);
        }
}

static_assert(noexcept(multiply_add(matrix_view<float>{}, 1.0, matrix_view<const float>{}, matrix_view<const float>{},
                                    static_cast<float*>(nullptr))));
