// SPDX-License-Identifier: MIT
#include <magr/fit/fit_grid_impl.hpp>
#include <magr/grid/quantized_matrix_impl.hpp>
#include <magr/grid/weight_grids_impl.hpp>
#include <magr/quantize/rtn_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                   \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                                                    \
    template void require_grids(const char*, const weight_grids<Scalar>&, index_t, index_t);                                       \
    template storage_limits count_storage_limits(const weight_grids<Scalar>&);                                                     \
    template affine_grid<Scalar> fit_grid(std::span<const Scalar>, const grid_options&, std::span<const double>);                  \
    }                                                                                                                              \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                            \
    template matrix<Scalar> dequantize(const quantized_matrix<Scalar>&, executor_ref);                                             \
    template weight_grids<Scalar> run_fit_grids<Scalar>(const char*, const matrix_ref&, const gram_argument&, const grid_options&, \
                                                        executor_ref);                                                             \
    template weight_grids<Scalar> run_fit_grids<Scalar>(const char*, const matrix_ref&, const grid_options&, executor_ref);        \
    template weight_grids<Scalar> fit_all<Scalar>(const matrix_ref&, const hessian&, const grid_options&, executor_ref);           \
    template weight_grids<Scalar> fit_all<Scalar>(const char*, const matrix_ref&, const grid_options&, executor_ref);              \
    template quantized_matrix<Scalar> run_rtn<Scalar>(const matrix_ref&, const grid_options&, executor_ref);                       \
    template quantized_matrix<Scalar> run_rtn<Scalar>(const matrix_ref&, const gram_argument&, const grid_options&, executor_ref); \
    template quantized_matrix<Scalar> run_rtn<Scalar>(const matrix_ref&, const weight_grids<Scalar>&, executor_ref);               \
    template void require_roundable<Scalar>(const matrix_ref&, const weight_grids<Scalar>&, executor_ref);                         \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
