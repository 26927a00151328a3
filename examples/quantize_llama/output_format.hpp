// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/pack/packed_format.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/json.hpp"
#include "quantize_llama/config.hpp"
#include "quantize_llama/methods.hpp"
#include "quantize_llama/finished_model.hpp"
#include "quantize_llama/safetensors.hpp"

namespace examples {

/// A tensor for a file, and its bytes.
struct packed_tensor {
    std::string name;
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::vector<std::byte> bytes;

    [[nodiscard]] tensor_to_write view() const { return {name, dtype, shape, bytes}; }
};

struct output_settings;

/// What --format names: the files that a run writes besides codes and grids, which are the same in every format.
///
/// A format is one row of the table. Its files are either a folder as Hugging Face's loaders read it, written block by block, or files of
/// its own that `write` makes when all blocks are done.
struct output_format {
    const char* name;
    const char* readers;                             ///< what loads the files, for the help text
    std::optional<magr::packed_format> packed = {};  ///< as which the library packs a layer; none: weights are dequantized
    bool any_group_order = false;                    ///< whether a group may consist of inputs that are not neighbours

    /// Reasons of the format's own why it cannot hold a model; null if there are none.
    std::vector<std::string> (*problems)(const llama_config& config, const quantization& how, const output_settings& settings) = nullptr;

    /// The tensors that a loader expects of a layer of this name in place of NAME.weight; null: the dequantized weights.
    std::vector<packed_tensor> (*pack)(const std::string& name, const magr::quantized_matrix<float>& q) = nullptr;

    /// Says in config.json how the layers are packed; null: there is nothing to say.
    void (*configure)(nlohmann::ordered_json& config, const quantization& how) = nullptr;
    const char* configuration_copy = nullptr;  ///< a file that holds the same `quantization_config`; null: there is none

    /// Refuses what can be refused only with the model at hand, before the first file is written; null: there is nothing.
    void (*require)(const model_folder& model, const quantization& how, const output_settings& settings) = nullptr;

    /// Writes files that Hugging Face's loaders do not read, each complete or not at all; null: the folder is one that they read. A run
    /// that was interrupted calls this again.
    void (*write)(const finished_model& model, const quantization& how, const output_settings& settings,
                  const std::filesystem::path& folder) = nullptr;
};

/// All formats; the first is what a run writes unless told otherwise.
[[nodiscard]] std::span<const output_format> output_formats();

/// How a run writes its model.
struct output_settings {
    const output_format* format = &output_formats().front();
    magr::storage_type weights = magr::storage_type::f32;  ///< f32, f16 or bf16: of dequantized weights, and of all that is not packed
    std::string gguf_base = {};                            ///< the file whose metadata and tokenizer a GGUF file gets
    bool gguf_keeps_embedding = true;  ///< embedding and head as they are in that file; else of the types that llama.cpp takes
};

/// Refuses a model that a format cannot hold when it is quantized in this way, with every reason that can be known before the work.
void require_format(const llama_config& config, const quantization& how, const output_settings& settings);

}  // namespace examples
