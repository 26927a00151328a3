// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What a column quantizer may look at before it rounds a column: some rows in the middle of a sequential quantization.
///
/// Columns before `block_begin()` were finished when the block started; those from there up to the current column are finished as well.
template <compute_scalar Scalar>
class sequential_window {
public:
    using columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
    using columns_view = Eigen::Map<const columns, Eigen::Unaligned, Eigen::OuterStride<>>;

    /// @param residual      W - Q in finished columns, W in the others; the rows of the window, all columns
    /// @param carried       (W - Q) T of the columns before the block, for the columns of the block
    /// @param feedback      T
    sequential_window(columns_view residual, columns_view carried, columns_view feedback, index_t first_row, index_t block_begin)
        : residual_(residual), carried_(carried), feedback_(feedback), first_row_(first_row), block_begin_(block_begin) {}

    [[nodiscard]] index_t first_row() const noexcept { return first_row_; }
    [[nodiscard]] index_t rows() const noexcept { return residual_.rows(); }
    [[nodiscard]] index_t block_begin() const noexcept { return block_begin_; }

    /// What column k is to be rounded from: w_k + sum_{j < k} (w_j - q_j) T_jk, given that all columns before it are finished.
    void compensate(index_t k, Eigen::Ref<Eigen::Vector<Scalar, Eigen::Dynamic>> weights) const {
        const index_t in_block = k - block_begin_;
        weights = residual_.col(k) + carried_.col(in_block);
        weights.noalias() += residual_.middleCols(block_begin_, in_block) * feedback_.col(k).segment(block_begin_, in_block);
    }

    /// Columns first..last-1 of the weights that make up best for the errors of the columns before `given`, if all columns from there on
    /// may still change: W + (W - Q) T12 inv(T22), where T12 has the rows before `given` and T22 those after.
    ///
    /// As T22 is triangular, only its part up to `last` is needed. `block_begin() <= given <= first`, and columns before `given` finished.
    [[nodiscard]] columns least_squares_weights(index_t given, index_t first, index_t last) const {
        const index_t width = last - given;
        const index_t in_block = given - block_begin_;
        columns change(rows(), width);
        if (last - block_begin_ <= carried_.cols())
            change = carried_.middleCols(in_block, width);
        else  // reaches beyond the block
            change.noalias() = residual_.leftCols(block_begin_) * feedback_.block(0, given, block_begin_, width);
        change.noalias() += residual_.middleCols(block_begin_, in_block) * feedback_.block(block_begin_, given, in_block, width);
        const auto T22 = feedback_.block(given, given, width, width).template triangularView<Eigen::UnitUpper>();
        T22.template solveInPlace<Eigen::OnTheRight>(change);
        return residual_.middleCols(first, last - first) + change.rightCols(last - first);
    }

private:
    columns_view residual_;
    columns_view carried_;
    columns_view feedback_;
    index_t first_row_;
    index_t block_begin_;
};

/// Rounds the weights of one column in some rows: a function object of (column, first row, weights, rounded).
///
/// It reads `weights` and writes what it rounds them to into `rounded`; element i of both is row `first_row + i`. If it has a member
/// `prepare(column, window)`, that is called before each column, with a `sequential_window` of the same rows.
template <class Q, class Scalar>
concept column_quantizer = requires(Q& quantizer, index_t column, index_t first_row, std::span<const Scalar> weights,
                                    std::span<Scalar> rounded) { quantizer(column, first_row, weights, rounded); };

/// Quantizes the columns of W one after the other, each making up for the errors of those before it:
///
///   q_k = quantizer( w_k + sum_{j < k} (w_j - q_j) T_jk )
///
/// The feedback of all earlier blocks of columns enters a block by one matrix product, so the block size changes the cost and, in exact
/// arithmetic, nothing else (a quantizer that looks at `block_begin()` aside).
///
/// @par Shapes    W: rows x n, contiguous columns (in: W, out: W - Q); feedback: n x n, row k holds the T_jk that flow into column k
/// @pre           block_size >= 1; feedback unit lower triangular
/// @return        n sums over the rows of (rounded value - value it was rounded from)^2
/// @par Cost      rows * n^2 / 2 multiply-adds; allocates rows * block_size; what the quantizer does is extra
/// @par Numerics  in Scalar, the returned sums in double; the result for a row does not depend on the other rows beyond the order of
///                additions inside the matrix product
/// @par Source    LDLQ of QuIP (arXiv 2307.13304), which makes the same decisions as OPTQ (arXiv 2210.17323) without changing W
template <compute_scalar Scalar, column_quantizer<Scalar> Quantizer>
std::vector<double> quantize_sequentially(matrix_view<Scalar> W, std::type_identity_t<matrix_view<const Scalar>> feedback,
                                          index_t block_size, Quantizer&& quantizer) {
    MAGR_ASSERT(W.row_stride() == 1 && feedback.col_stride() == 1 && feedback.rows() == W.cols() && feedback.cols() == W.cols());
    using window = sequential_window<Scalar>;
    using columns = typename window::columns;
    using columns_view = typename window::columns_view;
    constexpr index_t panel = 64;  // rows whose part of a block stays in the first-level cache
    const index_t rows = W.rows();
    const index_t n = W.cols();

    Eigen::Map<columns, Eigen::Unaligned, Eigen::OuterStride<>> residual(W.data(), rows, n, Eigen::OuterStride<>(W.col_stride()));
    const columns_view T(feedback.data(), n, n, Eigen::OuterStride<>(feedback.row_stride()));
    columns carried(rows, std::min(block_size, n));
    Eigen::Vector<Scalar, Eigen::Dynamic> weights;
    Eigen::Vector<Scalar, Eigen::Dynamic> rounded;
    std::vector<double> squared_errors(static_cast<std::size_t>(n));

    for (index_t begin = 0; begin < n; begin += block_size) {
        const index_t width = std::min(block_size, n - begin);
        carried.leftCols(width).noalias() = residual.leftCols(begin) * T.block(0, begin, begin, width);
        for (index_t first_row = 0; first_row < rows; first_row += panel) {
            const index_t height = std::min(panel, rows - first_row);
            const window view(columns_view(&residual(first_row, 0), height, n, Eigen::OuterStride<>(W.col_stride())),
                              columns_view(&carried(first_row, 0), height, width, Eigen::OuterStride<>(rows)), T, first_row, begin);
            weights.resize(height);
            rounded.resize(height);
            for (index_t k = begin; k < begin + width; ++k) {
                if constexpr (requires { quantizer.prepare(k, view); }) quantizer.prepare(k, view);
                view.compensate(k, weights);
                quantizer(k, first_row, std::span<const Scalar>(weights.data(), static_cast<std::size_t>(height)),
                          std::span<Scalar>(rounded.data(), static_cast<std::size_t>(height)));
                squared_errors[static_cast<std::size_t>(k)] += (rounded - weights).template cast<double>().squaredNorm();
                residual.col(k).segment(first_row, height) -= rounded;
            }
        }
    }
    return squared_errors;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
