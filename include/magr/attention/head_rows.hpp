// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/kernels/panels.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/quantize/optq_options.hpp>
#include <magr/sequential/row_strips.hpp>
#include <magr/sequential/sequential_pass.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A matrix and what OPTQ makes of it.
template <compute_scalar Scalar>
struct planned_hessian {
    const hessian* H;
    const optq_plan<Scalar>* plan;
};

/// The rows of all heads in the order in which they are rounded: step by step, and in each step head by head.
struct step_order {
    index_t heads, head_size, step;

    [[nodiscard]] index_t width(index_t begin) const noexcept { return (std::min)(step, head_size - begin); }
    /// Where row i of a head is, if i counts in the order of its row Hessian.
    [[nodiscard]] index_t position(index_t head, index_t i) const noexcept {
        const index_t begin = i / step * step;
        return heads * begin + head * width(begin) + i - begin;
    }
};

/// Rounds some of the rows of a `grid_quantizer`, and keeps the errors of rounding.
template <compute_scalar Scalar>
struct step_quantizer {
    grid_quantizer<Scalar, round_half_even>& rows;
    index_t first;               ///< row of it
    matrix_view<Scalar> errors;  ///< columns x rows

    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) const {
        rows(k, first + first_row, weights, rounded);
        for (std::size_t i = 0; i < weights.size(); ++i) errors(k, first_row + static_cast<index_t>(i)) = rounded[i] - weights[i];
    }
};

/// Rounds the rows of heads in steps, each row making up for the errors of those before it in its head.
///
/// With F = W + change - Q of a finished row, in which OPTQ has fed errors forward along the columns, its error is W - Q = F - change.
template <compute_scalar Scalar>
class head_rows {
public:
    /// @param w       all heads, one below the other
    /// @param rows    the row Hessians, one for each head
    /// @param out     holds the grids and receives the codes, in the order of w
    head_rows(std::type_identity_t<matrix_view<const Scalar>> w, const planned_hessian<Scalar>& columns,
              std::span<const planned_hessian<Scalar>> rows, index_t step, quantized_matrix<Scalar>& out)
        : columns_(columns),
          row_hessians_(rows),
          order_{static_cast<index_t>(rows.size()), w.rows() / static_cast<index_t>(rows.size()), step},
          rows_(w.rows(), w.cols()),
          original_(static_cast<std::size_t>(w.rows())),
          out_(out),
          gathered_{static_cast<const weight_grids<Scalar>&>(out), matrix<std::uint8_t>(w.rows(), w.cols())},
          losses_(rows.size()) {
        for (index_t h = 0; h < order_.heads; ++h)
            for (index_t i = 0; i < order_.head_size; ++i) {
                const index_t p = order_.position(h, i);
                const index_t row = h * order_.head_size + of_head(h).plan->order[static_cast<std::size_t>(i)];
                original_[static_cast<std::size_t>(p)] = row;
                for (index_t k = 0; k < w.cols(); ++k) rows_(p, k) = w(row, columns.plan->order[static_cast<std::size_t>(k)]);
                for (index_t g = 0; g < out.scales.cols(); ++g) {
                    gathered_.scales(p, g) = out.scales(row, g);
                    gathered_.zeros(p, g) = out.zeros(row, g);
                }
            }
    }

    /// Chooses all codes.
    /// @return        how many weights were clipped
    [[nodiscard]] index_t run(executor_ref exec) {
        const sequential_pass<Scalar> pass(columns_.plan->factor.feedback.view(), columns_per_block({}), exec);
        grid_quantizer<Scalar, round_half_even> quantizer(gathered_, columns_.plan->order, columns_.plan->factor.pivots, {});
        const index_t most = order_.heads * order_.width(0);
        matrix<Scalar> changes(most, rows_.cols()), errors(rows_.cols(), most);
        for (index_t begin = 0; begin < order_.head_size; begin += order_.step) {
            if (begin > 0) compensate(begin, changes.view(), exec);
            round_step(begin, pass, quantizer, changes.view(), errors.view(), exec);
            exec.parallel_for(order_.heads, [&](index_t head, index_t) { add_losses(begin, head, errors.view()); });
        }
        for (index_t p = 0; p < rows_.rows(); ++p)
            std::copy_n(&gathered_.codes(p, 0), rows_.cols(), &out_.codes(original_[static_cast<std::size_t>(p)], 0));
        return quantizer.clipped();
    }

    /// tr(H_row E H E^T) of each head, with damped matrices of mean diagonal 1.
    [[nodiscard]] const std::vector<double>& losses() const noexcept { return losses_; }

private:
    static constexpr index_t chunk = 256;  // columns of a head that stay in cache

    [[nodiscard]] const planned_hessian<Scalar>& of_head(index_t head) const noexcept {
        return row_hessians_[static_cast<std::size_t>(head)];
    }

    /// The rows B of a step become what they are rounded from: they change by T_BB^-T T_{<B,B}^T (W - Q)_{<B}.
    void compensate(index_t begin, matrix_view<Scalar> changes, executor_ref exec) {
        const index_t n = rows_.cols(), width = order_.width(begin), chunks = (n + chunk - 1) / chunk;
        exec.parallel_for(order_.heads * chunks, [&](index_t task, index_t) {
            const index_t head = task / chunks, first = task % chunks * chunk, count = (std::min)(chunk, n - first);
            const matrix<Scalar>& T = of_head(head).plan->factor.feedback;  // transposed: row i holds what flows into row i
            for (index_t i = 0; i < width; ++i) {
                Scalar* const change = &changes(head * width + i, first);
                std::fill_n(change, count, Scalar(0));
                for (index_t r = 0; r < begin; ++r) subtract(change, -T(begin + i, r), &rows_(order_.position(head, r), first), count);
                for (index_t r = 0; r < i; ++r) subtract(change, T(begin + i, begin + r), &changes(head * width + r, first), count);
            }
            for (index_t i = 0; i < width; ++i) {
                Scalar* const change = &changes(head * width + i, first);
                for (index_t k = 0; k < count; ++k)  // errors in dead columns cost nothing
                    if (!(columns_.plan->factor.pivots[static_cast<std::size_t>(first + k)] > 0)) change[k] = 0;
                subtract(&rows_(order_.position(head, begin + i), first), Scalar(-1), change, count);
            }
        });
    }

    /// OPTQ on the rows of a step. Each worker takes some of them, because a task of the pass has more rows than most steps.
    void round_step(index_t begin, const sequential_pass<Scalar>& pass, grid_quantizer<Scalar, round_half_even>& quantizer,
                    matrix_view<const Scalar> changes, matrix_view<Scalar> errors, executor_ref exec) {
        constexpr index_t height = row_strips<Scalar>::height;
        const index_t n = rows_.cols(), first = order_.heads * begin, count = order_.heads * order_.width(begin);
        const index_t share = kernels::round_up((count + exec.concurrency() - 1) / exec.concurrency(), height);
        exec.parallel_for((count + share - 1) / share, [&](index_t task, index_t) {
            const index_t start = task * share, rows = (std::min)(share, count - start);
            step_quantizer<Scalar> step{quantizer, first + start, errors.block(0, start, n, rows)};
            const auto load = [&](index_t row, index_t high, Scalar* strip) {
                kernels::pack_panel<height>(std::as_const(rows_).view().block(first + start + row, 0, high, n), 1.0, strip);
            };
            const auto finish = [&](index_t row, index_t high, const Scalar* strip) {
                for (index_t i = 0; i < high; ++i) {
                    Scalar* const to = &rows_(first + start + row + i, 0);
                    const Scalar* const change = &changes(start + row + i, 0);
                    for (index_t k = 0; k < n; ++k) to[k] = strip[k * height + i] - change[k];
                }
                quantizer.store_codes(first + start + row, high);
            };
            static_cast<void>(pass.run(rows, load, step, finish, false, {}));
        });
    }

    /// Adds sum_ik D_i D_k (T_row^T E T)_ik^2 over the rows of a step. E T are the errors of rounding, for later rows of the step only once
    /// those of earlier ones have been added.
    void add_losses(index_t begin, index_t head, matrix_view<const Scalar> errors) {
        constexpr index_t few = 32;  // columns that are summed side by side
        const feedback_factor<Scalar>& of_rows = of_head(head).plan->factor;
        const index_t width = order_.width(begin), n = rows_.cols();
        std::vector<double> sums(static_cast<std::size_t>(width)), part(static_cast<std::size_t>(width * few));
        for (index_t first = 0; first < n; first += few) {
            const index_t count = (std::min)(few, n - first);
            double pivots[few] = {};
            for (index_t k = 0; k < count; ++k) {
                pivots[k] = columns_.plan->factor.pivots[static_cast<std::size_t>(first + k)] / columns_.H->mean();
                for (index_t i = 0; i < width; ++i)  // a dead column costs nothing, even if it overflowed
                    part[static_cast<std::size_t>(i * few + k)] =
                        pivots[k] > 0 ? static_cast<double>(errors(first + k, head * width + i)) : 0;
            }
            for (index_t i = width - 1; i >= 0; --i) {
                double* const own = part.data() + i * few;
                for (index_t r = 0; r < i; ++r)
                    subtract(own, -static_cast<double>(of_rows.feedback(begin + i, begin + r)), part.data() + r * few, few);
                for (index_t k = 0; k < count; ++k) sums[static_cast<std::size_t>(i)] += pivots[k] * own[k] * own[k];
            }
        }
        for (index_t i = 0; i < width; ++i) {
            const double pivot = of_rows.pivots[static_cast<std::size_t>(begin + i)] / of_head(head).H->mean();
            if (pivot > 0) losses_[static_cast<std::size_t>(head)] += pivot * sums[static_cast<std::size_t>(i)];
        }
    }

    const planned_hessian<Scalar>& columns_;
    std::span<const planned_hessian<Scalar>> row_hessians_;
    step_order order_;
    matrix<Scalar> rows_;  // W; what is rounded; W - Q: by position, columns in the order of processing
    std::vector<index_t> original_;
    quantized_matrix<Scalar>& out_;
    quantized_matrix<Scalar> gathered_;
    std::vector<double> losses_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
