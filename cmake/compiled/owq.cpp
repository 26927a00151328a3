// SPDX-License-Identifier: MIT
#include <magr/owq/owq_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                          \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                   \
    template owq_ranking run_owq_ranking<Scalar>(const char*, const matrix_ref&, const gram_argument&, const owq_options&, executor_ref); \
    template owq_ranking run_owq_ranking<Scalar>(const char*, const matrix_ref&, const gram_argument&, const weight_grids<Scalar>&,       \
                                                 executor_ref);                                                                           \
    template owq_result<Scalar> run_owq<Scalar>(const matrix_ref&, const gram_argument&, const owq_options&, executor_ref);               \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
