// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <magr/detail/finite.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Matrices whose element type is known at run time only, so that what works on them is compiled once.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The number rounded to bfloat16, ties to even, which takes no more than integers. The compilers' conversion to `__bf16` calls a function
/// that libgcc has from version 13 on only, while clang is often used with an older one.
[[nodiscard]] inline std::uint16_t bfloat16_bits(float number) noexcept {
    const std::uint32_t bits = float_bits<float>::of(number);
    if (is_nan(number)) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);  // stays one
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

/// What can be done with numbers of a storage type, `stride` elements apart.
struct element_type {
    void (*load)(const void* from, index_t stride, index_t count, double* to) noexcept;
    void (*load_float)(const void* from, index_t stride, index_t count, float* to) noexcept;
    void (*store)(const double* from, index_t count, void* to, index_t stride) noexcept;
    void (*round)(double* values, index_t count) noexcept;  ///< to numbers of the type
    double (*dot)(const void* from, index_t stride, index_t count, const double* x) noexcept;
    bool (*are_finite)(const void* from, index_t stride, index_t count) noexcept;
    std::ptrdiff_t size;  ///< bytes
    bool is_float, is_double;
};

template <storage_scalar T>
struct element_functions {
    /// Calls f(pointer, stride), where a stride of 1 is known to the compiler.
    template <class Pointer, class F>
    static MAGR_ALWAYS_INLINE auto with_stride(Pointer data, index_t stride, const F& f) noexcept {
        return stride == 1 ? f(data, std::integral_constant<index_t, 1>{}) : f(data, stride);
    }

    template <compute_scalar S>
    static void load(const void* from, index_t stride, index_t count, S* to) noexcept {
        with_stride(static_cast<const T*>(from), stride, [&](const T* values, auto step) {
            for (index_t k = 0; k < count; ++k) to[k] = static_cast<S>(values[k * step]);
        });
    }
    /// Through float where T is narrower, as Eigen rounds: types of the same format then get the same bits.
    static T rounded(double value) noexcept {
        const auto number = static_cast<compute_t<T>>(value);
        if constexpr (bfloat16_scalar<T> && !std::is_same_v<T, Eigen::bfloat16>)
            return std::bit_cast<T>(bfloat16_bits(number));
        else
            return static_cast<T>(number);
    }
    static void store(const double* from, index_t count, void* to, index_t stride) noexcept {
        for (index_t k = 0; k < count; ++k) static_cast<T*>(to)[k * stride] = rounded(from[k]);
    }
    static void round(double* values, index_t count) noexcept {
        for (index_t k = 0; k < count; ++k) values[k] = static_cast<double>(rounded(values[k]));
    }
    /// In independent sums that the compiler can vectorize.
    static double dot(const void* from, index_t stride, index_t count, const double* x) noexcept {
        constexpr index_t lanes = 16;
        double sums[lanes] = {};
        with_stride(static_cast<const T*>(from), stride, [&](const T* values, auto step) {
            index_t i = 0;
            for (; i + lanes <= count; i += lanes)
                for (index_t k = 0; k < lanes; ++k) sums[k] += static_cast<double>(values[(i + k) * step]) * x[i + k];
            for (index_t k = 0; i + k < count; ++k) sums[k] += static_cast<double>(values[(i + k) * step]) * x[i + k];
        });
        double total = 0;
        for (const double sum : sums) total += sum;
        return total;
    }
    /// Whether no number is NaN or infinite, that is, no exponent has all its bits set. In integers, so that it vectorizes.
    static bool are_finite(const void* from, index_t stride, index_t count) noexcept {
        using value_bits = float_bits<T>;
        using bits = typename value_bits::type;
        constexpr bits exponent = value_bits::exponent;
        constexpr auto lowest_bit = static_cast<bits>(exponent & (~exponent + 1));
        constexpr auto carry = static_cast<bits>(exponent + lowest_bit);
        bits sums = 0;
        with_stride(static_cast<const T*>(from), stride, [&](const T* values, auto step) {
            for (index_t k = 0; k < count; ++k)
                sums = static_cast<bits>(sums | ((value_bits::of(values[k * step]) & exponent) + lowest_bit));
        });
        return (sums & carry) == 0;
    }

    static constexpr element_type all{
        &load<double>, &load<float>, &store, &round, &dot, &are_finite, sizeof(T), std::is_same_v<T, float>, std::is_same_v<T, double>};
};

/// A read-only view of a matrix of any strides and storage type. Every `matrix_view` becomes one.
class matrix_ref {
public:
    matrix_ref() = default;
    template <class T>
        requires storage_scalar<std::remove_const_t<T>>
    matrix_ref(matrix_view<T> m) noexcept  // NOLINT(google-explicit-constructor)
        : matrix_ref(&element_functions<std::remove_const_t<T>>::all, m.data(), m.rows(), m.cols(), m.row_stride(), m.col_stride()) {}

    [[nodiscard]] index_t rows() const noexcept { return rows_; }
    [[nodiscard]] index_t cols() const noexcept { return cols_; }
    [[nodiscard]] index_t row_stride() const noexcept { return row_stride_; }
    [[nodiscard]] index_t col_stride() const noexcept { return col_stride_; }
    [[nodiscard]] const element_type& type() const noexcept { return *type_; }
    /// Where element (i, j) lies.
    [[nodiscard]] const void* data(index_t i = 0, index_t j = 0) const noexcept { return at(i, j); }

    /// Whether the elements of a row are nearer to each other in memory than those of a column.
    [[nodiscard]] bool is_by_rows() const noexcept { return row_stride_ >= col_stride_; }

    [[nodiscard]] double operator()(index_t i, index_t j) const noexcept {
        double value = 0;
        type_->load(at(i, j), 1, 1, &value);
        return value;
    }

    /// to <- elements (i, j), .. (i, j + count - 1)
    template <compute_scalar S>
    void load_row(index_t i, index_t j, index_t count, S* to) const noexcept {
        load(at(i, j), col_stride_, count, to);
    }
    /// to <- elements (i, j), .. (i + count - 1, j)
    template <compute_scalar S>
    void load_column(index_t i, index_t j, index_t count, S* to) const noexcept {
        load(at(i, j), row_stride_, count, to);
    }

    /// f(j, element (i, j)) for j = first, .. first + count - 1
    template <class F>
    void visit_row(index_t i, index_t first, index_t count, const F& f) const {
        double chunk[chunk_size];
        for (index_t done = 0; done < count; done += chunk_size) {
            const index_t size = count - done < chunk_size ? count - done : chunk_size;
            load_row(i, first + done, size, chunk);
            for (index_t k = 0; k < size; ++k) f(first + done + k, chunk[k]);
        }
    }

    /// Column j times x, rows() numbers; fastest with contiguous columns.
    [[nodiscard]] double column_times(index_t j, const double* x) const noexcept { return type_->dot(at(0, j), row_stride_, rows_, x); }

    /// Whether `count` elements of row i, from column j on, are neither NaN nor infinite.
    [[nodiscard]] bool is_row_finite(index_t i, index_t j, index_t count) const noexcept {
        return type_->are_finite(at(i, j), col_stride_, count);
    }

    [[nodiscard]] matrix_ref transposed() const noexcept { return {type_, data_, cols_, rows_, col_stride_, row_stride_}; }
    [[nodiscard]] matrix_ref block(index_t row, index_t col, index_t rows, index_t cols) const noexcept {
        MAGR_ASSERT(row >= 0 && rows >= 0 && row + rows <= rows_ && col >= 0 && cols >= 0 && col + cols <= cols_);
        return {type_, at(row, col), rows, cols, row_stride_, col_stride_};
    }

    /// Whether S is the element type.
    template <compute_scalar S>
    [[nodiscard]] bool holds() const noexcept {
        return std::is_same_v<S, float> ? type_->is_float : type_->is_double;
    }
    /// @pre  `holds<S>()`
    template <compute_scalar S>
    [[nodiscard]] matrix_view<const S> as() const noexcept {
        return matrix_view<const S>::with_strides(static_cast<const S*>(data_), rows_, cols_, row_stride_, col_stride_);
    }

    static constexpr index_t chunk_size = 64;

protected:
    matrix_ref(const element_type* type, const void* data, index_t rows, index_t cols, index_t row_stride, index_t col_stride) noexcept
        : type_(type), data_(data), rows_(rows), cols_(cols), row_stride_(row_stride), col_stride_(col_stride) {}

    [[nodiscard]] const void* at(index_t i, index_t j) const noexcept {
        return static_cast<const std::byte*>(data_) + (i * row_stride_ + j * col_stride_) * type_->size;
    }

private:
    void load(const void* from, index_t stride, index_t count, double* to) const noexcept { type_->load(from, stride, count, to); }
    void load(const void* from, index_t stride, index_t count, float* to) const noexcept { type_->load_float(from, stride, count, to); }

    const element_type* type_ = nullptr;
    const void* data_ = nullptr;
    index_t rows_ = 0, cols_ = 0, row_stride_ = 0, col_stride_ = 0;
};

/// The same for a matrix that is written to.
class mutable_matrix_ref : public matrix_ref {
public:
    template <storage_scalar T>
    mutable_matrix_ref(matrix_view<T> m) noexcept : matrix_ref(m) {}  // NOLINT(google-explicit-constructor)

    /// Elements (i, j), .. (i, j + count - 1) <- values, rounded to the element type
    void store_row(index_t i, index_t j, index_t count, const double* values) const noexcept {
        type().store(values, count, const_cast<void*>(at(i, j)), col_stride());
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
