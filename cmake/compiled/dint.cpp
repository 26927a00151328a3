// SPDX-License-Identifier: MIT
#include <magr/fit/dint_impl.hpp>
#include <magr/pack/dint_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                        \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                                                         \
    template dint_tensors pack_dint(const coded_matrix<dint_grids<Scalar>>&);                                                           \
    }                                                                                                                                   \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                 \
    template dint_grids<Scalar> run_fit_dint_grids<Scalar>(const matrix_ref&, const gram_argument&, const dint_options&, executor_ref); \
    template dint_grids<Scalar> run_fit_dint_grids<Scalar>(const matrix_ref&, const dint_options&, executor_ref);                       \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
