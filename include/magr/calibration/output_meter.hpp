// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <limits>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// error / energy: 0 without an error, whatever the energy, and infinite if there is an error but no energy.
[[nodiscard]] inline double error_ratio(double error, double energy) {
    if (error <= 0) return 0;  // rounding can make a zero error slightly negative
    return energy > 0 ? error / energy : std::numeric_limits<double>::infinity();
}

/// Measures several replacements of the same weights. The same bits for every executor. Weights and H may be of any size: powers of two
/// bring both near 1, so that no square overflows. Dead columns (H_jj = 0) do not count.
class output_meter {
public:
    /// Upper bound of the bytes that it needs, including measurements.
    [[nodiscard]] static std::size_t bytes(index_t rows, index_t cols, index_t workers) noexcept;

    output_meter(const matrix_ref& W, const hessian& H, executor_ref exec);

    /// tr((Q - W) H (Q - W)^T) / tr(W H W^T)
    [[nodiscard]] double error(const matrix_ref& W, const matrix_ref& Q, executor_ref exec) const;

    /// Whether tr(W H W^T) > 0, so that ratios are finite.
    [[nodiscard]] bool has_energy() const noexcept { return energy_.value > 0; }

private:
    /// value * 4^exponent
    struct scaled_sum {
        double value = 0;
        int exponent = 0;
    };

    /// The energy of W, or of Q - W.
    [[nodiscard]] scaled_sum energy_of(const matrix_ref& W, const matrix_ref* Q, executor_ref exec) const;

    const matrix<double>& gram_;  // remembered by H, which must live as long
    scaled_sum energy_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

#ifndef MAGR_COMPILED
#include <magr/calibration/output_meter_impl.hpp>
#endif
