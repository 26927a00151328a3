// SPDX-License-Identifier: MIT
#include <magr/drift/gpfq_drift_impl.hpp>
#include <magr/drift/gptaq_impl.hpp>
#include <magr/drift/qronos_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Method, Scalar)                                                                                           \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                                                    \
    template std::optional<drift_terms<Scalar>> Method::make(const detail::matrix_ref&, const hessian&, const detail::matrix_ref&, \
                                                             std::span<const index_t>, executor_ref) const;                        \
    }

MAGR_INSTANTIATE(gpfq_drift, float)
MAGR_INSTANTIATE(gpfq_drift, double)
MAGR_INSTANTIATE(gptaq, float)
MAGR_INSTANTIATE(gptaq, double)
MAGR_INSTANTIATE(qronos, float)
MAGR_INSTANTIATE(qronos, double)
#undef MAGR_INSTANTIATE
