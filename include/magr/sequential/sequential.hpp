// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include <magr/kernels/panels.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/sequential/column_quantizer.hpp>
#include <magr/sequential/row_strips.hpp>
#include <magr/sequential/sequential_pass.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

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
/// @par Cost      rows * n^2 / 2 multiply-adds; allocates n^2 / 2 for T in the order in which it is read, and 256 * (n + block_size) per
///                worker; what the quantizer does is extra. Blocks of 96 to 192 columns are fastest, with 2% between them
/// @par Numerics  in Scalar, the returned sums in double; the result for a row does not depend on the other rows, nor anything on the
///                executor, whose tasks are 256 rows each
/// @par Source    LDLQ of QuIP (arXiv 2307.13304), which makes the same decisions as OPTQ (arXiv 2210.17323) without changing W
template <compute_scalar Scalar, column_quantizer<Scalar> Quantizer>
std::vector<double> quantize_sequentially(matrix_view<Scalar> W, std::type_identity_t<matrix_view<const Scalar>> feedback,
                                          index_t block_size, Quantizer&& quantizer, executor_ref exec = {}) {
    MAGR_ASSERT(W.row_stride() == 1 && feedback.col_stride() == 1 && feedback.rows() == W.cols() && feedback.cols() == W.cols());
    using strips = detail::row_strips<Scalar>;
    const auto load = [&](index_t row, index_t rows, Scalar* strip) {
        kernels::pack_panel<strips::height>(matrix_view<const Scalar>(W).block(row, 0, rows, W.cols()), 1.0, strip);
    };
    const auto finish = [&](index_t row, index_t rows, const Scalar* strip) {
        for (index_t k = 0; k < W.cols(); ++k) std::copy_n(strip + k * strips::height, rows, &W(row, k));
    };
    return detail::sequential_pass<Scalar>(feedback, block_size, exec).run(W.rows(), load, quantizer, finish, false, exec).rounding_errors;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
