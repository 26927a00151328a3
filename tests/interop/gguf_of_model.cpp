// SPDX-License-Identifier: MIT
// Quantizes a model for a GGUF file, writes it, and prints what the model computes: its perplexity on sequences of token ids, and how it
// goes on with the first of them. llama_text.cpp prints the same of the file.
//
//   gguf_of_model MODEL CALIBRATION.u16 EVALUATION.u16 IDS METHOD MIX BASE.gguf OUT.gguf
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "quantize_llama/evaluate.hpp"
#include "quantize_llama/gguf_model.hpp"
#include "quantize_llama/output_folder.hpp"
#include "quantize_llama/quantize_model.hpp"
#include "quantize_llama/sampling.hpp"

namespace {

using namespace examples;

constexpr std::size_t prompt_ids = 24;
constexpr std::int64_t continued_ids = 32;

template <class Traits>
auto named(const Traits& table, const std::string& name) {
    for (const auto& entry : table)
        if (name == entry.name) return entry.value;
    refuse(name, ": unknown");
}

/// Codes and grids of a layer, as a run has left them.
magr::quantized_matrix<float> read_codes(const std::filesystem::path& folder, const llama_config& config, const quantization& how,
                                         std::int64_t block, linear kind) {
    std::string number = std::to_string(block);
    number.insert(0, 5 - number.size(), '0');
    const safetensors_file file(folder / "codes" / ("block-" + number + ".safetensors"));
    const std::string name = block_prefix(block) + name_of(kind);
    const quantization layer = for_layer(how, config, block, kind);
    const auto [rows, cols] = shape_of(config, kind);
    magr::quantized_matrix<float> q;
    q.bits = layer.bits;
    q.zero_point = layer.zero_point;
    q.storage = layer.storage;
    q.group_size = *layer.group_size;
    for (auto [part, place] : {std::pair(".scales", &q.scales), std::pair(".zeros", &q.zeros)}) {
        const std::vector<float> values = file.read(name + part);
        *place = magr::matrix<float>(rows, std::ssize(values) / rows);
        std::copy(values.begin(), values.end(), place->data());
    }
    q.codes = magr::matrix<std::uint8_t>(rows, cols);
    std::memcpy(q.codes.data(), file.bytes(name + ".qweight").data(), static_cast<std::size_t>(rows * cols));
    for (magr::index_t j = 0; j < cols; ++j) q.group_of_column.push_back(j / q.group_size);
    return q;
}

void run(const std::vector<std::string>& arguments) {
    if (arguments.size() != 8) refuse("give MODEL CALIBRATION.u16 EVALUATION.u16 IDS METHOD MIX BASE.gguf OUT.gguf");
    const model_folder model(arguments[0]);
    const std::int64_t ids = std::stoll(arguments[3]);
    const auto calibration = read_sequences(arguments[1], model.config(), ids),
               evaluation = read_sequences(arguments[2], model.config(), ids);
    quantization how;
    how.method = named(method_table, arguments[4]);
    how.gguf = named(gguf_mixes, arguments[5]);
    const gguf_options options{*how.gguf, {}, {}};
    require_gguf_base(model, arguments[6], options);

    magr::thread_pool pool(1);
    progress display;
    const evaluator evaluate(model, evaluation, pool, display);
    text_states states = evaluate.begin();
    const std::filesystem::path folder = arguments[7] + ".folder";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    {
        output_folder out(folder);
        out.begin(model, calibration, how, magr::storage_type::f32);
        static_cast<void>(quantize_model(
            model, calibration, how, pool, display, [&](const llama_block& block) { evaluate.pass(states, block); }, &out));
    }
    const model_folder written(folder);
    const quantized_model quantized{model, [&](std::int64_t block) { return written.block(block); },
                                    [&](std::int64_t block, linear kind) { return read_codes(folder, model.config(), how, block, kind); }};
    write_gguf_model(quantized, arguments[6], options, arguments[7]);

    const examples::evaluation score = evaluate.score(states);
    display.clear();
    std::cout.precision(9);
    std::cout << "perplexity " << score.perplexity << " over " << score.predictions << "\ngreedy";
    const sequence& first = evaluation.front();
    const std::span<const token> prompt(first.data(), std::min(prompt_ids, first.size()));
    constexpr double coldest = 1e-6;  // at which the likeliest id is drawn
    for (const token id : continue_sequence(load_model(written), prompt, continued_ids, coldest, 1)) std::cout << ' ' << id;
    std::cout << '\n';
    std::filesystem::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        std::cerr << "gguf_of_model: " << error.what() << '\n';
        return 1;
    }
}
