// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <type_traits>

#include <magr/config.hpp>

namespace magr {

/// Signed type of sizes, indices and strides (the same as Eigen's default).
using index_t = std::ptrdiff_t;

/// Which elements lie next to each other in memory: those of a row or those of a column.
enum class matrix_layout { row_major, col_major };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(matrix_layout order) noexcept {
    switch (order) {
        case matrix_layout::row_major: return "row_major";
        case matrix_layout::col_major: return "col_major";
    }
    return "unknown";
}

/// Non-owning view of a dense matrix with any strides; the only form in which algorithms see a user's matrix.
///
/// Element (i, j) is `data()[i * row_stride() + j * col_stride()]`. Copying a view copies no element.
///
/// @tparam T element type, const-qualified for a read-only view
template <class T>
class matrix_view {
public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;

    constexpr matrix_view() noexcept = default;

    /// View of contiguous rows (or columns) that lie `leading_dimension` elements apart.
    /// @pre `leading_dimension >= cols` for row_major, `>= rows` for col_major; data points to that many elements
    constexpr matrix_view(T* data, index_t rows, index_t cols, index_t leading_dimension,
                          matrix_layout order = matrix_layout::row_major) noexcept
        : matrix_view(data, rows, cols, order == matrix_layout::row_major ? leading_dimension : 1,
                      order == matrix_layout::row_major ? 1 : leading_dimension, strided{}) {}

    /// View of rows that follow each other without a gap.
    constexpr matrix_view(T* data, index_t rows, index_t cols) noexcept : matrix_view(data, rows, cols, cols) {}

    /// View with both strides given, in elements.
    [[nodiscard]] static constexpr matrix_view with_strides(T* data, index_t rows, index_t cols, index_t row_stride,
                                                            index_t col_stride) noexcept {
        return matrix_view(data, rows, cols, row_stride, col_stride, strided{});
    }

    /// A writable view converts to a read-only one.
    constexpr operator matrix_view<const T>() const noexcept
        requires(!std::is_const_v<T>)
    {
        return matrix_view<const T>::with_strides(data_, rows_, cols_, row_stride_, col_stride_);
    }

    [[nodiscard]] constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr index_t rows() const noexcept { return rows_; }
    [[nodiscard]] constexpr index_t cols() const noexcept { return cols_; }
    [[nodiscard]] constexpr index_t row_stride() const noexcept { return row_stride_; }
    [[nodiscard]] constexpr index_t col_stride() const noexcept { return col_stride_; }
    [[nodiscard]] constexpr bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }

    [[nodiscard]] constexpr T& operator()(index_t i, index_t j) const noexcept {
        MAGR_ASSERT(i >= 0 && i < rows_ && j >= 0 && j < cols_);
        return data_[i * row_stride_ + j * col_stride_];
    }

    [[nodiscard]] constexpr matrix_view transposed() const noexcept {
        return matrix_view(data_, cols_, rows_, col_stride_, row_stride_, strided{});
    }

    [[nodiscard]] constexpr matrix_view block(index_t row, index_t col, index_t rows, index_t cols) const noexcept {
        MAGR_ASSERT(row >= 0 && rows >= 0 && row + rows <= rows_ && col >= 0 && cols >= 0 && col + cols <= cols_);
        return matrix_view(data_ + row * row_stride_ + col * col_stride_, rows, cols, row_stride_, col_stride_, strided{});
    }

private:
    struct strided {};
    constexpr matrix_view(T* data, index_t rows, index_t cols, index_t row_stride, index_t col_stride, strided) noexcept
        : data_(data), rows_(rows), cols_(cols), row_stride_(row_stride), col_stride_(col_stride) {}

    T* data_ = nullptr;
    index_t rows_ = 0;
    index_t cols_ = 0;
    index_t row_stride_ = 0;
    index_t col_stride_ = 0;
};

template <class T>
matrix_view(T*, index_t, index_t) -> matrix_view<T>;
template <class T>
matrix_view(T*, index_t, index_t, index_t) -> matrix_view<T>;
template <class T>
matrix_view(T*, index_t, index_t, index_t, matrix_layout) -> matrix_view<T>;

}  // namespace magr
