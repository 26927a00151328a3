// SPDX-License-Identifier: MIT
#include <magr/layer/automatic_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                      \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                               \
    template automatic_result<Scalar> run_automatic<Scalar>(const matrix_ref&, const matrix_ref&, const matrix_ref&,                  \
                                                            std::optional<index_t>, std::optional<index_t>, const automatic_options&, \
                                                            executor_ref);                                                            \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
