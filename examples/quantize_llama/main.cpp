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

constexpr std::int64_t self_tokens = 16384;  // of each text that the model writes, unless told otherwise
constexpr std::int64_t self_longest = 512;   // ids in one of its sequences, or fewer if the model cannot take that many

/// What is added to the seed, so that no two uses draw the same random numbers.
enum seed_offset : std::uint32_t { for_calibration, for_evaluation, for_samples };

std::vector<sequence> load_text(const std::string& source, const llama_model& model, std::optional<std::int64_t> tokens, std::uint32_t seed,
                                int threads, progress& progress) {
    constexpr std::int64_t all = std::int64_t{1} << 62;
    if (source != "self") return read_sequences(source, model.config, tokens.value_or(all));
    const std::int64_t longest = std::min(self_longest, model.config.max_position_embeddings);
    return sample_sequences(model, tokens.value_or(self_tokens), longest, seed, threads, progress);
}

void run(const options& o) {
    std::optional<output_file> json_file, html_file;
    if (!o.json.empty()) json_file.emplace(o.json);
    if (!o.report.empty()) html_file.emplace(o.report);

    const llama_model model = load_model(o.model);
    const text_decoder decoder(o.model, model.config);
    progress progress;
    const auto sampled = [](const std::string& source, std::optional<std::int64_t> tokens) {
        return source == "self" ? static_cast<double>(tokens.value_or(self_tokens)) : 0.0;
    };
    progress.expect(sampled(o.calibration, o.calibration_tokens) + sampled(o.evaluation, o.evaluation_tokens));
    progress.stage("sampling from the model");
    const std::vector<sequence> calibration =
        load_text(o.calibration, model, o.calibration_tokens, o.seed + for_calibration, o.threads, progress);
    const std::vector<sequence> evaluation =
        load_text(o.evaluation, model, o.evaluation_tokens, o.seed + for_evaluation, o.threads, progress);

    report report;
    const double calibration_passes = 2;  // to collect Gram matrices, and to feed the next block
    const auto runs = static_cast<double>(o.bits.size() * o.methods.size());
    progress.expect((runs + 1) * static_cast<double>(count_tokens(evaluation)) +
                    runs * calibration_passes * static_cast<double>(count_tokens(calibration)));
    const evaluator evaluate(model, evaluation, o.threads, progress);

    // Every model continues the beginning of the first evaluation text.
    constexpr std::size_t prompt_tokens = 24;
    constexpr double temperature = 0.7;  // lower than 1: a small model's text reads better
    const std::span<const token> prompt = std::span(evaluation.front()).first(std::min(prompt_tokens, evaluation.front().size()));
    const auto sample = [&](const llama_model& m) {
        return decoder.text(continue_sequence(m, prompt, o.sample_tokens, temperature, o.seed + for_samples));
    };

    report.model = o.model;
    report.calibration_tokens = count_tokens(calibration);
    report.predictions = evaluate.baseline().predictions;
    report.group_size = o.how.group_size;
    report.baseline_perplexity = evaluate.baseline().perplexity;
    report.prompt = decoder.text(prompt);
    report.baseline_sample = sample(model);
    for (const int bits : o.bits)
        for (const method m : o.methods) {
            quantization how = o.how;
            how.bits = bits;
            how.method = m;
            quantized_llama quantized = quantize_model(model, calibration, how, o.threads, progress);
            progress.stage(std::string(name_of(m)) + " " + std::to_string(bits) + " bits, evaluation");
            const examples::evaluation score = evaluate.score(quantized.model);
            report.runs.push_back({how, score.perplexity, score.kl_divergence, quantized.mean_output_error(), quantized.seconds,
                                   std::move(quantized.layers), sample(quantized.model)});
        }
    progress.clear();

    std::cout << "model " << o.model << "\ncalibrated on " << report.calibration_tokens << " tokens, evaluated on " << report.predictions
              << " predictions, "
              << (o.how.group_size ? "one scale per " + std::to_string(*o.how.group_size) + " inputs" : "one scale per channel") << "\n\n"
              << table_text(report) << samples_text(report) << std::flush;
    if (json_file) json_file->commit(json_text(report));
    if (html_file) html_file->commit(html_text(report));
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
