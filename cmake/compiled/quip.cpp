// SPDX-License-Identifier: MIT
#include <magr/layer/quip_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                               \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                        \
    template quip_result<Scalar> run_quip<Scalar>(const matrix_ref&, const gram_argument&, const quip_options&, executor_ref); \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
