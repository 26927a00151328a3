// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/largest_eigenvalue.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {

/// `preprocess_options` with every default filled in that does not depend on H.
struct solver_settings {
    double alpha;
    index_t group_size;
    double damping;
    index_t max_iterations;
    double tolerance;
    std::optional<double> rho;  // no value: chosen for each row from the spectrum of H and the penalty
    double relaxation;
};

inline namespace MAGR_ISA_NAMESPACE {

/// Tolerated rounding error of an objective, relative to it. Rows that would exceed it are solved in double.
[[nodiscard]] inline double allowed_rounding(const solver_settings& settings) noexcept {
    return settings.tolerance > 0 ? settings.tolerance / 16 : 1e-4;
}

/// The MagR problem of a layer, in the units of the solvers:
///
///     min_w  1/2 (w - w0)^T H_d (w - w0) + alpha * sum over groups of ||w_g||_inf    for every row w0,   H_d = unit scale H + shift I
///
/// Weights of dead inputs, those with H_jj = 0, are not part of it: the solvers see zeros there.
struct layer_problem {
    matrix_ref H;             ///< as passed in, or its transpose, so that its columns are contiguous if anything is; in x in
    index_t group_size = 0;   ///< inputs per group; the last group may be shorter
    double lambda_max = 0;    ///< largest eigenvalue of H
    double scale = 0;         ///< a power of two that multiplies H first, to bring it near 1
    double unit = 0;          ///< 1 / largest eigenvalue of scale H, 0 if there is none
    double mean = 0;          ///< of the diagonal of live inputs
    double shift = 0;         ///< added to the diagonal by damping: its fraction of that mean
    Eigen::ArrayXd diagonal;  ///< of H / lambda_max
    std::vector<char> dead;   ///< whether H_jj is 0

    [[nodiscard]] index_t cols() const noexcept { return H.cols(); }
    [[nodiscard]] index_t groups() const noexcept { return (cols() + group_size - 1) / group_size; }
    [[nodiscard]] bool is_dead(index_t j) const noexcept { return dead[static_cast<std::size_t>(j)] != 0; }

    /// An entry of H / lambda_max.
    [[nodiscard]] double entry(index_t i, index_t j) const noexcept { return unit * (scale * H(i, j)); }

    /// to <- entries (i, j), .. (i + count - 1, j) of H / lambda_max
    void load_column(index_t i, index_t j, index_t count, double* to) const noexcept {
        H.load_column(i, j, count, to);
        for (index_t k = 0; k < count; ++k) to[k] = unit * (scale * to[k]);
    }

    /// Calls `visit(group, first input, number of inputs)` for every group.
    template <class Visit>
    void for_each_group(Visit&& visit) const {
        for (index_t g = 0, j = 0; j < cols(); ++g, j += group_size) visit(g, j, (std::min)(group_size, cols() - j));
    }
};

/// The largest eigenvalue of scale H.
struct scaled_eigenvalue {
    double value;
};

/// @param damping added to the diagonal, as a fraction of its mean over live inputs
template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] layer_problem make_layer_problem(const hessian& source, index_t group_size, double damping) {
    const matrix_ref& H = source.live().view();
    layer_problem problem;
    problem.H = H.row_stride() <= H.col_stride() ? H : H.transposed();
    problem.group_size = (std::min)(group_size, H.cols());
    problem.scale = unit_scale(H);
    const auto eigenvalue =
        source.remember<scaled_eigenvalue>({}, [&] { return scaled_eigenvalue{largest_eigenvalue<Instance>(problem.H, problem.scale)}; });
    problem.lambda_max = eigenvalue.value / problem.scale;
    problem.unit = eigenvalue.value > 0 ? 1 / eigenvalue.value : 0;
    problem.diagonal.resize(H.cols());
    for (index_t j = 0; j < H.cols(); ++j) {
        problem.diagonal(j) = problem.entry(j, j);
        problem.dead.push_back(H(j, j) == 0 ? 1 : 0);
    }
    const auto live = std::count(problem.dead.begin(), problem.dead.end(), 0);
    if (live > 0) problem.mean = problem.diagonal.sum() / static_cast<double>(live);
    problem.shift = damping * problem.mean;
    return problem;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
