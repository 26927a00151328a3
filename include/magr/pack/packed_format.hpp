// SPDX-License-Identifier: MIT
#pragma once

namespace magr {

/// Which bytes store a quantized weight matrix.
enum class packed_format {
    gptq_v1,             ///< `pack_gptq`, zero points stored minus one
    gptq_v2,             ///< `pack_gptq`, zero points stored unchanged
    awq,                 ///< `pack_awq`, the GEMM layout
    compressed_tensors,  ///< `pack_compressed_tensors`, pack-quantized
    matmul_nbits,        ///< `pack_matmul_nbits`, ONNX com.microsoft::MatMulNBits
    mlx,                 ///< `pack_mlx`, affine mode
    gguf_q4_0,           ///< `pack_gguf`, as all below
    gguf_q4_1,
    gguf_q5_0,
    gguf_q5_1,
    gguf_q8_0,
    gguf_q2_0,
    gguf_q2_k,  ///< on grids of `fit_k_quant_grids`, as all below
    gguf_q3_k,
    gguf_q4_k,
    gguf_q5_k,
    gguf_q6_k
};

/// All formats.
inline constexpr packed_format packed_formats[] = {
    packed_format::gptq_v1,      packed_format::gptq_v2,   packed_format::awq,       packed_format::compressed_tensors,
    packed_format::matmul_nbits, packed_format::mlx,       packed_format::gguf_q4_0, packed_format::gguf_q4_1,
    packed_format::gguf_q5_0,    packed_format::gguf_q5_1, packed_format::gguf_q8_0, packed_format::gguf_q2_0,
    packed_format::gguf_q2_k,    packed_format::gguf_q3_k, packed_format::gguf_q4_k, packed_format::gguf_q5_k,
    packed_format::gguf_q6_k};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(packed_format format) noexcept {
    switch (format) {
        case packed_format::gptq_v1: return "gptq_v1";
        case packed_format::gptq_v2: return "gptq_v2";
        case packed_format::awq: return "awq";
        case packed_format::compressed_tensors: return "compressed_tensors";
        case packed_format::matmul_nbits: return "matmul_nbits";
        case packed_format::mlx: return "mlx";
        case packed_format::gguf_q4_0: return "gguf_q4_0";
        case packed_format::gguf_q4_1: return "gguf_q4_1";
        case packed_format::gguf_q5_0: return "gguf_q5_0";
        case packed_format::gguf_q5_1: return "gguf_q5_1";
        case packed_format::gguf_q8_0: return "gguf_q8_0";
        case packed_format::gguf_q2_0: return "gguf_q2_0";
        case packed_format::gguf_q2_k: return "gguf_q2_k";
        case packed_format::gguf_q3_k: return "gguf_q3_k";
        case packed_format::gguf_q4_k: return "gguf_q4_k";
        case packed_format::gguf_q5_k: return "gguf_q5_k";
        case packed_format::gguf_q6_k: return "gguf_q6_k";
    }
    return "unknown";
}

}  // namespace magr
