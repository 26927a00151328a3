// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <magr/calibration/output_meter.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/layer/coupled_rows.hpp>
#include <magr/layer/layer_steps.hpp>
#include <magr/layer/row_candidates.hpp>
#include <magr/linalg/triangular_solve.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE std::vector<std::string> problems(const coupled_options& options) {
    detail::problem_list own("coupled_options");
    own.add_all(problems(options.layer));
    own.require(!options.layer.preprocess, "layer.preprocess", "not set, because MagR is not run", "set");
    own.require(options.layer.quantizer == layer_quantizer::optq, "layer.quantizer", "optq", to_string(options.layer.quantizer));
    own.require(options.layer.optq.groups == group_update::fixed, "layer.optq.groups", "fixed", to_string(options.layer.optq.groups));
    for (const double factor : options.range_factors)
        own.require(factor > 0 && detail::is_finite(factor), "range_factors", "positive and finite", factor);
    own.require(options.refined_candidates >= 1, "refined_candidates", "at least 1", options.refined_candidates);
    own.require(options.passes >= 0, "passes", "at least 0", options.passes);
    own.require(options.rows_per_step >= 1, "rows_per_step", "at least 1", options.rows_per_step);
    own.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    return own.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// C <- C + factor A B, all by rows. The workers share the columns.
inline void add_product(row_major_matrix<double>& C, double factor, matrix_view<const double> A, matrix_view<const double> B,
                        executor_ref exec) {
    constexpr index_t strip = 256, scratch_size = kernels::product_blocks<double, simd::default_arch>::scratch_for(strip);
    const aligned_buffer<double> scratch(exec.concurrency() * scratch_size);
    exec.parallel_for((C.cols() + strip - 1) / strip, [&](index_t task, index_t worker) {
        const index_t first = task * strip, count = (std::min)(strip, C.cols() - first);
        kernels::multiply_add(as_mutable_view(C).block(0, first, C.rows(), count), factor, A, B.block(0, first, B.rows(), count),
                              scratch.data() + worker * scratch_size);
    });
}

/// The rows of a layer on their way.
template <compute_scalar Scalar>
class coupled_rows {
public:
    coupled_rows(const layer_input<Scalar>& in, const matrix_ref& A, const coupled_options& options, executor_ref exec)
        : in_(in),
          options_(options),
          layer_(step_options(options.layer)),
          exec_(exec),
          factors_(factors_of(options)),
          candidates_(in.H(), layer_, factors_, options.refined_candidates, exec) {
        if (candidates_.status() == factor_status::failed) return;
        const index_t rows = in.weights().rows(), steps = (rows + options.rows_per_step - 1) / options.rows_per_step;
        for (index_t s = 0; s < steps; ++s) {
            first_.push_back(static_cast<index_t>(order_.size()));
            for (index_t i = s; i < rows; i += steps) order_.push_back(i);
        }
        first_.push_back(rows);
        A_.resize(rows, rows);
        for (index_t a = 0; a < rows; ++a)
            for (index_t b = 0; b < rows; ++b) A_(a, b) = A((std::max)(row(a), row(b)), (std::min)(row(a), row(b)));
        std::vector<index_t> natural(order_.size());
        std::iota(natural.begin(), natural.end(), index_t{0});
        factor_ = factor_feedback<double>(as_const_view(A_), natural, {.damping = options.damping}, exec);
        for (index_t a = 0; a < rows && can_run(); ++a) A_(a, a) += factor_.added[static_cast<std::size_t>(a)];
        E_.setZero(rows, in.weights().cols());
    }

    /// Whether both H and A could be factored.
    [[nodiscard]] bool can_run() const { return candidates_.status() != factor_status::failed && factor_.status != factor_status::failed; }
    [[nodiscard]] bool damped_more() const {
        return candidates_.status() == factor_status::damped_more || factor_.status == factor_status::damped_more;
    }

    /// Quantizes all rows once. Returns whether all numbers stayed finite.
    [[nodiscard]] bool first_pass() {
        const matrix_view<const Scalar> W = in_.weights();
        q_ = candidates_.empty_rows(W.rows());
        for (index_t s = 0; s < steps(); ++s) {
            const row_major_matrix<Scalar> targets = first_targets(s);
            const rounded_rows<Scalar> found = candidates_.round(as_const_view(targets), nullptr, true);
            if (found.q.codes.empty()) return false;
            const index_t count = targets.rows();
            for (index_t i = 0; i < count; ++i) {
                index_t best = i;
                for (index_t c = i; c < found.error.rows(); c += count)
                    if (found.cost(c) < found.cost(best)) best = c;
                take(found, best, begin_of(s) + i);
                auto e = E_.row(begin_of(s) + i);
                const index_t original = row(begin_of(s) + i);
                for (index_t j = 0; j < W.cols(); ++j)
                    e(j) = found.error(best, j) + (static_cast<double>(targets(i, j)) - static_cast<double>(W(original, j)));
            }
        }
        return true;
    }

    /// Takes every row again with all others fixed. Returns by how much that lowered the loss; NaN if a number left its range.
    [[nodiscard]] double later_pass() {
        double gain = 0;
        for (index_t s = 0; s < steps(); ++s) {
            const index_t begin = begin_of(s);
            const row_major_matrix<Scalar> targets = later_targets(s);
            const rounded_rows<Scalar> now = candidates_.measured(rows_of(s), as_const_view(targets));
            const rounded_rows<Scalar> found = candidates_.round(as_const_view(targets), &now.q, options_.from_scratch);
            if (found.q.codes.empty()) return std::numeric_limits<double>::quiet_NaN();
            const index_t count = targets.rows();
            row_major_matrix<double> shift = row_major_matrix<double>::Zero(count, targets.cols());  // of the targets, by earlier rows
            for (index_t i = 0; i < count; ++i) {
                const auto cost = [&](const rounded_rows<Scalar>& rows, index_t c) {
                    return rows.cost(c) - 2 * shift.row(i).dot(rows.gradient_row(c));
                };
                const double before = cost(now, i);
                index_t best = i;
                for (index_t c = i; c < found.error.rows(); c += count)
                    if (cost(found, c) < cost(found, best)) best = c;
                const double gained = before - cost(found, best);
                if (!(gained > 1e-12 * std::abs(before))) continue;
                const Eigen::RowVectorXd change = found.error_row(best) - now.error_row(i);
                take(found, best, begin + i);
                E_.row(begin + i) += change;
                gain += 0.5 * weight(begin + i) * gained;
                for (index_t k = i + 1; k < count; ++k)
                    if (weight(begin + k) > 0) shift.row(k) -= A_(begin + k, begin + i) / weight(begin + k) * change;
            }
        }
        return gain;
    }

    /// tr(A E H E^T) / 2 with the damped matrices.
    [[nodiscard]] double loss() const {
        row_major_matrix<double> AE = row_major_matrix<double>::Zero(E_.rows(), E_.cols());
        add_product(AE, 1, as_const_view(A_), as_const_view(E_), exec_);
        std::vector<double> parts(static_cast<std::size_t>((E_.rows() + error_state::panel - 1) / error_state::panel));
        exec_.parallel_for(static_cast<index_t>(parts.size()), [&](index_t task, index_t) {
            const index_t begin = task * error_state::panel, count = (std::min)(error_state::panel, E_.rows() - begin);
            const aligned_buffer<double> scratch(packed_gram::scratch_size(error_state::panel));
            row_major_matrix<double> gradient = row_major_matrix<double>::Zero(count, E_.cols());
            const auto errors = as_const_view(E_).block(begin, 0, count, E_.cols());
            candidates_.damped().add_product(errors, 0, as_view(gradient), scratch.data());
            parts[static_cast<std::size_t>(task)] = 0.5 * AE.middleRows(begin, count).cwiseProduct(gradient).sum();
        });
        return std::accumulate(parts.begin(), parts.end(), 0.0);
    }

    [[nodiscard]] quantized_matrix<Scalar>& quantized() noexcept { return q_; }

private:
    [[nodiscard]] index_t steps() const noexcept { return static_cast<index_t>(first_.size()) - 1; }
    [[nodiscard]] index_t begin_of(index_t step) const { return first_[static_cast<std::size_t>(step)]; }
    /// The row of W at a position of the order.
    [[nodiscard]] index_t row(index_t position) const { return order_[static_cast<std::size_t>(position)]; }
    [[nodiscard]] double weight(index_t position) const { return A_(position, position); }
    [[nodiscard]] static std::vector<double> factors_of(const coupled_options& options) {
        if (!options.range_factors.empty()) return options.range_factors;
        return {0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1};
    }

    [[nodiscard]] static layer_options step_options(const layer_options& given) {
        layer_options options = with_defaults(given);
        options.optq.measure_error = false;
        return options;
    }

    /// W + shift in the rows of a step.
    [[nodiscard]] row_major_matrix<Scalar> shifted(index_t step, const row_major_matrix<double>& shift) const {
        const matrix_view<const Scalar> W = in_.weights();
        row_major_matrix<Scalar> targets(shift.rows(), shift.cols());
        for (index_t i = 0; i < shift.rows(); ++i)
            for (index_t j = 0; j < shift.cols(); ++j)
                targets(i, j) = static_cast<Scalar>(static_cast<double>(W(row(begin_of(step) + i), j)) + shift(i, j));
        return targets;
    }

    /// Where the rows of a step make up best for the errors of all rows before it: with D for these and B for the step,
    /// W_B - inv(T_BB^T) T_DB^T E_D.
    [[nodiscard]] row_major_matrix<Scalar> first_targets(index_t step) const {
        const index_t begin = begin_of(step), count = begin_of(step + 1) - begin;
        row_major_matrix<double> shift = row_major_matrix<double>::Zero(count, E_.cols());
        if (begin > 0) {
            const matrix_view<const double> T = factor_.feedback.view();
            add_product(shift, -1, T.block(begin, 0, count, begin), as_const_view(E_).block(0, 0, begin, E_.cols()), exec_);
            const aligned_buffer<double> scratch(kernels::product_blocks<double, simd::default_arch>::scratch);
            linalg::solve_lower(T.block(begin, begin, count, count), as_mutable_view(shift), scratch.data());
        }
        return shifted(step, shift);
    }

    /// Where each row of a step is best with all others fixed: w_k - (sum_{j != k} A_kj e_j) / A_kk.
    [[nodiscard]] row_major_matrix<Scalar> later_targets(index_t step) const {
        const index_t begin = begin_of(step), count = begin_of(step + 1) - begin;
        row_major_matrix<double> shift = row_major_matrix<double>::Zero(count, E_.cols());
        add_product(shift, -1, as_const_view(A_).block(begin, 0, count, A_.cols()), as_const_view(E_), exec_);
        for (index_t i = 0; i < count; ++i) {
            const double own = weight(begin + i);
            if (own > 0)
                shift.row(i) = shift.row(i) / own + E_.row(begin + i);
            else
                shift.row(i).setZero();  // an output that does not matter
        }
        return shifted(step, shift);
    }

    /// The rows of a step as they are.
    [[nodiscard]] quantized_matrix<Scalar> rows_of(index_t step) const {
        const index_t begin = begin_of(step), count = begin_of(step + 1) - begin;
        quantized_matrix<Scalar> some = candidates_.empty_rows(count);
        for (index_t i = 0; i < count; ++i) copy_row(q_, row(begin + i), some, i);
        return some;
    }

    void take(const rounded_rows<Scalar>& found, index_t candidate, index_t position) { copy_row(found.q, candidate, q_, row(position)); }

    const layer_input<Scalar>& in_;
    const coupled_options& options_;
    layer_options layer_;
    executor_ref exec_;
    std::vector<double> factors_;
    row_candidates<Scalar> candidates_;
    std::vector<index_t> order_, first_;  // of rows; where each step begins in it
    row_major_matrix<double> A_;          // damped, in this order
    feedback_factor<double> factor_;      // of A
    row_major_matrix<double> E_;          // Q - W, in this order
    quantized_matrix<Scalar> q_;
};

template <compute_scalar Scalar>
coupled_result<Scalar> run_coupled_rows(const matrix_ref& W, const gram_argument& H, const matrix_ref& A, const coupled_options& options,
                                        executor_ref exec) {
    validate(options);
    const layer_options layer = with_defaults(options.layer);
    const used_hessian h("quantize_coupled_rows", W, H, layer.optq.dead_threshold, exec);
    require_gram("quantize_coupled_rows", "A", A, W.rows(), exec);
    const weights_in<Scalar> weights(W);
    const layer_input<Scalar> in(weights.view(), *h, layer);
    coupled_result<Scalar> result;
    result.dead_inputs = h->dead_inputs();
    if (result.dead_inputs > 0 && layer.optq.dead == dead_columns::refuse) {
        result.status = quantization_status::dead_columns_refused;
        return result;
    }
    coupled_rows<Scalar> rows(in, A, options, exec);
    if (!rows.can_run()) return result;
    result.status = quantization_status::overflowed;
    if (!rows.first_pass()) return result;
    const double first_loss = rows.loss();
    if (!is_finite(first_loss)) return result;
    result.losses.push_back(first_loss);
    for (index_t pass = 0; pass < options.passes; ++pass) {
        const double gain = rows.later_pass();
        if (!is_finite(gain)) return result;
        // measured anew: the gain is that against targets rounded to Scalar
        result.losses.push_back((std::min)(result.losses.back(), rows.loss()));
        if (gain <= 0) break;
    }
    result.quantized = std::move(rows.quantized());
    result.output_error = output_meter(weights.view(), *h, exec).error(weights.view(), result.quantized.dequantize().view(), exec);
    result.status = rows.damped_more() ? quantization_status::damped_more : quantization_status::as_requested;
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
