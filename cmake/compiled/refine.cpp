// SPDX-License-Identifier: MIT
#include <magr/refine/refine_codes_impl.hpp>
#include <magr/refine/refine_rounds_impl.hpp>
#include <magr/refine/refine_scales_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                       \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                \
    template refinement_result run_refine_codes(quantized_matrix<Scalar>&, const matrix_ref&, const gram_argument&,                    \
                                                const code_refinement_options&, executor_ref);                                         \
    template refinement_result run_refine_scales(quantized_matrix<Scalar>&, const matrix_ref&, const gram_argument&,                   \
                                                 const scale_refinement_options&, executor_ref);                                       \
    template refinement_result refine_checked<Scalar>(quantized_matrix<Scalar>&, matrix_view<const Scalar>, const hessian&,            \
                                                      const code_refinement_options&, executor_ref);                                   \
    template refinement_result refine_checked<Scalar>(quantized_matrix<Scalar>&, matrix_view<const Scalar>, const hessian&,            \
                                                      const scale_refinement_options&, executor_ref);                                  \
    template double loss_of<Scalar>(const quantized_matrix<Scalar>&, matrix_view<const Scalar>, const hessian&, double, executor_ref); \
    template refinement_result refine_rounds<Scalar>(quantized_matrix<Scalar>&, matrix_view<const Scalar>, const hessian&,             \
                                                     const refinement_options&, row_errors*, executor_ref);                            \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
