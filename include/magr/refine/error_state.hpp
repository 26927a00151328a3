// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include <magr/calibration/column_order.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/refine/refinement_result.hpp>

namespace magr {

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The state of some rows of a quantized matrix while they change: their errors E = Q - W and the gradient E H of the loss tr(E H E^T) / 2.
/// Both are in double, so that the gain of a change can be told from rounding errors.
struct error_state {
    /// Rows that are processed together: whole register tiles, whose gradient fits into the second-level cache.
    static constexpr index_t panel = 36;

    /// Bytes that it and a pass over it allocate, at most: error and gradient; gradients, directions, changes and products of one run.
    [[nodiscard]] static std::size_t bytes(index_t rows, index_t columns) noexcept {
        return static_cast<std::size_t>((std::min)(panel, rows) * 9 * columns + packed_gram::scratch_size(panel)) * sizeof(double);
    }

    index_t first_row;
    row_major_matrix<double> error;
    row_major_matrix<double> gradient;
    aligned_buffer<double> scratch;  ///< for products with H

    template <compute_scalar Scalar>
    error_state(const quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W, const packed_gram& H,
                std::span<const index_t> order, index_t first)
        : first_row(first), scratch(packed_gram::scratch_size(panel)) {
        const index_t rows = (std::min)(panel, W.rows() - first);
        error.resize(rows, W.cols());
        with_code_map(q, [&](const auto& map_of) {
            for (index_t i = 0; i < rows; ++i)
                for (index_t k = 0; k < W.cols(); ++k) {
                    const index_t j = order[static_cast<std::size_t>(k)];
                    const index_t g = q.group_of_column[static_cast<std::size_t>(j)];
                    const auto map = map_of(q.scales(first + i, g), q.zeros(first + i, g));
                    const Scalar value = weight_of_code(map, static_cast<Scalar>(q.codes(first + i, j)));
                    // in a dead column no error counts, however large
                    error(i, k) = H.diagonal(k) <= 0 ? 0 : static_cast<double>(value) - static_cast<double>(W(first + i, j));
                }
        });
        gradient.setZero(rows, W.cols());
        H.add_product(as_const_view(error), 0, as_view(gradient), scratch.data());
    }

    [[nodiscard]] index_t rows() const noexcept { return error.rows(); }
    [[nodiscard]] std::vector<double> row_losses() const {
        std::vector<double> losses(static_cast<std::size_t>(rows()));
        for (index_t i = 0; i < rows(); ++i) losses[static_cast<std::size_t>(i)] = 0.5 * error.row(i).dot(gradient.row(i));
        return losses;
    }
    [[nodiscard]] double loss() const { return (std::max)(0.0, 0.5 * error.cwiseProduct(gradient).sum()); }
};

/// What rows leave of their targets: the errors e, and e H with a damped H.
struct row_errors {
    using row_map = Eigen::Map<const Eigen::RowVectorXd>;

    row_errors() = default;
    row_errors(index_t rows, index_t cols) : error(rows, cols), gradient(rows, cols) {}

    [[nodiscard]] row_map error_row(index_t i) const { return {&error(i, 0), error.cols()}; }
    [[nodiscard]] row_map gradient_row(index_t i) const { return {&gradient(i, 0), gradient.cols()}; }

    void set_rows(const error_state& state) {
        std::copy_n(state.error.data(), state.error.size(), &error(state.first_row, 0));
        std::copy_n(state.gradient.data(), state.gradient.size(), &gradient(state.first_row, 0));
    }

    matrix<double> error, gradient;  // not of Eigen: who frees them may be compiled with other flags
};

/// What passes over some rows did.
struct panel_outcome {  // its own type: code of vectors of public types would be shared with units of other instruction sets
    index_t passes = 0, changes = 0;
    double loss_before = 0, loss_after = 0;
};

/// A function of a state, by two pointers: what calls it is compiled once.
template <class Result>
class state_function_ref {
public:
    template <class Function>
        requires(!std::is_same_v<Function, state_function_ref>)
    state_function_ref(const Function& function) noexcept  // NOLINT(google-explicit-constructor)
        : function_(&function),
          call_([](const void* self, error_state& state) -> Result { return (*static_cast<const Function*>(self))(state); }) {}

    [[nodiscard]] Result operator()(error_state& state) const { return call_(function_, state); }

private:
    const void* function_;
    Result (*call_)(const void* function, error_state& state);
};

/// Changes Q and the state, and returns how many changes it made.
using pass_ref = state_function_ref<index_t>;

/// Runs passes over the rows of a state until one changes nothing or gains almost nothing.
[[nodiscard]] inline panel_outcome run_passes(error_state& state, index_t max_passes, pass_ref one_pass) {
    constexpr double smallest_gain = 1e-12;  // otherwise passes continue with vanishing gains
    panel_outcome result{.loss_before = state.loss()};
    std::vector<double> before = state.row_losses();
    for (result.passes = 1; result.passes <= max_passes; ++result.passes) {
        const index_t changes = one_pass(state);
        result.changes += changes;
        std::vector<double> now = state.row_losses();
        bool gains = false;  // each row against its own loss: a small row beside a large one has to get as far as alone
        for (std::size_t i = 0; i < now.size(); ++i) gains = gains || before[i] - now[i] > smallest_gain * before[i];
        before.swap(now);
        if (changes == 0 || !gains) break;
    }
    result.passes = (std::min)(result.passes, max_passes);
    result.loss_after = state.loss();
    return result;
}

/// Lets `refine` change each panel of a quantized matrix and its state. Each task takes one.
///
/// @param refine  returns the `panel_outcome` of a state
/// @param order   of the columns of H, which is damped
template <compute_scalar Scalar>
[[nodiscard]] refinement_result refine_panels(const quantized_matrix<Scalar>& q, std::type_identity_t<matrix_view<const Scalar>> W,
                                              const packed_gram& H, std::span<const index_t> order,
                                              state_function_ref<panel_outcome> refine, executor_ref exec) {
    std::vector<panel_outcome> panels(static_cast<std::size_t>((W.rows() + error_state::panel - 1) / error_state::panel));
    exec.parallel_for(static_cast<index_t>(panels.size()), [&](index_t task, index_t) {
        error_state state(q, W, H, order, task * error_state::panel);
        panels[static_cast<std::size_t>(task)] = refine(state);
    });
    refinement_result result;
    for (const panel_outcome& panel : panels) {
        result.passes = (std::max)(result.passes, panel.passes);
        result.changes += panel.changes;
        result.loss_before += panel.loss_before;
        result.loss_after += panel.loss_after;
    }
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
