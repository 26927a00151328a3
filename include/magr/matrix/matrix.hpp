// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <magr/error.hpp>
#include <magr/matrix/dense_matrix.hpp>

namespace magr {

/// Owning row-major matrix without gaps. Functions return their results in it, so that no Eigen type crosses a boundary between
/// translation units compiled with different flags.
template <class T>
class matrix {
public:
    using value_type = T;

    matrix() = default;
    /// rows x cols matrix of zeros.
    /// @par Errors  shape_error if rows or cols is negative or rows cols is more than `index_t` counts; what allocation throws
    matrix(index_t rows, index_t cols) : rows_(rows), cols_(cols), data_(checked_size(rows, cols)) {}

    [[nodiscard]] index_t rows() const noexcept { return rows_; }
    [[nodiscard]] index_t cols() const noexcept { return cols_; }
    [[nodiscard]] bool empty() const noexcept { return data_.empty(); }
    [[nodiscard]] T* data() noexcept { return data_.data(); }
    [[nodiscard]] const T* data() const noexcept { return data_.data(); }
    [[nodiscard]] T& operator()(index_t i, index_t j) noexcept { return view()(i, j); }
    [[nodiscard]] const T& operator()(index_t i, index_t j) const noexcept { return view()(i, j); }
    [[nodiscard]] matrix_view<T> view() noexcept { return {data_.data(), rows_, cols_}; }
    [[nodiscard]] matrix_view<const T> view() const noexcept { return {data_.data(), rows_, cols_}; }

    friend bool operator==(const matrix&, const matrix&) = default;

private:
    [[nodiscard]] static std::size_t checked_size(index_t rows, index_t cols) {
        index_t size = 0;
        if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size)) refuse_size(rows, cols);
        return static_cast<std::size_t>(size);
    }

    /// Apart, because the text would be inlined wherever a matrix is made, and g++ 12 then warns about it.
    [[noreturn, gnu::cold, gnu::noinline]] static void refuse_size(index_t rows, index_t cols) {
        detail::raise<shape_error>("matrix: rows and columns must not be negative, and their product must fit into index_t, it is " +
                                   std::to_string(rows) + " x " + std::to_string(cols));
    }

    index_t rows_ = 0;
    index_t cols_ = 0;
    std::vector<T> data_;
};

template <class T>
struct matrix_traits<matrix<T>> {
    static matrix_view<T> view(matrix<T>& m) noexcept { return m.view(); }
    static matrix_view<const T> view(const matrix<T>& m) noexcept { return m.view(); }
};

}  // namespace magr
