// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/convert.hpp>
#include <magr/feedback/feedback_factor.hpp>
#include <magr/fit/grid_maker.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/layer/layer_steps.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/refine/refine_rounds.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// What some rows were rounded to, and what that leaves of their targets.
template <compute_scalar Scalar>
struct rounded_rows : row_errors {
    quantized_matrix<Scalar> q;

    /// e H e^T of row i
    [[nodiscard]] double cost(index_t i) const { return this->error_row(i).dot(this->gradient_row(i)); }
};

/// Copies row i of codes and grids to row k of others.
template <compute_scalar Scalar>
void copy_row(const quantized_matrix<Scalar>& from, index_t i, quantized_matrix<Scalar>& to, index_t k) {
    std::copy_n(&from.codes(i, 0), from.codes.cols(), &to.codes(k, 0));
    std::copy_n(&from.scales(i, 0), from.scales.cols(), &to.scales(k, 0));
    std::copy_n(&from.zeros(i, 0), from.zeros.cols(), &to.zeros(k, 0));
}

/// Rounds rows to targets in several ways, and measures each. Rows do not depend on each other.
template <compute_scalar Scalar>
class row_candidates {
public:
    /// @param factors  each fitted grid is tried with its scale times each of these
    /// It keeps references to its arguments, which must outlive it.
    /// @param refined  how many of them are refined, those with the least loss
    row_candidates(const hessian& H, const layer_options& layer, std::span<const double> factors, index_t refined, executor_ref exec)
        : H_(H),
          layer_(layer),
          factors_(factors),
          refined_((std::min)(refined, static_cast<index_t>(factors.size()))),
          exec_(exec),
          plan_(plan_optq<Scalar>(H, columns_per_group(layer.grid, H.inputs()), layer.optq, exec)),
          natural_(static_cast<std::size_t>(H.inputs())) {
        std::iota(natural_.begin(), natural_.end(), index_t{0});
        if (status() != factor_status::failed)
            damped_ = &damped_gram(H, natural_, layer.refinement.codes ? layer.refinement.codes->damping : layer.optq.damping, exec);
    }

    /// Whether H could be factored.
    [[nodiscard]] factor_status status() const noexcept { return plan_.factor.status; }
    /// H as it was damped to measure costs; only if it could be factored.
    [[nodiscard]] const packed_gram& damped() const noexcept { return *damped_; }

    /// Codes and grids for some rows, not yet chosen.
    [[nodiscard]] quantized_matrix<Scalar> empty_rows(index_t count) const {
        quantized_matrix<Scalar> q;
        static_cast<weight_grids<Scalar>&>(q) = make_weight_grids<Scalar>(count, H_.inputs(), layer_.grid);
        q.codes = matrix<std::uint8_t>(count, H_.inputs());
        return q;
    }

    /// Rounds each target anew, once for each factor, and refines the best of these; then come the rows as they are, if given, refined
    /// towards these targets. Candidate c of row i is row c * targets.rows() + i. Without codes if a number left its range.
    /// @param anew  whether there are more candidates than the rows as they are
    [[nodiscard]] rounded_rows<Scalar> round(matrix_view<const Scalar> targets, const quantized_matrix<Scalar>* now, bool anew) const {
        const index_t count = targets.rows(), fresh = anew ? refined_ : 0, all = fresh + (now != nullptr ? 1 : 0);
        quantized_matrix<Scalar> q = empty_rows(all * count);
        if (anew && !round_anew(targets, q)) return {};
        if (now != nullptr)
            for (index_t i = 0; i < count; ++i) copy_row(*now, i, q, fresh * count + i);
        const matrix<Scalar> wanted = repeated(targets, all);
        row_errors left;
        refine_rounds(q, wanted.view(), H_, layer_.refinement, &left, exec_);
        if (left.error.empty()) return measured(std::move(q), wanted.view());
        return {std::move(left), std::move(q)};
    }

    /// These codes and grids, and what they leave of the targets.
    [[nodiscard]] rounded_rows<Scalar> measured(quantized_matrix<Scalar> q, matrix_view<const Scalar> targets) const {
        rounded_rows<Scalar> rows{row_errors(targets.rows(), targets.cols()), std::move(q)};
        exec_.parallel_for((targets.rows() + error_state::panel - 1) / error_state::panel, [&](index_t task, index_t) {
            rows.set_rows(error_state(rows.q, targets, damped(), natural_, task * error_state::panel));
        });
        return rows;
    }

private:
    [[nodiscard]] static matrix<Scalar> repeated(matrix_view<const Scalar> targets, index_t times) {
        matrix<Scalar> rows(times * targets.rows(), targets.cols());
        for (index_t c = 0; c < rows.rows(); ++c)
            for (index_t j = 0; j < rows.cols(); ++j) rows(c, j) = targets(c % targets.rows(), j);
        return rows;
    }

    /// Rounds each target with each factor, and puts the best candidates of each row in front in q. Returns whether all numbers are finite.
    [[nodiscard]] bool round_anew(matrix_view<const Scalar> targets, quantized_matrix<Scalar>& q) const {
        const index_t count = targets.rows(), tried = static_cast<index_t>(factors_.size());
        const matrix<Scalar> wanted = repeated(targets, tried);
        const weight_grids<Scalar> grids = tried_grids(targets);
        optq_result<Scalar> optq = optq_with_plan<Scalar>(wanted.view(), H_, plan_, &grids, layer_.grid, layer_.optq, exec_);
        if (!optq) return false;
        std::vector<index_t> order(static_cast<std::size_t>(tried));
        const rounded_rows<Scalar> found = measured(std::move(optq.quantized), wanted.view());
        for (index_t i = 0; i < count; ++i) {
            std::iota(order.begin(), order.end(), index_t{0});
            std::stable_sort(order.begin(), order.end(),
                             [&](index_t a, index_t b) { return found.cost(a * count + i) < found.cost(b * count + i); });
            for (index_t c = 0; c < refined_; ++c) copy_row(found.q, order[static_cast<std::size_t>(c)] * count + i, q, c * count + i);
        }
        return true;
    }

    /// The fitted grids of some rows, once for each range factor.
    [[nodiscard]] weight_grids<Scalar> tried_grids(matrix_view<const Scalar> targets) const {
        const weight_grids<Scalar> fitted = fit_all<Scalar>(targets, H_, layer_.grid, exec_);
        const grid_maker<Scalar> maker(layer_.grid);
        const index_t count = targets.rows();
        weight_grids<Scalar> grids = make_weight_grids<Scalar>(count * static_cast<index_t>(factors_.size()), targets.cols(), layer_.grid);
        for (index_t c = 0; c < grids.scales.rows(); ++c)
            for (index_t g = 0; g < grids.scales.cols(); ++g) {
                const affine_grid<Scalar> own{fitted.scales(c % count, g), fitted.zeros(c % count, g)};
                const double factor = factors_[static_cast<std::size_t>(c / count)];
                const affine_grid<Scalar> tried = factor == 1 ? own : maker.rescaled(own, factor);
                grids.scales(c, g) = tried.scale;
                grids.zeros(c, g) = tried.zero;
            }
        return grids;
    }

    const hessian& H_;
    const layer_options& layer_;
    std::span<const double> factors_;
    index_t refined_;
    executor_ref exec_;
    const optq_plan<Scalar>& plan_;
    std::vector<index_t> natural_;
    const packed_gram* damped_ = nullptr;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
