// SPDX-License-Identifier: MIT
#include <magr/detail/matrix_ref.hpp>

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
using magr::detail::matrix_ref;
using magr::detail::mutable_matrix_ref;

namespace {

struct strided_shape {
    index_t rows, cols, row_stride, col_stride;
};
// By rows, by columns, with gaps, with both strides above 1, one row, one column, longer than what is copied at a time.
constexpr strided_shape strided_shapes[] = {{5, 7, 7, 1},  {5, 7, 1, 5},     {4, 6, 9, 1},     {4, 6, 1, 11},
                                            {3, 5, 20, 3}, {1, 200, 200, 1}, {130, 1, 1, 130}, {66, 70, 70, 1}};

template <class T>
std::vector<T> random_numbers(const strided_shape& s, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<T> memory(static_cast<std::size_t>((s.rows - 1) * s.row_stride + (s.cols - 1) * s.col_stride + 1));
    for (T& value : memory) value = static_cast<T>(normal(random));
    return memory;
}

template <class T>
matrix_view<T> view_of(std::vector<T>& memory, const strided_shape& s) {
    return matrix_view<T>::with_strides(memory.data(), s.rows, s.cols, s.row_stride, s.col_stride);
}

}  // namespace

TEMPLATE_TEST_CASE("matrix_ref: reads what the view reads", "[detail][matrix_ref][property]", float, double, Eigen::half, Eigen::bfloat16) {
    for (const strided_shape& s : strided_shapes) {
        CAPTURE(s.rows, s.cols, s.row_stride, s.col_stride);
        auto memory = random_numbers<TestType>(s, 1);
        const auto view = view_of(memory, s);
        const matrix_ref m = view, turned = m.transposed();
        REQUIRE(m.rows() == s.rows);
        REQUIRE(m.cols() == s.cols);
        CHECK(m.holds<float>() == std::is_same_v<TestType, float>);
        CHECK(m.holds<double>() == std::is_same_v<TestType, double>);
        const auto at = [&](index_t i, index_t j) { return static_cast<double>(view(i, j)); };
        std::vector<double> line(static_cast<std::size_t>(std::max(s.rows, s.cols)));
        std::vector<float> in_float(line.size());
        index_t different = 0;
        for (index_t i = 0; i < s.rows; ++i) {
            const index_t first = i % s.cols, count = s.cols - first;
            m.load_row(i, first, count, line.data());
            m.load_row(i, first, count, in_float.data());
            for (index_t j = 0; j < count; ++j) {
                different += line[static_cast<std::size_t>(j)] != at(i, first + j);
                different += in_float[static_cast<std::size_t>(j)] != static_cast<float>(view(i, first + j));
                different += m(i, first + j) != at(i, first + j);
                different += turned(first + j, i) != at(i, first + j);
            }
            index_t next = first;
            m.visit_row(i, first, count, [&](index_t j, double value) { different += j != next++ || value != at(i, j); });
            different += next != s.cols;
        }
        for (index_t j = 0; j < s.cols; ++j) {
            m.load_column(0, j, s.rows, line.data());
            for (index_t i = 0; i < s.rows; ++i) different += line[static_cast<std::size_t>(i)] != at(i, j);
            std::vector<double> x(static_cast<std::size_t>(s.rows));
            long double expected = 0, size = 0;
            for (index_t i = 0; i < s.rows; ++i) {
                x[static_cast<std::size_t>(i)] = 0.5 + static_cast<double>(i);
                expected += static_cast<long double>(at(i, j)) * (0.5L + static_cast<long double>(i));
                size += std::abs(static_cast<long double>(at(i, j)) * (0.5L + static_cast<long double>(i)));
            }
            CHECK(std::abs(static_cast<long double>(m.column_times(j, x.data())) - expected) <= 1e-14L * size);
        }
        const matrix_ref part = m.block(s.rows / 2, s.cols / 3, s.rows - s.rows / 2, s.cols - s.cols / 3);
        different += part(0, 0) != at(s.rows / 2, s.cols / 3);
        CHECK(different == 0);
    }
}

TEMPLATE_TEST_CASE("matrix_ref: finds NaN and infinity in each place", "[detail][matrix_ref][edge]", float, double, Eigen::half,
                   Eigen::bfloat16) {
    for (const strided_shape& s : strided_shapes) {
        auto memory = random_numbers<TestType>(s, 2);
        const auto view = view_of(memory, s);
        const matrix_ref m = view;
        for (index_t i = 0; i < s.rows; i += 3)
            for (index_t j = 0; j < s.cols; j += 2) {
                const TestType before = view(i, j);
                CHECK(m.is_row_finite(i, 0, s.cols));
                for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                                        -std::numeric_limits<float>::infinity()}) {
                    view(i, j) = static_cast<TestType>(bad);
                    CHECK_FALSE(m.is_row_finite(i, 0, s.cols));
                    CHECK(m.is_row_finite(i, j + 1, s.cols - j - 1));
                }
                view(i, j) = before;
            }
    }
}

TEMPLATE_TEST_CASE("mutable_matrix_ref: writes rounded numbers, and nothing else", "[detail][matrix_ref][property]", float, double,
                   Eigen::half, Eigen::bfloat16) {
    for (const strided_shape& s : strided_shapes) {
        auto memory = random_numbers<TestType>(s, 3);
        const auto untouched = memory;
        const auto view = view_of(memory, s);
        const mutable_matrix_ref m = view;
        const index_t row = s.rows / 2, first = s.cols / 3, count = s.cols - first;
        std::vector<double> values(static_cast<std::size_t>(count));
        for (std::size_t k = 0; k < values.size(); ++k) values[k] = 1.0 / (3.0 + static_cast<double>(k));
        m.store_row(row, first, count, values.data());
        std::vector<double> rounded = values;
        m.type().round(rounded.data(), count);
        index_t different = 0;
        for (index_t j = 0; j < count; ++j) {
            const double value = values[static_cast<std::size_t>(j)];
            different += static_cast<double>(view(row, first + j)) != static_cast<double>(static_cast<TestType>(value));
            different += rounded[static_cast<std::size_t>(j)] != static_cast<double>(static_cast<TestType>(value));
        }
        for (index_t j = 0; j < count; ++j)
            view(row, first + j) = untouched[static_cast<std::size_t>(&view(row, first + j) - memory.data())];
        for (std::size_t k = 0; k < memory.size(); ++k) different += static_cast<double>(memory[k]) != static_cast<double>(untouched[k]);
        CHECK(different == 0);
    }
}
