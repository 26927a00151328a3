// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/preprocess/observer.hpp>
#include <magr/preprocess/options.hpp>
#include <magr/preprocess/result.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// `preprocess`, except that an exception of the observer may leave W half written.
MAGR_LARGE_CORE preprocess_result run_preprocess(const mutable_matrix_ref& W, const gram_argument& H, const preprocess_options& options,
                                                 observer_ref observer, executor_ref exec);

/// The same after all checks, writing to `out`.
/// @param out  may be W
MAGR_LARGE_CORE [[nodiscard]] preprocess_result preprocess_checked(const matrix_ref& W, const mutable_matrix_ref& out, const hessian& H,
                                                                   const preprocess_options& options, observer_ref observer,
                                                                   executor_ref exec);

/// The same for several penalties, which may be 0; what depends only on H is computed once.
/// @param out  one for each penalty
MAGR_LARGE_CORE [[nodiscard]] std::vector<preprocess_result> preprocess_each(const matrix_ref& W, std::span<const mutable_matrix_ref> out,
                                                                             std::span<const double> alphas, const hessian& H,
                                                                             const preprocess_options& options, observer_ref observer,
                                                                             executor_ref exec);

/// `workspace_bytes` of `preprocess`, without the cost of an observer.
MAGR_LARGE_CORE [[nodiscard]] std::size_t preprocess_bytes(index_t rows, index_t cols, const preprocess_options& options, index_t workers);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/preprocess/core_impl.hpp>
#endif
