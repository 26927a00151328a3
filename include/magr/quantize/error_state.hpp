// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/kernels/packed_product.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/quantize/code_map.hpp>
#include <magr/quantize/quantized_matrix.hpp>

namespace magr {

/// What a refinement of a quantized matrix did. Losses are tr((Q - W) (H + damping mean(diag H) I) (Q - W)^T) / 2.
struct [[nodiscard]] refinement_result {
    index_t passes = 0;      ///< passes over the columns that the slowest row took
    index_t changes = 0;     ///< codes, or scales and zero points, that changed; each change counts
    double loss_before = 0;  ///< unit of H times that of W squared
    double loss_after = 0;   ///< at most loss_before
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// H + damping * mean(diag H) I with its columns in another order, in double. The mean is over the columns that are not dead.
template <class T>
[[nodiscard]] row_major_matrix<double> load_damped(matrix_view<T> H, std::span<const index_t> order, double damping) {
    const index_t n = H.cols();
    row_major_matrix<double> out(n, n);
    double sum = 0;
    index_t live = 0;
    for (index_t k = 0; k < n; ++k) {
        const index_t a = order[static_cast<std::size_t>(k)];
        for (index_t l = 0; l < n; ++l) {
            const index_t b = order[static_cast<std::size_t>(l)];
            out(k, l) = static_cast<double>(H(std::max(a, b), std::min(a, b)));
        }
        sum += out(k, k);
        live += out(k, k) > 0 ? 1 : 0;
    }
    for (index_t k = 0; k < n; ++k)
        if (out(k, k) > 0) out(k, k) += damping * sum / static_cast<double>(live);
    return out;
}

/// A symmetric matrix as it is, and packed once as the left operand H^T of products that many rows need: (E H)^T = H E^T.
class packed_gram {
    using tile = kernels::register_tile<double, simd::default_arch>;
    static constexpr index_t depth = kernels::product_blocks<double, simd::default_arch>::depth;

public:
    template <class Executor>
    packed_gram(row_major_matrix<double> H, Executor& exec)
        : H_(std::move(H)), rows_(kernels::round_up(H_.rows(), tile::rows)), packed_(rows_ * H_.cols()) {
        exec.parallel_for(rows_ / tile::rows, [&](index_t task, index_t) {
            const index_t first = task * tile::rows;
            const auto rows = as_const_view(H_).block(first, 0, std::min(tile::rows, H_.rows() - first), H_.cols());
            kernels::pack_left(rows, rows_, first, packed_.data());
        });
    }

    [[nodiscard]] const row_major_matrix<double>& matrix() const noexcept { return H_; }

    /// Numbers of working memory that a product of so many rows needs.
    [[nodiscard]] static constexpr index_t scratch_size(index_t rows) noexcept { return kernels::round_up(rows, tile::cols) * depth; }

    /// G <- G + E H', where H' are the rows of H from `first` on, as many as E has columns.
    void add_product(matrix_view<const double> E, index_t first, col_major_matrix<double>& G, double* scratch) const noexcept {
        const matrix_view<double> transposed(G.data(), G.cols(), G.rows(), G.rows());
        for (index_t done = 0; done < E.cols();) {
            const index_t k = first + done, k0 = k - k % depth, d = std::min(depth, H_.rows() - k0);
            const index_t width = std::min(E.cols() - done, k0 + d - k);
            for (index_t j = 0; j < E.rows(); j += tile::cols)
                kernels::pack_panel<tile::cols>(E.block(j, done, std::min(tile::cols, E.rows() - j), width), 1.0, scratch + j * d);
            kernels::multiply_panels(transposed, width, packed_.data() + k0 * rows_ + (k - k0) * tile::rows, scratch, d);
            done += width;
        }
    }

private:
    row_major_matrix<double> H_;
    index_t rows_;  // whole tiles
    aligned_buffer<double> packed_;
};

/// Some rows of a quantized matrix under change: their errors E = Q - W and the gradient E H of the loss tr(E H E^T) / 2, in double, so
/// that what a change gains can be told from rounding errors.
struct error_state {
    static constexpr index_t panel = 32;  ///< rows that are worked on together: their gradient fits into the second-level cache

    index_t first_row;
    col_major_matrix<double> error;
    col_major_matrix<double> gradient;
    aligned_buffer<double> scratch;  ///< of products with H

    template <compute_scalar Scalar, class T>
    error_state(const quantized_matrix<Scalar>& q, matrix_view<T> W, const packed_gram& H, std::span<const index_t> order, index_t first)
        : first_row(first), scratch(packed_gram::scratch_size(panel)) {
        const index_t rows = std::min(panel, W.rows() - first);
        error.resize(rows, W.cols());
        with_code_map(q, [&](const auto& map_of) {
            for (index_t k = 0; k < W.cols(); ++k) {
                const index_t j = order[static_cast<std::size_t>(k)];
                const index_t g = q.group_of_column[static_cast<std::size_t>(j)];
                for (index_t i = 0; i < rows; ++i) {
                    const auto map = map_of(q.scales(first + i, g), q.zeros(first + i, g));
                    const Scalar value = weight_of_code(map, static_cast<Scalar>(q.codes(first + i, j)));
                    error(i, k) = static_cast<double>(value) - static_cast<double>(W(first + i, j));
                }
            }
        });
        gradient.setZero(rows, W.cols());
        H.add_product(as_const_view(error), 0, gradient, scratch.data());
    }

    [[nodiscard]] index_t rows() const noexcept { return error.rows(); }
    [[nodiscard]] double loss() const { return std::max(0.0, 0.5 * error.cwiseProduct(gradient).sum()); }
};

/// Passes over a quantized matrix, until one changes nothing or gains almost nothing; some rows are a task.
///
/// @param order    of the columns of H, which is damped
/// @param one_pass function of (maps, state) that changes Q and state, and returns how many changes it made
template <compute_scalar Scalar, class T, class Pass, class Executor>
[[nodiscard]] refinement_result refine_panels(quantized_matrix<Scalar>& q, matrix_view<T> W, const packed_gram& H,
                                              std::span<const index_t> order, index_t max_passes, const Pass& one_pass, Executor& exec) {
    constexpr double smallest_gain = 1e-12;  // numbers that follow each other would do so in ever smaller steps
    struct outcome {  // a type of its own, as code that makes vectors of public ones would be shared with units of other instruction sets
        index_t passes = 0, changes = 0;
        double loss_before = 0, loss_after = 0;
    };
    std::vector<outcome> panels(static_cast<std::size_t>((W.rows() + error_state::panel - 1) / error_state::panel));
    with_code_map(q, [&](const auto& map_of) {
        exec.parallel_for(static_cast<index_t>(panels.size()), [&](index_t task, index_t) {
            outcome& result = panels[static_cast<std::size_t>(task)];
            error_state state(q, W, H, order, task * error_state::panel);
            double loss = result.loss_before = state.loss();
            for (result.passes = 1; result.passes <= max_passes; ++result.passes) {
                const double before = loss;
                const index_t changes = one_pass(map_of, state);
                loss = state.loss();
                result.changes += changes;
                if (changes == 0 || !(before - loss > smallest_gain * before)) break;
            }
            result.passes = std::min(result.passes, max_passes);
            result.loss_after = loss;
        });
    });
    refinement_result result;
    for (const outcome& panel : panels) {
        result.passes = std::max(result.passes, panel.passes);
        result.changes += panel.changes;
        result.loss_before += panel.loss_before;
        result.loss_after += panel.loss_after;
    }
    return result;
}

/// Refuses what the refinements cannot work with.
template <compute_scalar Scalar, class T, class U>
void require_refinable(const char* function, const quantized_matrix<Scalar>& q, matrix_view<T> W, matrix_view<U> H) {
    require_layer(function, W, H);
    require_shape(function, "Q.codes", q.codes.view(), W.rows(), W.cols());
    require_grids(function, q, W.rows(), W.cols());
    const int largest = q.levels.empty() ? largest_code(q.bits) : static_cast<int>(q.levels.size()) - 1;
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t j = 0; j < W.cols(); ++j)
            if (q.codes(i, j) > largest)
                raise<value_error>(concat(function, ": Q.codes must be in 0..", largest, ", entry (row ", i, ", column ", j, ") is ",
                                          static_cast<int>(q.codes(i, j))));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
