// SPDX-License-Identifier: MIT
#include <magr/kernels/packed_product.hpp>

#include <algorithm>
#include <random>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;
namespace kernels = magr::kernels;

namespace {

template <class T, class Arch>
void check(index_t rows, index_t depth, index_t n, Arch arch) {
    using tile = kernels::register_tile<T, Arch>;
    std::mt19937 random(static_cast<unsigned>(rows + 100 * depth + n));
    std::uniform_real_distribution<T> uniform(-1, 1);
    const index_t cols = kernels::round_up(n, tile::cols), padded = kernels::round_up(rows, tile::rows), stride = cols + 3;
    std::vector<T> a(static_cast<std::size_t>(rows * depth)), b(static_cast<std::size_t>(depth * cols)),
        left(static_cast<std::size_t>(padded * depth)), c(static_cast<std::size_t>(padded * stride), T(7)),
        expected(static_cast<std::size_t>(rows * n)), buffer(static_cast<std::size_t>(kernels::product_blocks<T, Arch>::depth * cols)),
        scratch(static_cast<std::size_t>(kernels::product_blocks<T, Arch>::scratch));
    for (T& value : a) value = uniform(random);
    for (index_t k = 0; k < depth; ++k)
        for (index_t j = 0; j < n; ++j) b[static_cast<std::size_t>(k * cols + j)] = uniform(random);
    kernels::multiply_add(matrix_view<T>(expected.data(), rows, n), 1.0, matrix_view<const T>(a.data(), rows, depth),
                          matrix_view<const T>(b.data(), depth, n, cols), scratch.data(), kernels::whole, arch);

    for (index_t r = 0; r < rows; r += tile::rows)
        kernels::pack_left(matrix_view<const T>(a.data() + r * depth, std::min(tile::rows, rows - r), depth), padded, r, left.data(), arch);
    kernels::pack_in_place(b.data(), depth, cols, buffer.data(), arch);
    kernels::multiply_packed(padded, depth, cols, left.data(), b.data(), c.data(), stride, arch);
    bool same = true, clean = true;
    for (index_t i = 0; i < padded; ++i)
        for (index_t j = 0; j < stride; ++j) {
            const T value = c[static_cast<std::size_t>(i * stride + j)];
            if (j >= cols)
                clean = clean && value == T(7);
            else
                same = same && value == (i < rows && j < n ? expected[static_cast<std::size_t>(i * n + j)] : T(0));
        }
    CAPTURE(rows, depth, n);
    CHECK(same);
    CHECK(clean);
}

}  // namespace

TEMPLATE_TEST_CASE("multiply_packed: the same bits as multiply_add", "[kernels][product]", float, double) {
    const index_t block = kernels::product_blocks<TestType, magr::simd::default_arch>::depth;
    for (const index_t rows : {1, 11, 12, 13, 30})
        for (const index_t n : {1, 16, 33, 64}) {
            for (const index_t depth : {index_t{1}, index_t{5}, block, block + 1})
                check<TestType>(rows, depth, n, magr::simd::default_arch{});
            check<TestType>(rows, 20, n, magr::simd::scalar_arch{});
        }
}

TEST_CASE("round_up: the next multiple", "[kernels]") {
    CHECK(kernels::round_up(0, 4) == 0);
    CHECK(kernels::round_up(1, 4) == 4);
    CHECK(kernels::round_up(4, 4) == 4);
    CHECK(kernels::round_up(5, 4) == 8);
}
