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
#include <magr/grid/grid_maker.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/layer/layer_steps.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/optq_core.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// What some rows were rounded to, and what that leaves of their targets: the errors e and e H.
template <compute_scalar Scalar>
struct rounded_rows {
    quantized_matrix<Scalar> q;
    row_major_matrix<double> error, gradient;

    /// e H e^T of row i
    [[nodiscard]] double cost(index_t i) const { return error.row(i).dot(gradient.row(i)); }
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
    row_candidates(const hessian& H, const layer_options& layer, std::span<const double> factors, executor_ref exec)
        : H_(H),
          layer_(layer),
          factors_(factors),
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

    /// Rounds each target anew, once for each factor, and refines that; then come the rows as they are, if given, refined towards these
    /// targets. Candidate c of row i is row c * targets.rows() + i. Without codes if a number left its range.
    /// @param anew  whether there are more candidates than the rows as they are
    [[nodiscard]] rounded_rows<Scalar> round(matrix_view<const Scalar> targets, const quantized_matrix<Scalar>* now, bool anew) const {
        const index_t count = targets.rows(), n = targets.cols();
        const index_t fresh = anew ? static_cast<index_t>(factors_.size()) : 0, all = fresh + (now != nullptr ? 1 : 0);
        matrix<Scalar> repeated(all * count, n);
        for (index_t c = 0; c < all * count; ++c)
            for (index_t j = 0; j < n; ++j) repeated(c, j) = targets(c % count, j);
        const matrix_view<const Scalar> wanted = std::as_const(repeated).view();
        quantized_matrix<Scalar> q = empty_rows(all * count);
        if (anew) {
            const weight_grids<Scalar> grids = tried_grids(targets);
            const optq_result<Scalar> optq =
                optq_with_plan<Scalar>(wanted.block(0, 0, fresh * count, n), H_, plan_, &grids, layer_.grid, layer_.optq, exec_);
            if (!optq) return {};
            for (index_t c = 0; c < fresh * count; ++c) copy_row(optq.quantized, c, q, c);
        }
        if (now != nullptr)
            for (index_t i = 0; i < count; ++i) copy_row(*now, i, q, fresh * count + i);
        static_cast<void>(refine<Scalar>(q, wanted, H_, layer_.refinement, exec_));
        return measured(std::move(q), wanted);
    }

    /// These codes and grids, and what they leave of the targets.
    [[nodiscard]] rounded_rows<Scalar> measured(quantized_matrix<Scalar> q, matrix_view<const Scalar> targets) const {
        rounded_rows<Scalar> rows{std::move(q), row_major_matrix<double>(targets.rows(), targets.cols()),
                                  row_major_matrix<double>(targets.rows(), targets.cols())};
        exec_.parallel_for((targets.rows() + error_state::panel - 1) / error_state::panel, [&](index_t task, index_t) {
            const error_state state(rows.q, targets, damped(), natural_, task * error_state::panel);
            rows.error.middleRows(state.first_row, state.rows()) = state.error;
            rows.gradient.middleRows(state.first_row, state.rows()) = state.gradient;
        });
        return rows;
    }

private:
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
    executor_ref exec_;
    const optq_plan<Scalar>& plan_;
    std::vector<index_t> natural_;
    const packed_gram* damped_ = nullptr;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
