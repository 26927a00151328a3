// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/drift/drift.hpp>
#include <magr/kernels/multiply_add.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
drift_accumulator<Scalar>::drift_accumulator(index_t inputs) : drift_(detail::checked_inputs("drift_accumulator", inputs), inputs) {}

template <compute_scalar Scalar>
drift_accumulator<Scalar>::drift_accumulator(const detail::matrix_ref& D, index_t tokens)
    : drift_(detail::load_token_sum<Scalar>("drift_accumulator", "D", D)), tokens_(detail::tokens_of_sum("drift_accumulator", tokens)) {}

template <compute_scalar Scalar>
void drift_accumulator<Scalar>::add_batch(const detail::matrix_ref& X, const detail::matrix_ref& Y, executor_ref exec) {
    using blocks = kernels::product_blocks<Scalar, simd::default_arch>;
    detail::require_whole("drift_accumulator::add", is_whole_);
    detail::require_not_empty("drift_accumulator::add", "X", X);
    detail::require_shape("drift_accumulator::add", "X", X, X.rows(), inputs());
    detail::require_shape("drift_accumulator::add", "Y", Y, X.rows(), inputs());
    detail::require_finite("drift_accumulator::add", "X", X);
    detail::require_finite("drift_accumulator::add", "Y", Y);

    const index_t tokens = detail::tokens_together("drift_accumulator::add", tokens_, X.rows());
    matrix<Scalar> y(X.rows(), inputs()), difference(X.rows(), inputs());
    for (index_t t = 0; t < X.rows(); ++t) {
        Y.load_row(t, 0, inputs(), &y(t, 0));
        X.load_row(t, 0, inputs(), &difference(t, 0));
        for (index_t j = 0; j < inputs(); ++j) difference(t, j) -= y(t, j);
    }
    constexpr index_t rows = 4 * blocks::rows;  // enough to make packing Y worthwhile
    std::vector<Scalar> scratch(static_cast<std::size_t>(exec.concurrency() * blocks::scratch));
    is_whole_ = false;
    exec.parallel_for((inputs() + rows - 1) / rows, [&](index_t task, index_t worker) {
        const index_t first = task * rows, count = (std::min)(rows, inputs() - first);
        kernels::multiply_add(drift_.view().block(first, 0, count, inputs()), 1.0,
                              matrix_view<const Scalar>(difference.view()).block(0, first, X.rows(), count).transposed(),
                              matrix_view<const Scalar>(y.view()), scratch.data() + worker * blocks::scratch);
    });
    is_whole_ = true;
    tokens_ = tokens;
}

template <compute_scalar Scalar>
void drift_accumulator<Scalar>::merge(const drift_accumulator& other) {
    detail::require_whole("drift_accumulator::merge", is_whole_ && other.is_whole_);
    detail::require_shape("drift_accumulator::merge", "other", other.drift_.view(), inputs(), inputs());
    const index_t tokens = detail::tokens_together("drift_accumulator::merge", tokens_, other.tokens_);
    std::transform(drift_.data(), drift_.data() + inputs() * inputs(), other.drift_.data(), drift_.data(), std::plus<>{});
    tokens_ = tokens;
}

template <compute_scalar Scalar>
const matrix<Scalar>& drift_accumulator<Scalar>::drift() const {
    detail::require_whole("drift_accumulator::drift", is_whole_);
    return drift_;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
