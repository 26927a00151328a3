// SPDX-License-Identifier: MIT
#include <magr/feedback/feedback_factor_impl.hpp>
#include <magr/quantize/choose_damping_impl.hpp>
#include <magr/quantize/optq_core_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                         \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                                                          \
    template feedback_factor<Scalar> factor_feedback<Scalar>(const detail::matrix_ref&, std::span<const index_t>, const factor_options&, \
                                                             executor_ref);                                                              \
    }                                                                                                                                    \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                  \
    template optq_result<Scalar> run_optq<Scalar>(const matrix_ref&, const gram_argument&, const grid_options&, const optq_options&,     \
                                                  executor_ref);                                                                         \
    template optq_result<Scalar> run_optq<Scalar>(const matrix_ref&, const gram_argument&, const weight_grids<Scalar>&,                  \
                                                  const optq_options&, executor_ref);                                                    \
    template std::size_t optq_bytes<Scalar>(index_t, index_t, const grid_options&, const optq_options&, index_t);                        \
    template const optq_plan<Scalar>& plan_optq<Scalar>(const hessian&, index_t, const optq_options&, executor_ref);                     \
    template optq_result<Scalar> optq_with_plan<Scalar>(matrix_view<const Scalar>, const hessian&, const optq_plan<Scalar>&,             \
                                                        const weight_grids<Scalar>*, const grid_options&, const optq_options&,           \
                                                        executor_ref);                                                                   \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
