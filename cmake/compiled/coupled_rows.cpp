// SPDX-License-Identifier: MIT
#include <magr/layer/coupled_rows_impl.hpp>

// What the header declares for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                         \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                  \
    template coupled_result<Scalar> run_coupled_rows<Scalar>(const matrix_ref&, const gram_argument&, const matrix_ref&, \
                                                             const coupled_options&, executor_ref);                      \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
