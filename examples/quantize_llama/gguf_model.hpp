// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <magr/gguf/gguf_block.hpp>
#include <optional>

#include "quantize_llama/gguf_mix.hpp"
#include "quantize_llama/finished_model.hpp"

namespace examples {

/// What a GGUF file of a quantized model is to hold.
struct gguf_options {
    gguf_mix mix = gguf_mix::q4_0;  ///< for which the model was quantized
    /// Types to which embedding and head are rounded, weight by weight; default: as they are in the base file. A model with one matrix for
    /// both has the type of the embedding.
    std::optional<magr::ggml_type> embedding = {};
    std::optional<magr::ggml_type> head = {};
};

/// The types that llama.cpp's own program takes for everything, so that files have the same size.
[[nodiscard]] gguf_options as_llama_cpp(gguf_mix mix, const llama_config& config);

/// Refuses a base file from which `write_gguf_model` cannot make a file: call it before hours of work.
/// @throws input_error  naming the file and what is wrong
void require_gguf_base(const model_folder& model, const std::filesystem::path& base, const gguf_options& options);

/// Writes a GGUF file for llama.cpp, which appears complete or not at all.
///
/// All metadata, the tokenizer among them, are those of the base file, which convert_hf_to_gguf.py has made from the same model without
/// quantizing it; only general.file_type and general.quantization_version change. Linear layers get the codes and grids of the quantized
/// model, norms its values. Rows of queries and keys are in the order of the base file.
/// @param base  every tensor must be the one of the original model, rounded to its type
/// @throws input_error    as above, and if the file cannot be written
/// @throws magr errors    if codes and grids are not those of the types that `options.mix` gives the layers
void write_gguf_model(const finished_model& quantized, const std::filesystem::path& base, const gguf_options& options,
                      const std::filesystem::path& out);

/// The row of a Hugging Face file that is row `row` of queries or keys in a GGUF file of architecture llama. That has each head's rows
/// i and i + head_dim / 2, which rotate together, next to each other.
[[nodiscard]] constexpr std::int64_t row_before_pairing(std::int64_t row, std::int64_t head_dim) {
    const std::int64_t in_head = row % head_dim;
    return row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
}

}  // namespace examples
