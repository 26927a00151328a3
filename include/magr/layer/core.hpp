// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <optional>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/layer/options.hpp>
#include <magr/layer/result.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// @param name_of_H  its name in messages
template <compute_scalar Scalar>
[[nodiscard]] layer_result<Scalar> run_layer(const matrix_ref& W, const gram_argument& H, const char* name_of_H,
                                             std::optional<index_t> tokens, const layer_options& options, executor_ref exec);

/// The same after all checks.
/// @param H  made with the largest `dead_threshold` of the options
template <compute_scalar Scalar>
[[nodiscard]] layer_result<Scalar> layer_checked(matrix_view<const Scalar> W, const hessian& H, std::optional<index_t> tokens,
                                                 const layer_options& given, executor_ref exec);

/// `workspace_bytes` of `quantize_layer`, for weights in Scalar.
template <compute_scalar Scalar>
[[nodiscard]] std::size_t layer_bytes(index_t rows, index_t cols, const layer_options& given, index_t workers);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail

#ifndef MAGR_COMPILED
#include <magr/layer/core_impl.hpp>
#endif
