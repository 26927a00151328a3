// SPDX-License-Identifier: MIT
#include <magr/pack/awq_impl.hpp>
#include <magr/pack/compressed_tensors_impl.hpp>
#include <magr/pack/gptq_impl.hpp>
#include <magr/pack/matmul_nbits_impl.hpp>
#include <magr/pack/mlx_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                 \
    namespace magr::inline MAGR_ISA_NAMESPACE {                                                  \
    template awq_tensors pack_awq(const quantized_matrix<Scalar>&);                              \
    template compressed_tensors_weight pack_compressed_tensors(const quantized_matrix<Scalar>&); \
    template gptq_tensors pack_gptq(const quantized_matrix<Scalar>&, gptq_version);              \
    template matmul_nbits_tensors pack_matmul_nbits(const quantized_matrix<Scalar>&);            \
    template mlx_tensors pack_mlx(const quantized_matrix<Scalar>&);                              \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
