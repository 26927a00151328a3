// SPDX-License-Identifier: MIT
#include <magr/kernels/panels.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;
namespace kernels = magr::kernels;

namespace {

/// depth x cols numbers by rows.
template <class T>
std::vector<T> random_rows(index_t depth, index_t cols) {
    std::mt19937 random(static_cast<unsigned>(1000 * depth + cols));
    std::uniform_int_distribution<int> small(-8, 8);  // keeps sums exact
    std::vector<T> out(static_cast<std::size_t>(depth * cols));
    for (T& value : out) value = static_cast<T>(small(random));
    return out;
}

/// Panels of X as a right operand, `pitch` elements per column.
template <index_t Width, class T>
std::vector<T> pack(matrix_view<const T> X, index_t pitch) {
    std::vector<T> out(static_cast<std::size_t>(kernels::round_up(X.cols(), Width) * pitch));
    for (index_t j = 0; j < X.cols(); j += Width)
        kernels::pack_panel<Width>(X.block(0, j, X.rows(), std::min(Width, X.cols() - j)).transposed(), 1.0, out.data() + j * pitch);
    return out;
}

/// Checks that every element is where the definition says, with the bits of one multiplication, and that nothing is written after the
/// panel.
template <index_t Width, class T, class U>
void check_packing(index_t rows, index_t depth, index_t row_stride, index_t col_stride) {
    const double factor = -0.3;
    std::vector<U> data(static_cast<std::size_t>(rows * row_stride + depth * col_stride));
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<U>(std::sin(static_cast<double>(i)));
    const auto V = matrix_view<const U>::with_strides(data.data(), rows, depth, row_stride, col_stride);
    std::vector<T> out(static_cast<std::size_t>(Width * depth + 1), T(7)), expected = out;
    for (index_t r = 0; r < Width; ++r)
        for (index_t k = 0; k < depth; ++k) {
            T& at = expected[static_cast<std::size_t>(k * Width + r)];
            if (r >= rows)
                at = 0;
            else if constexpr (std::is_same_v<U, double>)
                at = static_cast<T>(factor * V(r, k));
            else
                at = static_cast<T>(factor) * static_cast<T>(V(r, k));
        }
    kernels::pack_panel<Width>(V, factor, out.data());
    CAPTURE(Width, rows, depth, row_stride, col_stride);
    CHECK(out == expected);
}

template <index_t Width, class T, class U>
void check_packing() {
    for (const index_t rows : {index_t{1}, Width - 1, Width})
        for (index_t depth = 1; depth <= 9; ++depth) {
            check_packing<Width, T, U>(rows, depth, depth, 1);
            check_packing<Width, T, U>(rows, depth, depth + 3, 1);
            check_packing<Width, T, U>(rows, depth, 1, rows + 2);
            check_packing<Width, T, U>(rows, depth, 2 * depth, 2);
        }
}

template <class T, class Arch>
void check_repacking(index_t columns, Arch arch) {
    using tile = kernels::register_tile<T, Arch>;
    const index_t depth = 7, pitch = 9;
    const std::vector<T> data = random_rows<T>(depth, columns);
    const matrix_view<const T> X(data.data(), depth, columns);
    const std::vector<T> right = pack<tile::cols>(X, pitch), expected = pack<tile::rows>(X, pitch);
    std::vector<T> left(expected.size());
    kernels::repack_left(right.data(), pitch, columns, depth, T(-2), left.data(), arch);
    CAPTURE(columns);
    CHECK(std::equal(left.begin(), left.end(), expected.begin(), [](T a, T b) { return a == -2 * b; }));
}

/// Computes C + X^T Y in a C with contiguous rows or columns, amid numbers that must not change.
template <class T, class Arch>
void check_product(index_t m, index_t n, index_t diagonal, bool by_rows, Arch arch) {
    using tile = kernels::register_tile<T, Arch>;
    const index_t depth = 5, pitch = 6;
    const std::vector<T> x = random_rows<T>(depth, m), y = random_rows<T>(depth, n);
    const std::vector<T> left = pack<tile::rows>(matrix_view<const T>(x.data(), depth, m), pitch);
    const std::vector<T> right = pack<tile::cols>(matrix_view<const T>(y.data(), depth, n), pitch);
    std::vector<T> c = random_rows<T>(m + 2, n + 2), expected = c;
    const auto view = [&](std::vector<T>& of) {
        return matrix_view<T>::with_strides(of.data() + 1, m, n, by_rows ? n + 2 : 1, by_rows ? 1 : m + 2);
    };
    for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j)
            for (index_t k = 0; k < depth && (diagonal == kernels::whole || j <= i + diagonal); ++k)
                view(expected)(i, j) += x[static_cast<std::size_t>(k * m + i)] * y[static_cast<std::size_t>(k * n + j)];
    kernels::multiply_panels(view(c), depth, left.data(), right.data(), pitch, diagonal, arch);
    CAPTURE(m, n, diagonal, by_rows);
    CHECK(c == expected);
}

}  // namespace

TEMPLATE_TEST_CASE("pack_panel: any strides, rows and types", "[kernels][product][oracle]", float, double) {
    check_packing<2, TestType, TestType>();
    check_packing<6, TestType, TestType>();
    check_packing<12, TestType, TestType>();
    check_packing<32, TestType, TestType>();
    check_packing<12, TestType, double>();
    check_packing<6, TestType, float>();
    check_packing<12, TestType, Eigen::bfloat16>();
}

TEMPLATE_TEST_CASE("repack_left: the panels that packing the columns themselves gives", "[kernels][product]", float, double) {
    for (const index_t columns :
         {index_t{1}, index_t{11}, index_t{12}, index_t{13}, index_t{31}, index_t{33}, kernels::block_side - 1, kernels::block_side}) {
        check_repacking<TestType>(columns, magr::simd::default_arch{});
        check_repacking<TestType>(columns, magr::simd::scalar_arch{});
    }
}

TEMPLATE_TEST_CASE("multiply_panels: what is wanted and nothing else", "[kernels][product][oracle]", float, double) {
    for (const index_t m : {1, 6, 13, 40})
        for (const index_t n : {1, 8, 33, 70})
            for (const index_t diagonal : {kernels::whole, index_t{0}, index_t{-3}, index_t{9}, index_t{40}, index_t{-40}})
                for (const bool by_rows : {true, false}) {
                    check_product<TestType>(m, n, diagonal, by_rows, magr::simd::default_arch{});
                    check_product<TestType>(m, n, diagonal, by_rows, magr::simd::scalar_arch{});
                }
}
