// SPDX-License-Identifier: MIT
#pragma once

#include <magr/calibration/hessian.hpp>
#include <magr/detail/convert.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// W with zeros in dead columns.
template <compute_scalar Scalar>
[[nodiscard]] row_major_matrix<Scalar> without_dead(const matrix_ref& w, const hessian& H) {
    row_major_matrix<Scalar> out = load<Scalar>(w);
    for (index_t j = 0; j < w.cols(); ++j)
        if (H.is_dead(j)) out.col(j).setZero();
    return out;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
