// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/live_gram.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/linalg/cholesky.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/quantize/column_order.hpp>
#include <magr/quantize/feedback_factor.hpp>
#include <magr/quantize/fit_grid.hpp>
#include <magr/quantize/grid_quantizer.hpp>
#include <magr/quantize/output_error.hpp>
#include <magr/quantize/quantized_matrix.hpp>
#include <magr/quantize/rounding.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/quantize/sequential.hpp>
#include <magr/quantize/weight_grids.hpp>

namespace magr {

/// What becomes of the weights of dead columns, whose input was zero, or nearly so, in all of the calibration.
enum class dead_columns {
    round,  ///< rounded to nearest, on grids that other weights have made: to the end of the grid if they are outside
    zero,   ///< set to zero, as the published OPTQ code does, or to what is nearest to it on grids without 0
    refuse  ///< nothing is quantized, and the result says so
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(dead_columns policy) noexcept {
    switch (policy) {
        case dead_columns::round: return "round";
        case dead_columns::zero: return "zero";
        case dead_columns::refuse: return "refuse";
    }
    return "unknown";
}

/// What happens if H cannot be factored with the damping asked for.
enum class fallback {
    none,             ///< nothing is quantized
    more_damping,     ///< more damping, see `factor_feedback`; if that does not help either, nothing is quantized
    round_to_nearest  ///< more damping; if that does not help either, plain rounding
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(fallback value) noexcept {
    switch (value) {
        case fallback::none: return "none";
        case fallback::more_damping: return "more_damping";
        case fallback::round_to_nearest: return "round_to_nearest";
    }
    return "unknown";
}

/// How weights are rounded to their grids.
enum class rounding_mode {
    nearest,    ///< `round_half_even`
    stochastic  ///< `stochastic_rounding`
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(rounding_mode mode) noexcept {
    switch (mode) {
        case rounding_mode::nearest: return "nearest";
        case rounding_mode::stochastic: return "stochastic";
    }
    return "unknown";
}

/// How OPTQ goes about it; the grids are `grid_options`.
struct optq_options {
    double damping = 1e-2;                                ///< added to diag(H), as a fraction of its mean over live columns, >= 0
    index_t block_size = 128;                             ///< columns per matrix product, >= 1; with stale groups it changes the result
    column_order order = column_order::natural;           ///< in which order columns are quantized
    group_update groups = group_update::fixed;            ///< from which weights the grids of groups are fitted
    magr::dead_columns dead = magr::dead_columns::round;  ///< what becomes of dead columns
    double dead_threshold = 0;                            ///< columns with H_jj <= this fraction of the mean are dead, in [0, 1)
    fallback on_failure = fallback::more_damping;         ///< what happens if H cannot be factored
    rounding_mode rounding = rounding_mode::nearest;      ///< how weights are rounded
    std::uint64_t seed = 0;                               ///< of stochastic rounding
    factor_precision precision = factor_precision::automatic;  ///< in which H is factored
    bool measure_error = true;                                 ///< whether to compute `optq_report::output_error`: a third of the time
};

/// What `quantize_optq` did.
enum class optq_status {
    as_requested,          ///< OPTQ with the damping asked for
    damped_more,           ///< OPTQ with more damping, or with a floor under the diagonal of H
    rounded_to_nearest,    ///< H could not be factored: plain rounding, as `fallback::round_to_nearest` allows
    dead_columns_refused,  ///< nothing: there are dead columns, which `dead_columns::refuse` forbids
    failed,                ///< nothing: H could not be factored as far as `fallback` allows
    overflowed             ///< nothing: weights or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(optq_status status) noexcept {
    switch (status) {
        case optq_status::as_requested: return "as_requested";
        case optq_status::damped_more: return "damped_more";
        case optq_status::rounded_to_nearest: return "rounded_to_nearest";
        case optq_status::dead_columns_refused: return "dead_columns_refused";
        case optq_status::failed: return "failed";
        case optq_status::overflowed: return "overflowed";
    }
    return "unknown";
}

/// How an OPTQ quantization went.
struct optq_report {
    optq_status status = optq_status::failed;  ///< what was done
    double damping = 0;                        ///< of the last attempt, as a fraction of the mean diagonal entry
    double diagonal_floor = 0;                 ///< of the last attempt: diag(H) was raised to this; 0: it was not needed. Unit of H
    int attempts = 0;                          ///< dampings and floors tried
    factor_precision precision = factor_precision::float64;  ///< in which H was factored: float64 or float32
    index_t dead_columns = 0;                                ///< columns with H_jj <= dead_threshold * mean
    index_t clipped = 0;    ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;  ///< grids at the ends of what their storage type can hold
    double loss = 0;        ///< tr((Q - W) (H + diag(added)) (Q - W)^T) / 2; unit of H times that of W squared
    double loss_bound = 0;  ///< what `loss` cannot exceed if nothing was clipped: half the sum of D_k (s/2)^2, of D_k s^2 if stochastic
    std::optional<double> output_error = {};  ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), if it was measured

    /// Whether the bound held; no value if it does not apply, because weights were clipped or OPTQ did not run.
    [[nodiscard]] MAGR_ALWAYS_INLINE std::optional<bool> bound_held() const noexcept {
        if (clipped > 0 || (status != optq_status::as_requested && status != optq_status::damped_more)) return std::nullopt;
        return loss <= loss_bound * (1 + 1e-4);  // each step is rounded to the precision of the weights
    }
};

/// Outcome of `quantize_optq`.
template <compute_scalar Scalar>
struct [[nodiscard]] optq_result : optq_report {
    quantized_matrix<Scalar> quantized;  ///< empty (0 x 0) if `status` says that nothing was quantized

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

inline namespace MAGR_ISA_NAMESPACE {

/// What is wrong with these options; empty if nothing is.
[[nodiscard]] inline std::vector<std::string> problems(const optq_options& options) {
    detail::problem_list found("optq_options");
    found.require(options.damping >= 0 && detail::is_finite(options.damping), "damping", "at least 0 and finite", options.damping);
    found.require(options.block_size >= 1, "block_size", "at least 1", options.block_size);
    found.require_enumerator("order", options.order);
    found.require_enumerator("groups", options.groups);
    found.require_enumerator("dead", options.dead);
    found.require(options.dead_threshold >= 0 && options.dead_threshold < 1, "dead_threshold", "in [0, 1)", options.dead_threshold);
    found.require_enumerator("on_failure", options.on_failure);
    found.require_enumerator("rounding", options.rounding);
    found.require_enumerator("precision", options.precision);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// W with zeros in the place of dead columns.
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] row_major_matrix<Scalar> without_dead(matrix_view<T> w, const live_gram<U>& gram) {
    row_major_matrix<Scalar> out = load<Scalar>(w);
    for (index_t j = 0; j < w.cols(); ++j)
        if (gram.is_dead(j)) out.col(j).setZero();
    return out;
}

/// Writes some rows of W, its columns in another order, as a strip of `row_strips`.
template <compute_scalar Scalar, class T>
void load_strip(matrix_view<T> w, std::span<const index_t> order, Scalar* strip) {
    constexpr index_t height = row_strips<Scalar>::height;
    constexpr index_t panel = 256;  // columns whose part of the strip stays in cache
    if (w.rows() < height) std::fill_n(strip, height * w.cols(), Scalar(0));
    for (index_t first = 0; first < w.cols(); first += panel) {
        const index_t last = (std::min)(first + panel, w.cols());
        const auto copy = [&](index_t i, index_t k) {
            strip[k * height + i] = static_cast<Scalar>(w(i, order[static_cast<std::size_t>(k)]));
        };
        if (w.row_stride() < w.col_stride())
            for (index_t k = first; k < last; ++k)
                for (index_t i = 0; i < w.rows(); ++i) copy(i, k);
        else
            for (index_t i = 0; i < w.rows(); ++i)
                for (index_t k = first; k < last; ++k) copy(i, k);
    }
}

/// Half the sum of D_k (s/2)^2 over all weights, s the widest step of their grid.
template <compute_scalar Scalar>
[[nodiscard]] double loss_bound_of(const quantized_matrix<Scalar>& q, std::span<const index_t> order, std::span<const double> pivots) {
    double widest = 1;
    for (std::size_t c = 1; c < q.levels.size(); ++c) {
        const double gap = static_cast<double>(q.levels[c]) - static_cast<double>(q.levels[c - 1]);
        widest = c == 1 ? gap : (std::max)(widest, gap);
    }
    std::vector<double> squares(static_cast<std::size_t>(q.scales.cols()));
    for (index_t i = 0; i < q.scales.rows(); ++i)
        for (index_t g = 0; g < q.scales.cols(); ++g) {
            const double half = widest * static_cast<double>(q.scales(i, g)) / 2;
            squares[static_cast<std::size_t>(g)] += half * half;
        }
    double bound = 0;
    for (std::size_t k = 0; k < order.size(); ++k)
        bound += 0.5 * pivots[k] * squares[static_cast<std::size_t>(q.group_of_column[static_cast<std::size_t>(order[k])])];
    return bound;
}

template <compute_scalar Scalar>
[[nodiscard]] bool has_finite_grids(const weight_grids<Scalar>& grids) {
    const auto finite = [](const matrix<Scalar>& m) {
        return std::all_of(m.data(), m.data() + m.rows() * m.cols(), [](Scalar value) { return is_finite(value); });
    };
    return finite(grids.scales) && finite(grids.zeros);
}

/// Codes for W. `fitter` is null if the grids are fixed.
template <compute_scalar Scalar, class T, class Rounding>
[[nodiscard]] sequential_sums quantize_columns(matrix_view<T> w, const feedback_factor<Scalar>& factor, std::span<const index_t> order,
                                               const optq_options& options, const grid_fitter<Scalar>* fitter, const Rounding& rounding,
                                               optq_result<Scalar>& result, executor_ref exec) {
    const auto load = [&](index_t row, index_t rows, Scalar* strip) { load_strip(w.block(row, 0, rows, w.cols()), order, strip); };
    const auto run = [&](auto&& quantizer) {
        const sequential_pass<Scalar> pass(factor.feedback.view(), options.block_size, exec);
        const auto finish = [&](index_t row, index_t rows, const Scalar*) { quantizer.store_codes(row, rows); };
        auto sums = pass.run(w.rows(), load, quantizer, finish, options.measure_error, exec);
        result.clipped = quantizer.clipped();
        return sums;
    };
    if (fitter == nullptr) return run(grid_quantizer<Scalar, Rounding>(result.quantized, order, factor.pivots, rounding));
    const auto runs = group_runs(order, result.quantized.group_size, options.order == column_order::act_order);
    return run(fitting_quantizer<Scalar, Rounding>(result.quantized, order, factor.pivots, rounding, runs, *fitter, options.groups));
}

/// What OPTQ makes of H alone, for all weights that have these inputs.
template <compute_scalar Scalar>
struct optq_plan {
    index_t group_size;
    std::vector<index_t> order;
    feedback_factor<Scalar> factor;
};

/// @param h       of a `live_gram`, so that the threshold has been applied
template <compute_scalar Scalar, class U>
[[nodiscard]] optq_plan<Scalar> make_optq_plan(matrix_view<U> h, index_t group_size, const optq_options& options, executor_ref exec) {
    std::vector<index_t> order = order_columns(h, options.order, group_size);
    feedback_factor<Scalar> factor = factor_feedback<Scalar>(
        h, order, {.damping = options.damping, .raise_damping = options.on_failure != fallback::none, .precision = options.precision},
        exec);
    return {group_size, std::move(order), std::move(factor)};
}

/// OPTQ after all checks. Grids that are not given are fitted, as the options say.
/// @param w       with zeros in the place of dead columns if that is the policy
/// @param h       of a `live_gram`
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] optq_result<Scalar> run_optq(matrix_view<T> w, matrix_view<U> h, const optq_plan<Scalar>& plan,
                                           const weight_grids<Scalar>* given, const grid_options& grid, const optq_options& options,
                                           executor_ref exec) {
    const auto& [group_size, order, factor] = plan;
    optq_result<Scalar> result;
    result.damping = factor.damping;
    result.diagonal_floor = factor.diagonal_floor;
    result.attempts = factor.attempts;
    result.precision = factor.precision;
    result.dead_columns = static_cast<index_t>(factor.dead.size());
    if (result.dead_columns > 0 && options.dead == dead_columns::refuse) {
        result.status = optq_status::dead_columns_refused;
        return result;
    }
    if (factor.status == factorization::failed) {
        if (options.on_failure != fallback::round_to_nearest) return result;
        const auto round = [&](const auto& rounding) {
            return round_onto_grids(w, given != nullptr ? *given : fit_grids<Scalar>(w, h, grid, exec), rounding);
        };
        result.status = optq_status::rounded_to_nearest;
        result.quantized = options.rounding == rounding_mode::nearest ? round(round_half_even{}) : round(stochastic_rounding{options.seed});
        result.limits = count_storage_limits(result.quantized);
        if (options.measure_error) result.output_error = output_error(w, result.quantized.dequantize(), h, exec);
        return result;
    }
    result.status = factor.status == factorization::as_requested ? optq_status::as_requested : optq_status::damped_more;

    // one group per row has no earlier columns that could have changed its weights
    const bool fixed = given != nullptr || options.groups == group_update::fixed || groups_per_row(grid, w.cols()) == 1;
    std::optional<grid_fitter<Scalar>> fitter;
    if (given != nullptr) {
        static_cast<weight_grids<Scalar>&>(result.quantized) = *given;
    } else if (fixed) {
        static_cast<weight_grids<Scalar>&>(result.quantized) = fit_grids<Scalar>(w, h, grid, exec);
    } else {
        static_cast<weight_grids<Scalar>&>(result.quantized) = make_weight_grids<Scalar>(w.rows(), w.cols(), grid);
        fitter.emplace(grid, h, group_runs(order, group_size, options.order == column_order::act_order), order);
    }
    result.quantized.codes = matrix<std::uint8_t>(w.rows(), w.cols());

    const grid_fitter<Scalar>* const live = fitter ? &*fitter : nullptr;
    const sequential_sums sums = options.rounding == rounding_mode::nearest
                                     ? quantize_columns(w, factor, order, options, live, round_half_even{}, result, exec)
                                     : quantize_columns(w, factor, order, options, live, stochastic_rounding{options.seed}, result, exec);
    const auto weighted = [](const std::vector<double>& weights, const std::vector<double>& of_columns) {
        double sum = 0;
        for (std::size_t k = 0; k < weights.size(); ++k)
            if (weights[k] != 0) sum += weights[k] * of_columns[k];  // what overflowed in a dead column costs nothing
        return sum;
    };
    // tr(W (H + diag(added)) W^T) = sum_k D_k ||(W T)_k||^2
    const double energy = weighted(factor.pivots, sums.energies) - weighted(factor.added, sums.weights);
    result.loss = 0.5 * weighted(factor.pivots, sums.rounding_errors);
    result.loss_bound = loss_bound_of(result.quantized, order, factor.pivots) * (options.rounding == rounding_mode::nearest ? 1 : 4);
    result.limits = count_storage_limits(result.quantized);
    if (options.measure_error) result.output_error = error_ratio(2 * result.loss - weighted(factor.added, sums.residuals), energy);
    if (!detail::is_finite(result.loss) || !detail::is_finite(energy) || !has_finite_grids(result.quantized)) {
        result.status = optq_status::overflowed;
        result.quantized = {};
    }
    return result;
}

/// The same with a plan of its own, and for an H as it was passed in.
template <compute_scalar Scalar, class T, class U>
[[nodiscard]] optq_result<Scalar> run_optq(matrix_view<T> w, const live_gram<U>& gram, matrix_view<U> h, const weight_grids<Scalar>* given,
                                           const grid_options& grid, const optq_options& options, executor_ref exec = {}) {
    const index_t group_size = given != nullptr ? given->group_size : columns_per_group(grid, w.cols());
    const auto plan = make_optq_plan<Scalar>(gram.view(), group_size, options, exec);
    const auto run = [&](auto weights) { return run_optq<Scalar>(weights, gram.view(), plan, given, grid, options, exec); };
    auto result = options.dead == dead_columns::zero && gram.has_dead() ? run(as_const_view(without_dead<Scalar>(w, gram))) : run(w);
    // what is nearly dead has a share in the error all the same
    if (gram.is_copy() && options.measure_error && result) result.output_error = output_error(w, result.quantized.dequantize(), h, exec);
    return result;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Bytes that `quantize_optq` needs at its peak, its result among them, beyond W, H and what the executor allocates itself.
///
/// Two peaks compete: factoring H, with T and one more matrix of H's size, and quantizing, with T twice (the second time half of it), codes
/// and grids twice, and 256 rows per worker.
///
/// @tparam T         storage type of W; that of H does not matter
/// @param workers    `concurrency()` of the executor
/// @return           at least the bytes, and within 1% where no column is dead and no threshold asked for, if the first attempt to factor H
///                   succeeds: `factor_precision::automatic` goes on in double where it does not, with a matrix of cols x cols doubles in
///                   the place of floats. `dead_columns::zero` counts as if there were some (a copy of W), a `dead_threshold` as if it
///                   found some (a copy of H, taken for double, and with `measure_error` the weights and H once more). Not counted is what
///                   a search for ranges needs, some rows of a group (for `row_output_error` the blocks of H on the diagonal, too)
/// @par Errors       shape_error (rows or cols < 1), option_error (as `quantize_optq`, workers < 1)
template <storage_scalar T>
[[nodiscard]] std::size_t workspace_bytes(index_t rows, index_t cols, const grid_options& grid, const optq_options& options,
                                          index_t workers = 1) {
    using scalar = compute_t<T>;
    if (rows < 1 || cols < 1) detail::raise<shape_error>(detail::concat("workspace_bytes: W must not be empty, it is ", rows, " x ", cols));
    validate(grid);
    validate(options);
    detail::require_option(workers >= 1, "workspace_bytes", "workers", "at least 1", workers);
    const auto bytes = [](index_t numbers, std::size_t size) { return static_cast<std::size_t>(numbers) * size; };
    const bool in_double = options.precision == factor_precision::float64 ||
                           (options.precision == factor_precision::automatic && std::is_same_v<scalar, double>);
    const std::size_t plan = bytes(cols * cols, sizeof(scalar)) + bytes(cols, sizeof(index_t) + 2 * sizeof(double));
    const std::size_t factoring = bytes(cols, 1) + (in_double ? bytes(cols * cols + linalg::cholesky_elements<double>(cols), sizeof(double))
                                                              : bytes(cols * cols + linalg::cholesky_elements<float>(cols), sizeof(float)));
    const std::size_t codes = bytes(rows * cols, 1) + bytes(2 * rows * groups_per_row(grid, cols), sizeof(scalar));
    const std::size_t quantizing =
        2 * codes + bytes(rows + cols, sizeof(index_t)) + detail::sequential_pass<scalar>::bytes(rows, cols, options.block_size, workers);
    const std::size_t zeroed = options.dead == dead_columns::zero ? bytes(rows * cols, sizeof(scalar)) : 0;
    if ((std::max)(grid.dead_threshold, options.dead_threshold) <= 0) return plan + (std::max)(factoring, zeroed + quantizing);
    const std::size_t copy = bytes(cols * cols, sizeof(double));
    const std::size_t measuring =
        options.measure_error ? codes + bytes(rows * cols, sizeof(scalar)) + detail::output_meter::bytes(rows, cols, workers) : 0;
    return copy + plan + (std::max)({factoring, zeroed + quantizing, measuring});
}

/// Quantizes a weight matrix column by column, each column making up for the output error of those before it.
///
/// Approximately solves, row by row,
///
///   min_Q  tr((Q - W) (H + diag(added)) (Q - W)^T)     Q on the grids of `fit_grids`, added = damping * mean(diag H)
///
/// by rounding the columns in `order`; in each step the columns still to come are the least-squares optimum given those already rounded.
///
/// @par Shapes    W: rows x cols, any storage and layout; H: cols x cols, any storage and layout, X^T X up to a positive factor;
///                neither is written
/// @return        codes and grids, and how it went; look at `status`: nothing is ever put in the place of what was asked for without
///                saying so
/// @par Cost      rows * cols^2 multiply-adds in Scalar (half of them for `measure_error`) and cols^3 / 6 for the factor of H; live and
///                stale groups that reach beyond their block add rows * cols^2 / 2. `workspace_bytes` says what it allocates. The tasks of
///                `exec` are 256 rows each, for grids 32
/// @par Numerics  weights and errors are Scalar: float, or double for double weights; `precision` is that of the factor of H. H times a
/// positive factor gives the
///                same codes as long as no rounding error decides a tie. `loss` is what the rounding errors sum up to, and
///                `output_error` is derived from it: it agrees with magr::output_error to about the precision of Scalar. The same bits
///                for every executor
/// @par Errors    option_error; shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix. All before any work
/// @par Source    E. Frantar et al., OPTQ (arXiv 2210.17323), computed as LDLQ (QuIP, arXiv 2307.13304). Differs from the published code:
///                no inverse of H; dead columns are rounded unless told otherwise, and enter neither the mean of diag(H) nor the ranges of
///                grids; groups are `fixed` unless told otherwise
template <class Weights, class Gram>
auto quantize_optq(const Weights& W, const Gram& H, const grid_options& grid = {}, const optq_options& options = {},
                   executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    using scalar = compute_t<typename decltype(w)::value_type>;
    validate(grid);
    validate(options);
    detail::require_layer("quantize_optq", w, h, exec);
    return detail::run_optq<scalar>(w, detail::live_gram(h, (std::max)(grid.dead_threshold, options.dead_threshold)), h, nullptr, grid,
                                    options, exec);
}

/// The same on grids that are given: those of another matrix (of MagR's weights, while W are the original ones), of a file format, or
/// one's own.
///
/// @par Errors    also those of `require_grids`; option_error if `groups` is not fixed
template <class Weights, class Gram, compute_scalar Scalar>
auto quantize_optq(const Weights& W, const Gram& H, const weight_grids<Scalar>& grids, const optq_options& options = {},
                   executor_ref exec = {}) {
    const auto w = as_const_view(W);
    const auto h = as_const_view(H);
    static_assert(std::is_same_v<Scalar, compute_t<typename decltype(w)::value_type>>,
                  "magr: grids must be double for double weights, float for others");
    validate(options);
    if (options.groups != group_update::fixed)
        detail::raise<option_error>("quantize_optq: groups must be fixed where grids are given, it is live or stale");
    detail::require_layer("quantize_optq", w, h, exec);
    require_grids("quantize_optq", grids, w.rows(), w.cols());
    return detail::run_optq<Scalar>(w, detail::live_gram(h, options.dead_threshold), h, &grids, {}, options, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
