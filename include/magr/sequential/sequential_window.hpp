// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/sequential/row_strips.hpp>
#include <magr/simd/pack.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What a column quantizer may look at before it rounds a column: some rows in the middle of a sequential quantization.
///
/// Columns before `block_begin()` were finished when the block started; those from there up to the current column are finished as well.
template <compute_scalar Scalar>
class sequential_window {
public:
    using columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
    using strips = detail::row_strips<Scalar>;

    /// @param residual      W - Q in finished columns, W in the others; the rows of the window, all columns
    /// @param carried       (W - Q) T of the columns before the block, for the columns of the block and perhaps some more
    /// @param feedback      T^T
    sequential_window(strips residual, strips carried, matrix_view<const Scalar> feedback, index_t first_row, index_t rows,
                      index_t block_begin, index_t block_end)
        : residual_(residual),
          carried_(carried),
          feedback_(feedback.data(), feedback.rows(), feedback.cols(), Eigen::OuterStride<>(feedback.row_stride())),
          first_row_(first_row),
          rows_(rows),
          block_begin_(block_begin),
          block_end_(block_end) {}

    [[nodiscard]] index_t first_row() const noexcept { return first_row_; }
    [[nodiscard]] index_t rows() const noexcept { return rows_; }
    [[nodiscard]] index_t block_begin() const noexcept { return block_begin_; }

    /// What column k is to be rounded from: w_k + sum_{j < k} (w_j - q_j) T_jk, given that all columns before it are finished.
    void compensate(index_t k, Eigen::Ref<Eigen::Vector<Scalar, Eigen::Dynamic>> weights) const {
        const index_t in_block = k - block_begin_;
        for_each_strip([&](index_t first, const auto& residual, const auto& carried) {
            auto part = weights.segment(first, residual.rows());
            part = residual.col(k) + carried.col(in_block);
            part.noalias() += residual.middleCols(block_begin_, in_block) * feedback_.col(k).segment(block_begin_, in_block);
        });
    }

    /// Columns first..last-1 of the weights that make up best for the errors of the columns before `given`, if all columns from there on
    /// may still change: W + (W - Q) T12 inv(T22), where T12 has the rows before `given` and T22 those after.
    ///
    /// As T22 is triangular, only its part up to `last` is needed. `block_begin() <= given <= first`, and columns before `given` finished.
    [[nodiscard]] columns least_squares_weights(index_t given, index_t first, index_t last) const {
        const index_t width = last - given;
        const index_t in_block = given - block_begin_;
        const bool is_carried = last <= block_end_;
        const index_t begin = is_carried ? block_begin_ : 0;  // of the columns whose feedback is not carried
        columns change = columns::Zero(rows(), width);
        for_each_strip([&](index_t row, const auto& residual, const auto& carried) {
            if (is_carried) change.middleRows(row, residual.rows()) = carried.middleCols(in_block, width);
        });
        // change^T = (T^T in the rows of the columns that change) residual^T
        const detail::aligned_buffer<Scalar> scratch(kernels::product_blocks<Scalar, simd::default_arch>::scratch_for(rows_));
        const matrix_view<Scalar> turned(change.data(), width, rows(), rows());
        const matrix_view<const Scalar> T(feedback_.data(), feedback_.cols(), feedback_.cols(), feedback_.outerStride());  // T^T, by rows
        for (index_t s = 0; s * strips::height < rows_; ++s) {
            const index_t row = s * strips::height, height = (std::min)(strips::height, rows_ - row);
            kernels::multiply_add(turned.block(0, row, width, height), 1.0, T.block(given, begin, width, given - begin),
                                  matrix_view<const Scalar>(residual_.column(s, begin), given - begin, height, strips::height),
                                  scratch.data());
        }
        linalg::solve_lower(T.block(given, given, width, width), turned, scratch.data());
        columns weights = change.rightCols(last - first);
        for_each_strip([&](index_t row, const auto& residual, const auto&) {
            weights.middleRows(row, residual.rows()) += residual.middleCols(first, last - first);
        });
        return weights;
    }

private:
    /// f(first row, residual, carried) for each strip.
    template <class F>
    void for_each_strip(const F& f) const {
        for (index_t s = 0; s * strips::height < rows_; ++s) {
            const index_t first = s * strips::height, height = (std::min)(strips::height, rows_ - first);
            f(first, residual_.strip(s, height), carried_.strip(s, height));
        }
    }

    strips residual_;
    strips carried_;
    Eigen::Map<const columns, Eigen::Unaligned, Eigen::OuterStride<>> feedback_;  // T
    index_t first_row_;
    index_t rows_;
    index_t block_begin_;
    index_t block_end_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
