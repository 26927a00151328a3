// SPDX-License-Identifier: MIT
#include <magr/detail/convert.hpp>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

using magr::index_t;
using magr::matrix_view;

namespace {

/// A view of rows x cols random values in its own memory, with guard values between and around them.
template <class T>
struct strided_matrix {
    std::vector<T> memory;
    matrix_view<T> view;

    strided_matrix(index_t rows, index_t cols, index_t row_stride, index_t col_stride, unsigned seed)
        : memory(static_cast<std::size_t>(2 + (rows - 1) * row_stride + (cols - 1) * col_stride + 1), T(guard)),
          view(matrix_view<T>::with_strides(memory.data() + 1, rows, cols, row_stride, col_stride)) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        for (index_t i = 0; i < rows; ++i)
            for (index_t j = 0; j < cols; ++j) view(i, j) = T(normal(random));
    }
    strided_matrix(const strided_matrix&) = delete;  // the view points into the memory
    strided_matrix& operator=(const strided_matrix&) = delete;

    [[nodiscard]] index_t guards() const {
        index_t count = 0;
        for (const T& value : memory) count += static_cast<float>(value) == guard;
        return count;
    }

    static constexpr float guard = 1024;  // exact in every storage type, far outside of the random values
};

struct shape {
    index_t rows, cols, row_stride, col_stride;
};

// Row-major, column-major, gaps on either side or both, vectors, more than one tile with a remainder.
const shape shapes[] = {{5, 7, 7, 1}, {5, 7, 12, 1}, {5, 7, 1, 5}, {5, 7, 1, 9}, {5, 7, 20, 2},   {5, 7, 3, 40},   {1, 9, 9, 1},
                        {1, 9, 1, 4}, {9, 1, 1, 9},  {9, 1, 4, 1}, {1, 1, 1, 1}, {33, 70, 70, 1}, {33, 70, 1, 40}, {64, 64, 1, 64}};

}  // namespace

TEMPLATE_TEST_CASE("load: copies every element into the arithmetic type", "[detail][convert][property]", float, double, Eigen::half,
                   Eigen::bfloat16) {
    for (const auto& s : shapes) {
        INFO(s.rows << " x " << s.cols << ", strides " << s.row_stride << ", " << s.col_stride);
        const strided_matrix<TestType> m(s.rows, s.cols, s.row_stride, s.col_stride, 1);
        const auto as_float = magr::detail::load<float>(m.view);
        const auto as_double = magr::detail::load<double>(m.view);
        REQUIRE(as_float.rows() == s.rows);
        REQUIRE(as_float.cols() == s.cols);
        index_t different = 0;
        for (index_t i = 0; i < s.rows; ++i)
            for (index_t j = 0; j < s.cols; ++j)
                different += as_float(i, j) != static_cast<float>(m.view(i, j)) || as_double(i, j) != static_cast<double>(m.view(i, j));
        CHECK(different == 0);
    }
}

TEMPLATE_TEST_CASE("store: after load gives back the same bits and touches nothing else", "[detail][convert][property]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    for (const auto& s : shapes) {
        INFO(s.rows << " x " << s.cols << ", strides " << s.row_stride << ", " << s.col_stride);
        const strided_matrix<TestType> source(s.rows, s.cols, s.row_stride, s.col_stride, 2);
        const strided_matrix<TestType> target(s.rows, s.cols, s.row_stride, s.col_stride, 3);
        const auto guards = target.guards();
        magr::detail::store(magr::detail::load<double>(source.view), target.view);
        CHECK(target.memory == source.memory);
        CHECK(target.guards() == guards);
    }
}

TEMPLATE_TEST_CASE("store: rounds to the nearest value of the storage type", "[detail][convert]", Eigen::half, Eigen::bfloat16) {
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    magr::detail::row_major_matrix<float> values(20, 30);
    for (float& value : values.reshaped()) value = normal(random);
    std::vector<TestType> memory(600);
    const matrix_view<TestType> stored(memory.data(), 20, 30);
    magr::detail::store(magr::detail::row_major_matrix<double>(values.cast<double>()), stored);
    for (index_t i = 0; i < 20; ++i)
        for (index_t j = 0; j < 30; ++j) {
            const float distance = std::abs(static_cast<float>(stored(i, j)) - values(i, j));
            const auto bits = std::bit_cast<std::uint16_t>(stored(i, j));
            for (const int step : {-1, 1}) {
                const auto neighbour = std::bit_cast<TestType>(static_cast<std::uint16_t>(bits + step));
                CHECK(distance <= std::abs(static_cast<float>(neighbour) - values(i, j)));
            }
        }
}

TEST_CASE("load: keeps NaN, infinities and signed zeros", "[detail][convert][edge]") {
    const float inf = std::numeric_limits<float>::infinity();
    const float values[] = {std::numeric_limits<float>::quiet_NaN(), inf, -inf, -0.0f};
    const auto m = magr::detail::load<float>(matrix_view(values, 2, 2));
    CHECK(std::isnan(m(0, 0)));
    CHECK(m(0, 1) == inf);
    CHECK(m(1, 0) == -inf);
    CHECK(std::signbit(m(1, 1)));
}
