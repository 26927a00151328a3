// SPDX-License-Identifier: MIT
#include <magr/calibration/gram_impl.hpp>
#include <magr/drift/drift_compensation_impl.hpp>
#include <magr/drift/drift_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                        \
    namespace magr::inline MAGR_ISA_NAMESPACE {         \
    template class gram_accumulator<Scalar>;            \
    template class drift_accumulator<Scalar>;           \
    }                                                   \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE { \
    template class token_panels<Scalar>;                \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
