// SPDX-License-Identifier: MIT
// Quantizes a Llama model with each method and number of bits, and shows what that does to it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <magr/error.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <optional>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/peak_memory.hpp"
#include "common/progress.hpp"
#include "quantize_llama/evaluate.hpp"
#include "quantize_llama/options.hpp"
#include "quantize_llama/output_folder.hpp"
#include "quantize_llama/report.hpp"
#include "quantize_llama/sampling.hpp"
#include "quantize_llama/text_decoder.hpp"

namespace {

using namespace examples;

constexpr std::int64_t self_longest = 512;  // ids in a sequence that the model writes, or fewer if it cannot take that many

/// What random numbers are for; no two uses of one seed draw the same.
enum class purpose : std::uint32_t { calibration, evaluation, samples };
std::uint32_t seed_for(purpose use, std::uint32_t seed) { return 4 * seed + static_cast<std::uint32_t>(use); }

/// A text to calibrate or to evaluate on. A model that writes its own is in memory as a whole meanwhile.
std::vector<sequence> load_text(const std::string& source, const model_folder& model, std::optional<std::int64_t> tokens,
                                std::uint32_t seed, magr::thread_pool& pool, progress& display) {
    constexpr std::int64_t all = std::int64_t{1} << 62;
    if (source != "self") return read_sequences(source, model.config(), tokens.value_or(all));
    const std::int64_t longest = std::min(self_longest, model.config().max_position_embeddings);
    return sample_sequences(load_model(model), tokens.value_or(default_self_tokens), longest, seed, pool, display);
}

/// Lets models continue the beginning of one text.
class sampler {
public:
    sampler(const options& o, const llama_config& config, const text_decoder& decoder, std::span<const token> text)
        : decoder_(decoder), prompt_(text.first(std::min(prompt_tokens, text.size()))), seed_(seed_for(purpose::samples, o.seed)) {
        const std::int64_t wanted =
            o.sample_tokens.value_or(size_in_memory(config) <= largest_sampled_model ? default_sample_tokens : std::int64_t{0});
        tokens_ = std::min(wanted, config.max_position_embeddings - std::ssize(prompt_));
    }

    [[nodiscard]] bool is_on() const noexcept { return tokens_ > 0; }
    [[nodiscard]] std::string prompt() const { return decoder_.text(prompt_); }
    [[nodiscard]] std::string sample(const llama_model& model) const {
        constexpr double temperature = 0.7;  // lower than 1: a small model's text reads better
        return decoder_.text(continue_sequence(model, prompt_, tokens_, temperature, seed_));
    }

private:
    static constexpr std::size_t prompt_tokens = 24;

    const text_decoder& decoder_;
    std::span<const token> prompt_;
    std::uint32_t seed_;
    std::int64_t tokens_ = 0;
};

void run(const options& o) {
    std::optional<output_file> json_file, html_file;
    if (!o.json.empty()) json_file.emplace(o.json);
    if (!o.report.empty()) html_file.emplace(o.report);

    const model_folder model(o.model);
    const text_decoder decoder(o.model, model.config());
    std::optional<output_folder> out;
    if (!o.out.empty()) out.emplace(o.out);
    magr::thread_pool pool(o.threads);
    progress display;
    const auto sampled = [](const std::string& source, std::optional<std::int64_t> tokens) {
        return source == "self" ? static_cast<double>(tokens.value_or(default_self_tokens)) : 0.0;
    };
    display.expect(sampled(o.calibration, o.calibration_tokens) + sampled(o.evaluation, o.evaluation_tokens));
    display.stage("sampling from the model");
    const std::vector<sequence> calibration =
        load_text(o.calibration, model, o.calibration_tokens, seed_for(purpose::calibration, o.seed), pool, display);
    const std::vector<sequence> evaluation =
        load_text(o.evaluation, model, o.evaluation_tokens, seed_for(purpose::evaluation, o.seed), pool, display);
    if (out) {
        quantization how = o.how;
        how.bits = o.bits.front();
        how.method = o.methods.front();
        display.stage("reading the model");
        out->begin(model, calibration, how, o.out_dtype);
    }

    report results;
    const double calibration_passes = 2;  // to collect Gram matrices, and to feed the next block
    const auto runs = static_cast<double>(o.bits.size() * o.methods.size());
    display.expect((runs + 1) * static_cast<double>(count_tokens(evaluation)) +
                   runs * calibration_passes * static_cast<double>(count_tokens(calibration)));
    const evaluator evaluate(model, evaluation, pool, display);
    const sampler samples(o, model.config(), decoder, evaluation.front());

    results.model = o.model;
    results.calibration_tokens = count_tokens(calibration);
    results.predictions = evaluate.baseline().predictions;
    results.group_size = o.how.group_size;
    results.baseline_perplexity = evaluate.baseline().perplexity;
    results.has_samples = samples.is_on();
    if (samples.is_on()) {
        results.prompt = samples.prompt();
        results.baseline_sample = samples.sample(load_model(model));
    }
    for (const int bits : o.bits)
        for (const method m : o.methods) {
            quantization how = o.how;
            how.bits = bits;
            how.method = m;
            text_states states = evaluate.begin();
            std::vector<llama_block> blocks;  // all of them only if the model is to write a text
            const auto finished = [&](const llama_block& block) {
                evaluate.pass(states, block);
                if (samples.is_on()) blocks.push_back(block);
            };
            quantization_record record = quantize_model(model, calibration, how, pool, display, finished, out ? &*out : nullptr);
            display.stage(std::string(name_of(m)) + " " + std::to_string(bits) + " bits, evaluation");
            const examples::evaluation score = evaluate.score(states);
            results.runs.push_back({.how = how,
                                    .perplexity = score.perplexity,
                                    .kl_divergence = score.kl_divergence,
                                    .output_error = record.mean_output_error(),
                                    .seconds = record.seconds,
                                    .processor_seconds = record.processor_seconds,
                                    .layers = std::move(record.layers)});
            if (samples.is_on()) {
                llama_model quantized;
                quantized.config = model.config();
                quantized.embedding = model.embedding();
                quantized.blocks = std::move(blocks);
                quantized.final_norm = model.final_norm();
                if (!quantized.config.tie_word_embeddings) quantized.own_head = model.head();
                results.runs.back().sample = samples.sample(quantized);
            }
            results.runs.back().peak_memory_bytes = peak_memory_bytes();
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
