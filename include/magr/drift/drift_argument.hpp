// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <type_traits>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/drift/drift.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// What functions accept as C = (X - Y)^T Y: a dense matrix or a drift_accumulator.
template <class Drift>
concept drift_like =
    std::is_same_v<Drift, drift_accumulator<float>> || std::is_same_v<Drift, drift_accumulator<double>> || dense_matrix<const Drift>;

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Refuses the drift of other tokens than those of H. A matrix does not tell how many there were.
/// @par Errors    value_error
inline void require_same_tokens(const char* function, std::optional<index_t> drift, std::optional<index_t> gram) {
    if (drift && *drift < 1) raise<value_error>(concat(function, ": C must be of at least 1 token, its accumulator has seen none"));
    if (drift && gram && *drift != *gram)
        raise<value_error>(concat(function, ": C must be of the same tokens as H, it is of ", *drift, " and H of ", *gram));
}

/// The caller's C, checked.
/// @par Errors    shape_error if C is not inputs x inputs; value_error if an entry is NaN or infinite, it is of another number of tokens
///                than H, of none, or its accumulator was interrupted
template <class Drift, class Gram>
    requires drift_like<Drift> && gram_like<Gram>
[[nodiscard]] matrix_ref checked_drift(const char* function, const Drift& C, const Gram& H, index_t inputs, executor_ref exec) {
    const auto check = [&](const matrix_ref& view) {
        require_shape(function, "C", view, inputs, inputs);
        require_finite(function, "C", view, exec);
        return view;
    };
    if constexpr (dense_matrix<const Drift>) {
        return check(as_const_view(C));
    } else {
        require_same_tokens(function, C.tokens(), tokens_of(H));
        return check(C.drift().view());
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
