// SPDX-License-Identifier: MIT
#include <magr/attention/boa_impl.hpp>
#include <magr/attention/boa_options_impl.hpp>
#include <magr/attention/value_hessian_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                           \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                    \
    template boa_result<Scalar> run_boa<Scalar>(const matrix_ref&, const gram_argument&, std::span<const matrix_ref>, const grid_options&, \
                                                const boa_options&, executor_ref);                                                         \
    template boa_result<Scalar> run_boa<Scalar>(const matrix_ref&, const gram_argument&, std::span<const matrix_ref>,                      \
                                                const weight_grids<Scalar>&, const boa_options&, executor_ref);                            \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
