// SPDX-License-Identifier: MIT
#pragma once

#include <optional>

#include <magr/grid/quantized_matrix.hpp>

namespace magr {

/// What `quantize_boa` did.
enum class boa_status {
    as_requested,        ///< BoA with the damping asked for
    damped_more,         ///< BoA with more damping of some matrix, or with a floor under its diagonal
    hessian_failed,      ///< nothing: H could not be factored
    row_hessian_failed,  ///< nothing: a row Hessian could not be factored
    overflowed           ///< nothing: weights or errors left the range of numbers
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(boa_status status) noexcept {
    switch (status) {
        case boa_status::as_requested: return "as_requested";
        case boa_status::damped_more: return "damped_more";
        case boa_status::hessian_failed: return "hessian_failed";
        case boa_status::row_hessian_failed: return "row_hessian_failed";
        case boa_status::overflowed: return "overflowed";
    }
    return "unknown";
}

/// How a BoA quantization went. Losses are sums over heads of tr((H_row + diag(a)) (Q - W) (H + diag(b)) (Q - W)^T) / 2, where a and b were
/// added to the diagonals of live entries; they are infinite if too large for a number.
struct boa_report {
    boa_status status = boa_status::hessian_failed;  ///< what was done
    std::optional<index_t> failed_row_hessian = {};  ///< the first row Hessian that could not be factored, if one could not
    double damping = 0;                              ///< of the last attempt to factor H, as a fraction of its mean diagonal entry
    double row_damping = 0;                          ///< the same of row Hessians: the largest
    index_t dead_inputs = 0;                         ///< columns with H_jj <= dead_threshold * mean
    index_t dead_rows = 0;                           ///< rows whose diagonal entry of the row Hessian is 0
    index_t clipped = 0;            ///< weights of live columns more than half a step outside of their grid when they were rounded
    storage_limits limits;          ///< grids at the ends of what their storage type can hold
    double loss = 0;                ///< of the result; unit of H times that of row Hessians times that of W squared
    double loss_before_scales = 0;  ///< the same before the scales were refined
    index_t scale_changes = 0;      ///< scales that refinement changed, in all passes; each change counts
};

/// Outcome of `quantize_boa`.
template <compute_scalar Scalar>
struct [[nodiscard]] boa_result : boa_report {
    quantized_matrix<Scalar> quantized;  ///< empty (0 x 0) if `status` says that nothing was quantized

    /// Whether there is a quantized matrix.
    [[nodiscard]] explicit operator bool() const noexcept { return !quantized.codes.empty(); }
};

}  // namespace magr
