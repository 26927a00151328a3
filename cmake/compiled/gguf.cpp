// SPDX-License-Identifier: MIT
#include <magr/gguf/gguf_impl.hpp>
#include <magr/gguf/k_quants_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                           \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                                                            \
    template gguf_tensor pack_gguf(const quantized_matrix<Scalar>&, ggml_type);                                                            \
    }                                                                                                                                      \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                                    \
    template weight_grids<Scalar> run_fit_k_quant_grids<Scalar>(const matrix_ref&, ggml_type, executor_ref);                               \
    template weight_grids<Scalar> run_fit_k_quant_grids<Scalar>(const matrix_ref&, const gram_argument&, ggml_type, double, executor_ref); \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
