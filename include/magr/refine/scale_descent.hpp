// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/grid_weights.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Columns first..last-1, in an order that keeps groups together. Their grids share one stored number.
struct scale_run {
    index_t first;
    index_t last;
    index_t parameter;  ///< column of the matrix that holds the stored number
};

/// The columns of a quantized matrix, those whose grids share a stored number together.
class scale_runs {
public:
    template <compute_scalar Scalar>
    explicit scale_runs(const quantized_matrix<Scalar>& Q) : order_(static_cast<std::size_t>(Q.codes.cols())) {
        const auto parameter = [&](index_t j) {
            const index_t group = Q.group_of_column[static_cast<std::size_t>(j)];
            return Q.shared.groups > 0 ? group / Q.shared.groups : group;
        };
        // columns by parameter, those of one in their order
        std::vector<index_t> next(static_cast<std::size_t>(Q.scales.cols() + 1));  // for each parameter: where its next column goes
        for (index_t j = 0; j < Q.codes.cols(); ++j) ++next[static_cast<std::size_t>(parameter(j) + 1)];
        std::partial_sum(next.begin(), next.end(), next.begin());
        for (index_t j = 0; j < Q.codes.cols(); ++j) order_[static_cast<std::size_t>(next[static_cast<std::size_t>(parameter(j))]++)] = j;
        for (index_t k = 0; k < Q.codes.cols(); ++k) {
            const index_t p = parameter(order_[static_cast<std::size_t>(k)]);
            if (runs_.empty() || runs_.back().parameter != p) runs_.push_back({k, k, p});
            runs_.back().last = k + 1;
        }
    }

    [[nodiscard]] const std::vector<index_t>& order() const noexcept { return order_; }
    [[nodiscard]] auto begin() const noexcept { return runs_.begin(); }
    [[nodiscard]] auto end() const noexcept { return runs_.end(); }

private:
    std::vector<index_t> order_;
    std::vector<scale_run> runs_;
};

/// Which number of a grid is refined.
enum class grid_parameter { scale, zero };

/// Refines the stored numbers of one run in some rows: those of a group, or of the groups that share them.
template <compute_scalar Scalar>
class parameter_refiner {
public:
    parameter_refiner(quantized_matrix<Scalar>& q, const packed_gram& H, std::span<const index_t> order) : q_(q), H_(H), order_(order) {}

    /// Refines the scales, then the zero points if weights are not on a grid through 0.
    /// @return  how many numbers changed
    [[nodiscard]] index_t refine(const scale_run& run, error_state& state) {
        const index_t width = run.last - run.first;
        row_major_matrix<double> gradient = state.gradient.middleCols(run.first, width);
        row_major_matrix<double> change = row_major_matrix<double>::Zero(state.rows(), width);
        index_t changes = refine(run, grid_parameter::scale, state, gradient, change);
        if (!has_code_zero(q_.zero_point)) changes += refine(run, grid_parameter::zero, state, gradient, change);
        if (changes == 0) return 0;
        state.error.middleCols(run.first, width) += change;
        if (width == H_.cols())
            state.gradient = gradient;
        else
            H_.add_product(as_const_view(change), run.first, as_view(state.gradient), state.scratch.data());
        return changes;
    }

private:
    /// @param gradient  in the columns of the run; is kept up to date
    /// @param change    of the weights: what this changes is added
    [[nodiscard]] index_t refine(const scale_run& run, grid_parameter which, error_state& state, row_major_matrix<double>& gradient,
                                 row_major_matrix<double>& change) {
        const index_t width = gradient.cols(), rows = gradient.rows();
        // the derivative of each weight with respect to the stored number
        row_major_matrix<double> direction(rows, width);
        for (index_t i = 0; i < rows; ++i)
            load_derivatives(run, state.first_row + i, which, std::span(&direction(i, 0), static_cast<std::size_t>(width)));
        row_major_matrix<double> product = H_.own_product(as_const_view(direction), run.first, state.scratch.data());

        row_major_matrix<double> step = row_major_matrix<double>::Zero(rows, width);
        std::vector<Scalar> before(static_cast<std::size_t>(rows));
        for (index_t i = 0; i < rows; ++i) {
            const index_t row = state.first_row + i;
            before[static_cast<std::size_t>(i)] = get(row, run, which);
            const double slope = direction.row(i).dot(gradient.row(i)), curvature = direction.row(i).dot(product.row(i));
            if (!(curvature > 0)) continue;
            double wanted = static_cast<double>(get(row, run, which)) - slope / curvature;
            if (shares() && which == grid_parameter::zero) wanted = (std::max)(wanted, 0.0);  // ggml stores no negative ones
            if (!is_finite(wanted) || (which == grid_parameter::scale && wanted <= 0)) continue;
            const std::vector<Scalar> old = weights(run, row);
            set(row, run, which, wanted);
            if (!has_finite_weights(row, run)) {
                restore(row, run, which, before[static_cast<std::size_t>(i)]);
                continue;
            }
            const std::vector<Scalar> now = weights(run, row);
            for (std::size_t k = 0; k < now.size(); ++k)
                step(i, static_cast<index_t>(k)) = static_cast<double>(now[k]) - static_cast<double>(old[k]);
        }
        // The stored number differs slightly from the wanted one, so keep it only if it still lowers the loss.
        product = H_.own_product(as_const_view(step), run.first, state.scratch.data());
        index_t changes = 0;
        for (index_t i = 0; i < rows; ++i) {
            const double gain = step.row(i).dot(gradient.row(i) + 0.5 * product.row(i));
            if (!(gain < 0) || !is_finite(gain)) {  // squares of huge weights may overflow
                restore(state.first_row + i, run, which, before[static_cast<std::size_t>(i)]);
                continue;
            }
            change.row(i) += step.row(i);
            gradient.row(i) += product.row(i);
            ++changes;
        }
        return changes;
    }

    [[nodiscard]] bool shares() const { return q_.shared.groups > 0; }
    [[nodiscard]] index_t column(index_t k) const { return order_[static_cast<std::size_t>(k)]; }
    [[nodiscard]] index_t group(index_t k) const { return q_.group_of_column[static_cast<std::size_t>(column(k))]; }

    /// The derivatives of the weights of a row, in the columns of the run, with respect to the stored number.
    void load_derivatives(const scale_run& run, index_t row, grid_parameter which, std::span<double> out) const {
        if (which == grid_parameter::zero) {
            for (index_t k = run.first; double& value : out) {
                const index_t g = group(k++);
                value = shares()                              ? -static_cast<double>(q_.shared.offset_codes(row, g))
                        : q_.zero_point == zero_point::offset ? 1
                                                              : -static_cast<double>(q_.scales(row, g));
            }
            return;
        }
        with_code_map(q_, [&](const auto& map_of) {
            for (index_t k = run.first; double& value : out) {
                // the weight at scale 1, without its offset
                const index_t j = column(k), g = group(k++);
                const Scalar zero = q_.zero_point == zero_point::offset ? Scalar(0) : q_.zeros(row, g);
                const auto steps = static_cast<double>(weight_of_code(map_of(Scalar(1), zero), static_cast<Scalar>(q_.codes(row, j))));
                value = shares() ? steps * q_.shared.scale_codes(row, g) : steps;
            }
        });
    }

    [[nodiscard]] std::vector<Scalar> weights(const scale_run& run, index_t row) const {
        std::vector<Scalar> out(static_cast<std::size_t>(run.last - run.first));
        with_code_map(q_, [&](const auto& map_of) {
            for (index_t k = run.first; k < run.last; ++k) {
                const auto map = map_of(q_.scales(row, group(k)), q_.zeros(row, group(k)));
                out[static_cast<std::size_t>(k - run.first)] = weight_of_code(map, static_cast<Scalar>(q_.codes(row, column(k))));
            }
        });
        return out;
    }

    /// Whether all weights of the grids of the run are finite.
    [[nodiscard]] bool has_finite_weights(index_t row, const scale_run& run) const {
        const index_t begin = shares() ? run.parameter * q_.shared.groups : run.parameter;
        const index_t end = shares() ? (std::min)(begin + q_.shared.groups, q_.scales.cols()) : begin + 1;
        for (index_t g = begin; g < end; ++g)
            if (infinite_weight(q_, q_.scales(row, g), q_.zeros(row, g)) != 0) return false;
        return true;
    }

    [[nodiscard]] Scalar get(index_t row, const scale_run& run, grid_parameter which) const {
        if (shares()) return which == grid_parameter::scale ? q_.shared.scales(row, run.parameter) : q_.shared.offsets(row, run.parameter);
        return which == grid_parameter::scale ? q_.scales(row, run.parameter) : q_.zeros(row, run.parameter);
    }

    void set(index_t row, const scale_run& run, grid_parameter which, double wanted) {
        const storage_type storage = shares() ? storage_type::f16 : q_.storage;
        const double multiple = largest_multiple(q_.bits, q_.levels);
        restore(
            row, run, which,
            which == grid_parameter::scale ? store_scale<Scalar>(wanted, storage, multiple) : round_to_storage<Scalar>(wanted, storage));
    }

    void restore(index_t row, const scale_run& run, grid_parameter which, Scalar value) {
        if (!shares()) {
            (which == grid_parameter::scale ? q_.scales : q_.zeros)(row, run.parameter) = value;
            return;
        }
        (which == grid_parameter::scale ? q_.shared.scales : q_.shared.offsets)(row, run.parameter) = value;
        const index_t end = (std::min)((run.parameter + 1) * q_.shared.groups, q_.scales.cols());
        for (index_t g = run.parameter * q_.shared.groups; g < end; ++g) {
            if (which == grid_parameter::scale)
                q_.scales(row, g) = value * static_cast<Scalar>(q_.shared.scale_codes(row, g));
            else
                q_.zeros(row, g) = shared_offset(value, q_.shared.offset_codes(row, g));
        }
    }

    quantized_matrix<Scalar>& q_;
    const packed_gram& H_;
    std::span<const index_t> order_;
};

/// Refines every stored number in some rows once. Returns how many changed.
/// @param H  damped, in the order of the runs
template <compute_scalar Scalar>
[[nodiscard]] index_t refine_runs(quantized_matrix<Scalar>& Q, const packed_gram& H, const scale_runs& runs, error_state& state) {
    parameter_refiner<Scalar> refiner(Q, H, runs.order());
    index_t changes = 0;
    for (const scale_run& run : runs) changes += refiner.refine(run, state);
    return changes;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
