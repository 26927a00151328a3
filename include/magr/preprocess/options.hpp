// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <magr/detail/validate.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// How the MagR problem is solved.
enum class preprocess_solver {
    admm,               ///< ADMM in the diagonal metric of H with a duality-gap certificate: the fast one
    proximal_gradient,  ///< the iteration of the paper's authors, for comparison
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(preprocess_solver value) noexcept {
    switch (value) {
        case preprocess_solver::admm: return "admm";
        case preprocess_solver::proximal_gradient: return "proximal_gradient";
    }
    return "unknown";
}

/// Options of `preprocess`. Options without a value are derived; each comment ends with the default.
struct preprocess_options {
    std::optional<double> alpha = {};  ///< l_inf penalty in the units of H / lambda_max(H), at least 0; 1e-3, or 1e-4 with groups (paper)
    /// inputs per group, at least 1, the last group may be shorter; the whole row, in `quantize_layer` that of the grid
    std::optional<index_t> group_size = {};
    preprocess_solver solver = preprocess_solver::admm;  ///< which algorithm
    /// added to diag(H), as a fraction of its mean over live columns, >= 0; 1e-2 for admm, 0 for proximal_gradient (authors)
    std::optional<double> damping = {};
    std::optional<index_t> max_iterations = {};  ///< at least 1; 100 for admm, 200 for proximal_gradient (authors)
    /// stop at this relative duality gap, at least 0; 0: never; 1e-3 for admm, 0 for proximal_gradient (authors). With float weights,
    /// rounding may keep the gap above 1e-6, see `preprocess_result`
    std::optional<double> tolerance = {};
    std::optional<double> rho = {};  ///< admm: step in the metric of diag H, above 0; chosen from the spectrum of H, from 0.01 to 0.35
    double relaxation = 1.5;         ///< admm: over-relaxation, between 0 and 2 exclusively
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options, with option, range and value; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const preprocess_options& options);

}  // namespace MAGR_ISA_NAMESPACE

}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/preprocess/options_impl.hpp>
#endif
