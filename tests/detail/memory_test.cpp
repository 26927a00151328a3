// SPDX-License-Identifier: MIT
#include <magr/detail/memory.hpp>

#include <Eigen/Core>
#include <cstddef>
#include <limits>
#include <set>
#include <span>
#include <vector>

#include <magr/compensate_drift.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/preprocess.hpp>
#include <magr/prox.hpp>
#include <magr/quantize.hpp>
#include <magr/transform/column_scaling.hpp>
#include <magr/transform/fuse_scaling.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_layout;
using magr::matrix_view;
using magr::detail::are_distinct;
using magr::detail::matrix_ref;
using magr::detail::share_memory;

namespace {

constexpr index_t largest = std::numeric_limits<index_t>::max();
constexpr index_t smallest = std::numeric_limits<index_t>::min();

/// Offsets of all elements.
std::multiset<index_t> offsets_of(index_t rows, index_t cols, index_t down, index_t across) {
    std::multiset<index_t> offsets;
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) offsets.insert(i * down + j * across);
    return offsets;
}

magr::matrix<float> identity(index_t n) {
    magr::matrix<float> H(n, n);
    for (index_t i = 0; i < n; ++i) H(i, i) = 1;
    return H;
}

}  // namespace

TEST_CASE("are_distinct: says whether two elements have the same offset", "[detail][memory][property]") {
    float value = 0;
    for (index_t rows = 1; rows <= 4; ++rows)
        for (index_t cols = 1; cols <= 4; ++cols)
            for (index_t down = -7; down <= 7; ++down)
                for (index_t across = -7; across <= 7; ++across) {
                    const auto offsets = offsets_of(rows, cols, down, across);
                    const bool distinct = std::set<index_t>(offsets.begin(), offsets.end()).size() == offsets.size();
                    INFO(rows << " x " << cols << ", strides " << down << " and " << across);
                    CHECK(are_distinct(matrix_view<float>::with_strides(&value, rows, cols, down, across)) == distinct);
                }
}

TEST_CASE("share_memory: blocks of one matrix do so only if they overlap", "[detail][memory]") {
    std::vector<float> memory(100);
    const auto order = GENERATE(matrix_layout::row_major, matrix_layout::col_major);
    const matrix_view<float> m(memory.data(), 10, 10, 10, order);
    CHECK(share_memory(m, m));
    CHECK(share_memory(m.block(0, 0, 5, 5), m.block(4, 4, 5, 5)));
    CHECK_FALSE(share_memory(m.block(0, 0, 5, 5), m.block(5, 5, 5, 5)));
    CHECK_FALSE(share_memory(m.block(0, 0, 10, 5), m.block(0, 5, 10, 5)));
    CHECK_FALSE(share_memory(m.block(0, 0, 5, 10), m.block(5, 0, 5, 10)));
    CHECK(share_memory(m.block(0, 0, 10, 6), m.block(9, 5, 1, 5)));
    const auto flipped = matrix_view<float>::with_strides(&m(9, 9), 5, 5, -m.row_stride(), -m.col_stride());
    CHECK(share_memory(flipped, m.block(5, 5, 1, 1)));
    CHECK_FALSE(share_memory(flipped, m.block(0, 0, 10, 5)));
    CHECK_FALSE(share_memory(m, m.block(3, 3, 0, 5)));
}

TEST_CASE("share_memory: sees it for elements of different size", "[detail][memory]") {
    std::vector<double> memory(8);
    const matrix_view<const double> doubles(memory.data(), 2, 4);
    auto* const floats = reinterpret_cast<float*>(memory.data());
    CHECK(share_memory(doubles, matrix_view<float>(floats + 15, 1, 1)));
    CHECK_FALSE(share_memory(doubles.block(0, 0, 1, 4), matrix_view<float>(floats + 8, 1, 1)));
}

TEST_CASE("quantize_rtn: a matrix without data, or beyond all memory, is refused", "[detail][memory][error]") {
    float value = 0;
    float* const none = nullptr;
    CHECK_THROWS_AS(magr::quantize_rtn(matrix_view(none, 2, 3)), magr::shape_error);
    CHECK_THROWS_WITH(magr::quantize_rtn(matrix_view(none, 2, 3)), "quantize_rtn: W must have data, it is 2 x 3 with a null pointer");
    CHECK_THROWS_WITH(magr::quantize_rtn(matrix_view(none, 0, 3)), Catch::Contains("must not be empty"));
    const auto refused = [&](index_t rows, index_t cols, index_t down, index_t across) {
        INFO(rows << " x " << cols << ", strides " << down << " and " << across);
        CHECK_THROWS_AS(magr::quantize_rtn(matrix_view<float>::with_strides(&value, rows, cols, down, across)), magr::shape_error);
    };
    refused(2, 2, largest, 1);
    refused(2, 2, 1, largest);
    refused(2, 2, smallest, 1);
    refused(3, 2, smallest, smallest);
    refused(2, 2, largest / 4, largest / 4);
    refused(2, 2, -largest / 8, -largest / 8);
    refused(largest, largest, 1, 1);
    refused(largest, 2, 2, 1);
    refused(largest / 2, 4, 0, 1);
    refused(-2, 3, 3, 1);
}

TEST_CASE("Gram matrices and weights whose leading dimension is shorter than a row are refused", "[detail][memory][error]") {
    std::vector<float> memory(64, 1.0F);
    const auto H = identity(8);
    const matrix_view<const float> rows(memory.data(), 4, 8, 5), columns(memory.data(), 8, 8, 7, matrix_layout::col_major);
    CHECK_THROWS_WITH(magr::quantize_rtn(rows),
                      "quantize_rtn: W must have memory of its own for each element, but is 4 x 8 with strides 5 and 1");
    CHECK_THROWS_AS(magr::quantize_rtn(rows, H, {.bits = 3}), magr::shape_error);
    CHECK_THROWS_AS(magr::quantize_optq(rows, H), magr::shape_error);
    CHECK_THROWS_AS(magr::quantize_optq(rows, magr::hessian(H)), magr::shape_error);
    CHECK_THROWS_WITH(magr::hessian(columns), Catch::Contains("hessian: H must have memory of its own for each element"));
    CHECK_THROWS_AS(magr::quantize_optq(matrix_view(memory.data(), 4, 8), columns), magr::shape_error);
}

TEST_CASE("What is written to must have memory of its own for each element", "[detail][memory][error]") {
    std::vector<float> memory(64, 1.0F);
    const std::vector<float> before = memory;
    const auto H = identity(8);
    for (const auto& W : {matrix_view(memory.data(), 4, 8, 5), matrix_view<float>::with_strides(memory.data(), 4, 8, 0, 1),
                          matrix_view<float>::with_strides(memory.data() + 40, 4, 8, -5, -1)}) {
        CHECK_THROWS_AS(magr::preprocess(W, H), magr::shape_error);
        CHECK_THROWS_AS(magr::prox_linf(W, 0.1), magr::shape_error);
        CHECK_THROWS_AS(magr::compensate_drift(W, H, H), magr::shape_error);
        const magr::column_scaling scaling(std::vector<double>(4, 2.0));
        CHECK_THROWS_AS(magr::divide_outputs(W, scaling), magr::shape_error);
    }
    CHECK(memory == before);
}

TEST_CASE("preprocess: H in the memory of W is refused before anything is written", "[detail][memory][error]") {
    auto H = identity(8);
    const auto before = H;
    CHECK_THROWS_WITH(magr::preprocess(H.view().block(2, 0, 3, 8), H), "preprocess: H must not lie in the memory of W");
    CHECK_THROWS_AS(magr::compensate_drift(H, before, H), magr::shape_error);
    CHECK_THROWS_AS(magr::compensate_drift(H, H, before), magr::shape_error);
    CHECK(H == before);
    magr::matrix<float> both(8, 16);  // side by side in the same rows is not the same memory
    for (index_t i = 0; i < 8; ++i) both(i, i) = both(i, 8 + i) = 1;
    CHECK_NOTHROW(magr::preprocess(both.view().block(0, 0, 3, 8), both.view().block(0, 8, 8, 8)));
}

TEST_CASE("divide_outputs and divide_norm: numbers that would be divided twice are refused", "[detail][memory][error]") {
    std::vector<float> memory(12, 1.0F);
    const std::vector<float> before = memory;
    const magr::column_scaling scaling(std::vector<double>(3, 2.0));
    const matrix_view W(memory.data(), 3, 4);
    CHECK_THROWS_WITH(magr::divide_outputs(W, std::span(memory).subspan(9), scaling),
                      "divide_outputs: bias must not lie in the memory of W");
    CHECK_THROWS_WITH(magr::divide_norm(std::span(memory).first(3), std::span(memory).subspan(2, 3), scaling),
                      "divide_norm: bias must not lie in the memory of gain");
    CHECK(memory == before);
    magr::divide_norm(std::span(memory).first(3), std::span(memory).subspan(3, 3), scaling);
    CHECK(memory[5] == 0.5F);
    CHECK(memory[6] == 1);
}

TEST_CASE("gram_accumulator: takes windows that slide over a signal", "[detail][memory]") {
    std::vector<float> signal(40);
    for (std::size_t k = 0; k < signal.size(); ++k) signal[k] = static_cast<float>(k % 7);
    magr::gram_accumulator<double> windows(8), copies(8);
    const auto X = matrix_view<const float>::with_strides(signal.data(), 17, 8, 2, 1);
    windows.add(X);
    magr::matrix<float> copy(17, 8);
    for (index_t i = 0; i < 17; ++i)
        for (index_t j = 0; j < 8; ++j) copy(i, j) = X(i, j);
    copies.add(copy);
    CHECK(windows.gram() == copies.gram());
}
