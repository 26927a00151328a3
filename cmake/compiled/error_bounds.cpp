// SPDX-License-Identifier: MIT
#include <magr/bounds/error_bounds_impl.hpp>

// What the header declares for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                   \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                            \
    template error_bounds run_bound_errors<Scalar>(const matrix_ref&, const quantized_matrix<Scalar>&, const gram_argument&,       \
                                                   const matrix_ref*, std::optional<index_t>, const bound_options&, executor_ref); \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
