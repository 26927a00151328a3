// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include <magr/calibration/hessian.hpp>
#include <magr/calibration/output_meter.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// The parts of `output_error` that belong to the weights which became 0 and to all others. The two do not add up: the cross term, of
/// either sign, is the rest.
struct underflow_report {
    double underflow = 0;  ///< tr(du H du^T) / tr(W H W^T), >= 0
    double rest = 0;       ///< tr(dr H dr^T) / tr(W H W^T), >= 0
    double cross = 0;      ///< 2 tr(du H dr^T) / tr(W H W^T); 0 if tr(W H W^T) is zero, where the others may be infinite
    double total = 0;      ///< `output_error`
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <int Instance = 0>  // compiled only where it is called
[[nodiscard]] underflow_report run_measure_underflow(const matrix_ref& W, const matrix_ref& Q, const gram_argument& H, executor_ref exec) {
    const used_hessian h("measure_underflow", W, H, 0, exec);
    require_shape("measure_underflow", "Q", Q, W.rows(), W.cols());
    require_finite("measure_underflow", "Q", Q, exec);
    const output_meter meter(W, *h, exec);
    // W with only those weights replaced by Q that became 0, or did not
    const auto part = [&](bool became_zero) {
        matrix<double> mixed(W.rows(), W.cols());
        for (index_t i = 0; i < W.rows(); ++i)
            for (index_t j = 0; j < W.cols(); ++j) mixed(i, j) = (Q(i, j) == 0) == became_zero ? Q(i, j) : W(i, j);
        return meter.error(W, mixed.view(), exec);
    };
    underflow_report report{.underflow = part(true), .rest = part(false), .cross = 0, .total = meter.error(W, Q, exec)};
    if (meter.has_energy()) report.cross = report.total - report.underflow - report.rest;
    return report;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Says how much of the output error comes from weights that were rounded to 0, with Q - W = du + dr: du in the weights that Q has at 0,
/// dr in the others.
///
/// @par Shapes    W, Q: rows x cols; H: cols x cols, or a `hessian`; each of any storage and layout
/// @par Cost      four times `output_error`; allocates W once, in double
/// @par Numerics  as `output_error`; the cross term is what is left of the total
/// @par Errors    as `output_error`
/// @par Source    the parts du and dr of arXiv 2311.05161; the cross term follows from them
template <class Weights, class Quantized, class Gram>
[[nodiscard]] underflow_report measure_underflow(const Weights& W, const Quantized& Q, const Gram& H, executor_ref exec = {}) {
    return detail::run_measure_underflow(as_const_view(W), as_const_view(Q), detail::as_gram(H), exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
