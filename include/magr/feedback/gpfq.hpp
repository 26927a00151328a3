// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// The feedback of GPFQ: each column compensates for the output error so far as well as it can alone,
///
///   q_k = argmin_p ||u + w_k X_k - p X_k||,   u <- u + (w_k - q_k) X_k         X_k: input k over all tokens
///
/// so T_jk = H_jk / H_kk. It needs neither a factorization nor damping, but leaves more error than `ldl_feedback`, which shares the error
/// among all remaining columns. Use it if H is far from invertible, or as a baseline.
///
/// Nothing is returned if an entry of T is too large for Scalar.
///
/// @par Cost      n^2 divisions; allocates T
/// @par Numerics  quotients in double, rounded to Scalar; the lower triangle of H is read
/// @par Source    GPFQ (arXiv 2201.11113) for equal inputs of both networks
struct gpfq_feedback {
    template <compute_scalar Scalar>
    [[nodiscard]] std::optional<matrix<Scalar>> make(const hessian& H, std::span<const index_t> order, executor_ref exec) const {
        const index_t n = H.inputs();
        const detail::matrix_ref& h = H.live().view();
        matrix<Scalar> feedback(n, n);
        std::vector<index_t> position(order.size());
        for (std::size_t k = 0; k < order.size(); ++k) position[static_cast<std::size_t>(order[k])] = static_cast<index_t>(k);
        const auto at = [&](index_t j) { return position[static_cast<std::size_t>(j)]; };
        exec.parallel_for(n, [&](index_t a, index_t) {  // the tasks write to different elements of T
            h.visit_row(a, 0, a, [&](index_t b, double value) {
                const index_t late = at(a) > at(b) ? a : b;
                if (!H.is_dead(late)) feedback(at(late), at(a) > at(b) ? at(b) : at(a)) = static_cast<Scalar>(value / h(late, late));
            });
            feedback(at(a), at(a)) = 1;
        });
        if (!detail::is_finite(feedback.view())) return std::nullopt;
        return feedback;
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
