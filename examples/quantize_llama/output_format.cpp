// SPDX-License-Identifier: MIT
#include "quantize_llama/output_format.hpp"

#include <algorithm>
#include <array>
#include <magr/pack/format.hpp>
#include <utility>

#include "common/error.hpp"
#include "common/text_stream.hpp"
#include "quantize_llama/gguf_model.hpp"
#include "quantize_llama/hugging_face_formats.hpp"
#include "quantize_llama/layer_settings.hpp"
#include "quantize_llama/onnx_model.hpp"

namespace examples {
namespace {

/// Sentences, each with the layers that it is about.
class layer_problems {
public:
    void add(const std::string& problem, linear kind) {
        const auto known = std::find_if(found_.begin(), found_.end(), [&](const auto& entry) { return entry.first == problem; });
        if (known == found_.end())
            found_.push_back({problem, {kind}});
        else
            known->second.push_back(kind);
    }

    [[nodiscard]] std::vector<std::string> sentences() const {
        std::vector<std::string> all;
        for (const auto& [problem, kinds] : found_) {
            text_stream text;
            text << problem;
            for (std::size_t i = 0; kinds.size() < all_linears.size() && i < kinds.size(); ++i)
                text << (i ? ", " : " in ") << name_of(kinds[i]);
            all.push_back(text.str());
        }
        return all;
    }

private:
    std::vector<std::pair<std::string, std::vector<linear>>> found_;
};

/// What the library, which sees one layer at a time, knows of a format.
std::vector<std::string> library_problems(const llama_config& config, const quantization& how, const output_format& format) {
    layer_problems found;
    bool has_groups = false;
    for (const linear kind : all_linears) {
        const auto [rows, cols] = shape_of(config, kind);
        has_groups = has_groups || magr::groups_per_row(grid_of(how), cols) > 1;
        for (const std::string& problem : magr::problems({rows, cols}, grid_of(how), *format.packed)) found.add(problem, kind);
    }
    std::vector<std::string> all = found.sentences();
    if (how.zero_point == magr::zero_point::integer && magr::grid_options_for(*format.packed).zero_point != magr::zero_point::integer)
        all.push_back("some zero points of --zero-point integer cannot be stored");
    if (how.order == magr::column_order::act_order && has_groups && !format.any_group_order)
        all.push_back("groups must consist of neighbouring inputs, which --order act_order does not keep together; group_aware does");
    return all;
}

gguf_options gguf_options_of(const llama_config& config, const quantization& how, const output_settings& settings) {
    return settings.gguf_keeps_embedding ? gguf_options{.mix = *how.gguf} : as_llama_cpp(*how.gguf, config);
}

output_format gguf_format() {
    return {
        .name = "gguf",
        .readers = "llama.cpp and what contains it",
        .require =
            [](const model_folder& model, const quantization& how, const output_settings& settings) {
                require_gguf_base(model, settings.gguf_base, gguf_options_of(model.config(), how, settings));
            },
        .write =
            [](const finished_model& model, const quantization& how, const output_settings& settings, const std::filesystem::path& folder) {
                write_gguf_model(model, settings.gguf_base, gguf_options_of(model.original.config(), how, settings), folder / "model.gguf");
            }};
}

output_format onnx_format() {
    return {.name = "onnx",
            .readers = "ONNX Runtime; a model of one MatMulNBits for each layer",
            .packed = magr::packed_format::matmul_nbits,
            .problems = [](const llama_config&, const quantization& how, const output_settings&) -> std::vector<std::string> {
                if (how.bits != 8 || how.zero_point != magr::zero_point::real) return {};
                return {"ONNX Runtime has no kernel for 8 bits with real zero points"};
            },
            .write = [](const finished_model& model, const quantization&, const output_settings&,
                        const std::filesystem::path& folder) { write_onnx_model(model, folder / "onnx"); }};
}

}  // namespace

std::span<const output_format> output_formats() {
    static const std::array formats{
        output_format{.name = "dequantized", .readers = "whatever reads a folder of transformers"},
        gptq_format(),
        gptq_v2_format(),
        compressed_tensors_format(),
        awq_format(),
        mlx_format(),
        gguf_format(),
        onnx_format(),
    };
    return formats;
}

void require_format(const llama_config& config, const quantization& how, const output_settings& settings) {
    const output_format& format = *settings.format;
    std::vector<std::string> reasons;
    if (format.packed) reasons = library_problems(config, how, format);
    if (format.problems)
        for (std::string& reason : format.problems(config, how, settings)) reasons.push_back(std::move(reason));
    if (reasons.empty()) return;
    text_stream text;
    for (std::size_t i = 0; i < reasons.size(); ++i) text << (i ? "; " : "") << reasons[i];
    refuse("--format ", format.name, " cannot hold this model: ", text.str());
}

}  // namespace examples
