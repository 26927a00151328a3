// SPDX-License-Identifier: MIT
// Quantizes a Llama model with each method and number of bits, and shows what that does to it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <magr/error.hpp>
#include <optional>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/progress.hpp"
#include "quantize_llama/evaluate.hpp"
#include "quantize_llama/options.hpp"
#include "quantize_llama/report.hpp"
#include "quantize_llama/sampling.hpp"
#include "quantize_llama/text_decoder.hpp"

namespace {

using namespace examples;

constexpr std::int64_t self_longest = 512;  // ids in a sequence that the model writes, or fewer if it cannot take that many

/// What random numbers are for; no two uses of one seed draw the same.
enum class purpose : std::uint32_t { calibration, evaluation, samples };
std::uint32_t seed_for(purpose use, std::uint32_t seed) { return 4 * seed + static_cast<std::uint32_t>(use); }

std::vector<sequence> load_text(const std::string& source, const llama_model& model, std::optional<std::int64_t> tokens, std::uint32_t seed,
                                int threads, progress& display) {
    constexpr std::int64_t all = std::int64_t{1} << 62;
    if (source != "self") return read_sequences(source, model.config, tokens.value_or(all));
    const std::int64_t longest = std::min(self_longest, model.config.max_position_embeddings);
    return sample_sequences(model, tokens.value_or(default_self_tokens), longest, seed, threads, display);
}

void run(const options& o) {
    std::optional<output_file> json_file, html_file;
    if (!o.json.empty()) json_file.emplace(o.json);
    if (!o.report.empty()) html_file.emplace(o.report);

    const llama_model model = load_model(o.model);
    const text_decoder decoder(o.model, model.config);
    progress display;
    const auto sampled = [](const std::string& source, std::optional<std::int64_t> tokens) {
        return source == "self" ? static_cast<double>(tokens.value_or(default_self_tokens)) : 0.0;
    };
    display.expect(sampled(o.calibration, o.calibration_tokens) + sampled(o.evaluation, o.evaluation_tokens));
    display.stage("sampling from the model");
    const std::vector<sequence> calibration =
        load_text(o.calibration, model, o.calibration_tokens, seed_for(purpose::calibration, o.seed), o.threads, display);
    const std::vector<sequence> evaluation =
        load_text(o.evaluation, model, o.evaluation_tokens, seed_for(purpose::evaluation, o.seed), o.threads, display);

    report results;
    const double calibration_passes = 2;  // to collect Gram matrices, and to feed the next block
    const auto runs = static_cast<double>(o.bits.size() * o.methods.size());
    display.expect((runs + 1) * static_cast<double>(count_tokens(evaluation)) +
                   runs * calibration_passes * static_cast<double>(count_tokens(calibration)));
    const evaluator evaluate(model, evaluation, o.threads, display);

    // Every model continues the beginning of the first evaluation text.
    constexpr std::size_t prompt_tokens = 24;
    constexpr double temperature = 0.7;  // lower than 1: a small model's text reads better
    const std::span<const token> prompt = std::span(evaluation.front()).first(std::min(prompt_tokens, evaluation.front().size()));
    const std::int64_t sample_tokens = std::min(o.sample_tokens, model.config.max_position_embeddings - std::ssize(prompt));
    const auto sample = [&](const llama_model& m) {
        return decoder.text(continue_sequence(m, prompt, sample_tokens, temperature, seed_for(purpose::samples, o.seed)));
    };

    results.model = o.model;
    results.calibration_tokens = count_tokens(calibration);
    results.predictions = evaluate.baseline().predictions;
    results.group_size = o.how.group_size;
    results.baseline_perplexity = evaluate.baseline().perplexity;
    results.prompt = decoder.text(prompt);
    results.baseline_sample = sample(model);
    for (const int bits : o.bits)
        for (const method m : o.methods) {
            quantization how = o.how;
            how.bits = bits;
            how.method = m;
            quantized_llama quantized = quantize_model(model, calibration, how, o.threads, display);
            display.stage(std::string(name_of(m)) + " " + std::to_string(bits) + " bits, evaluation");
            const examples::evaluation score = evaluate.score(quantized.model);
            results.runs.push_back({how, score.perplexity, score.kl_divergence, quantized.mean_output_error(), quantized.seconds,
                                    std::move(quantized.layers), sample(quantized.model)});
        }
    display.clear();

    std::cout << "model " << o.model << "\ncalibrated on " << results.calibration_tokens << " tokens, evaluated on " << results.predictions
              << " predictions, "
              << (o.how.group_size ? "one scale per " + std::to_string(*o.how.group_size) + " inputs" : "one scale per channel") << "\n\n"
              << table_text(results) << samples_text(results) << std::flush;
    if (json_file) json_file->commit(json_text(results));
    if (html_file) html_file->commit(html_text(results));
}

/// Prints a message as one line, whatever the names are that it quotes from a file.
int fail(const std::exception& error, int code) {
    std::string line = printable(error.what());
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::cerr << "error: " << line << '\n';
    return code;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app;
    options o;
    add_options(app, o);
    try {
        app.parse(argc, argv);
        run(o);
        return 0;
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    } catch (const input_error& error) {
        return fail(error, 2);
    } catch (const magr::option_error& error) {
        return fail(error, 2);
    } catch (const std::exception& error) {
        return fail(error, 1);
    }
}
