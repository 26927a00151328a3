// SPDX-License-Identifier: MIT
#include "quantize_llama/hugging_face_formats.hpp"

#include <magr/pack/awq.hpp>
#include <magr/pack/compressed_tensors.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/pack/mlx.hpp>
#include <magr/pack/named_tensors.hpp>
#include <magr/version.hpp>
#include <utility>

#include "common/text_stream.hpp"

namespace examples {
namespace {

using nlohmann::ordered_json;
using quantized = magr::quantized_matrix<float>;

/// The tensors of a packed layer with the layer's name in front.
template <class Packed>
std::vector<packed_tensor> tensors_of(const std::string& name, const Packed& packed) {
    std::vector<packed_tensor> tensors;
    for (const magr::named_tensor& t : magr::named_tensors(packed))
        tensors.push_back(
            {name + "." + std::string(t.name), std::string(t.type), {t.shape.begin(), t.shape.end()}, {t.bytes.begin(), t.bytes.end()}});
    return tensors;
}

/// What these configurations call the number of inputs that share a scale.
std::int64_t group_size_of(const quantization& how) { return how.group_size.value_or(-1); }

/// One group size in config.json is for all layers, and their loaders count groups without a rest.
std::vector<std::string> problems_of_groups(const llama_config& config, const quantization& how) {
    std::vector<std::string> found;
    for (const linear kind : all_linears) {
        const std::int64_t inputs = examples::shape_of(config, kind).cols;
        if (!how.group_size || *how.group_size < 1 || *how.group_size <= inputs) continue;  // of others the library says if they divide
        text_stream text;
        text << name_of(kind) << " has " << inputs << " inputs, fewer than a group of " << *how.group_size;
        found.push_back(text.str());
    }
    return found;
}

std::vector<std::string> problems_of_awq(const llama_config& config, const quantization& how, const output_settings&) {
    return problems_of_groups(config, how);
}

std::string quantizer_name() {
    text_stream name;
    name << "magr:" << MAGR_VERSION_MAJOR << "." << MAGR_VERSION_MINOR << "." << MAGR_VERSION_PATCH;
    return name.str();
}

/// The keys that GPTQModel, transformers and vLLM read.
void configure_gptq(ordered_json& config, const quantization& how, const char* checkpoint_format) {
    config["quantization_config"] = {{"quant_method", "gptq"},
                                     {"checkpoint_format", checkpoint_format},
                                     {"bits", how.bits},
                                     {"group_size", group_size_of(how)},
                                     {"sym", how.zero_point == magr::zero_point::none},
                                     {"desc_act", how.order == magr::column_order::act_order && how.group_size.has_value()},
                                     {"lm_head", false},
                                     {"pack_dtype", "int32"},
                                     {"meta", {{"quantizer", {quantizer_name()}}}}};
}

void configure_compressed_tensors(ordered_json& config, const quantization& how) {
    const ordered_json weights{{"num_bits", how.bits},
                               {"type", "int"},
                               {"symmetric", how.zero_point == magr::zero_point::none},
                               {"strategy", how.group_size ? "group" : "channel"},
                               {"group_size", how.group_size ? ordered_json(*how.group_size) : ordered_json()},
                               {"dynamic", false},
                               {"actorder", nullptr}};
    config["quantization_config"] = {
        {"quant_method", "compressed-tensors"},
        {"version", "0.18.0"},  // from which on codes of 3, 5, 6 and 7 bits are packed without gaps
        {"format", "pack-quantized"},
        {"quantization_status", "compressed"},
        {"config_groups",
         {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", nullptr}, {"output_activations", nullptr}}}}},
        {"ignore", {"lm_head"}},
        {"kv_cache_scheme", nullptr},
        {"global_compression_ratio", nullptr}};
}

std::vector<std::string> problems_of_compressed_tensors(const llama_config& config, const quantization& how,
                                                        const output_settings& settings) {
    std::vector<std::string> found = problems_of_groups(config, how);
    if (how.storage != settings.weights) {
        text_stream text;
        text << "loaders convert scales to the type of the other weights, but --storage is " << to_string(how.storage)
             << " and --out-dtype is " << to_string(settings.weights);
        found.push_back(text.str());
    }
    return found;
}

/// `zero_point` is true in every case, because the file has zero points: without any in the grid they are 8.
void configure_awq(ordered_json& config, const quantization& how) {
    config["quantization_config"] = {{"quant_method", "awq"}, {"version", "gemm"},
                                     {"bits", how.bits},      {"group_size", group_size_of(how)},
                                     {"zero_point", true},    {"modules_to_not_convert", nullptr}};
}

/// mlx-lm reads `quantization`, and writes the other key beside it.
void configure_mlx(ordered_json& config, const quantization& how) {
    config["quantization"] = {{"group_size", group_size_of(how)}, {"bits", how.bits}, {"mode", "affine"}};
    config["quantization_config"] = config["quantization"];
}

std::vector<std::string> problems_of_mlx(const llama_config& config, const quantization& how, const output_settings&) {
    if (!how.group_size) return {"the group size must be given, it cannot be whole rows"};
    return problems_of_groups(config, how);
}

}  // namespace

output_format gptq_format() {
    return {
        .name = "gptq",
        .readers = "transformers and GPTQModel",
        .packed = magr::packed_format::gptq_v1,
        .any_group_order = true,
        .pack = [](const std::string& name, const quantized& q) { return tensors_of(name, magr::pack_gptq(q, magr::gptq_version::v1)); },
        .configure = [](ordered_json& config, const quantization& how) { configure_gptq(config, how, "gptq"); },
        .configuration_copy = "quantize_config.json"};
}

output_format gptq_v2_format() {
    return {
        .name = "gptq_v2",
        .readers = "transformers and GPTQModel",
        .packed = magr::packed_format::gptq_v2,
        .any_group_order = true,
        .pack = [](const std::string& name, const quantized& q) { return tensors_of(name, magr::pack_gptq(q, magr::gptq_version::v2)); },
        .configure = [](ordered_json& config, const quantization& how) { configure_gptq(config, how, "gptq_v2"); },
        .configuration_copy = "quantize_config.json"};
}

output_format compressed_tensors_format() {
    return {.name = "compressed-tensors",
            .readers = "transformers",
            .packed = magr::packed_format::compressed_tensors,
            .problems = problems_of_compressed_tensors,
            .pack = [](const std::string& name, const quantized& q) { return tensors_of(name, magr::pack_compressed_tensors(q)); },
            .configure = configure_compressed_tensors};
}

output_format awq_format() {
    return {.name = "awq",
            .readers = "transformers",
            .packed = magr::packed_format::awq,
            .problems = problems_of_awq,
            .pack = [](const std::string& name, const quantized& q) { return tensors_of(name, magr::pack_awq(q)); },
            .configure = configure_awq};
}

output_format mlx_format() {
    return {.name = "mlx",
            .readers = "mlx-lm",
            .packed = magr::packed_format::mlx,
            .problems = problems_of_mlx,
            .pack = [](const std::string& name, const quantized& q) { return tensors_of(name, magr::pack_mlx(q)); },
            .configure = configure_mlx};
}

}  // namespace examples
