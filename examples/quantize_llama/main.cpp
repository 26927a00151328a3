// SPDX-License-Identifier: MIT
// Quantizes a Llama model with each method and number of bits, and shows what that does to it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <magr/error.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "common/error.hpp"
#include "common/interruption.hpp"
#include "common/output_file.hpp"
#include "common/peak_memory.hpp"
#include "common/progress.hpp"
#include "common/standard_streams.hpp"
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

/// Length of the texts that are printed.
std::int64_t wanted_tokens(const options& o, const llama_config& config) {
    return o.sample_tokens.value_or(size_in_memory(config) <= largest_sampled_model ? default_sample_tokens : std::int64_t{0});
}

/// Lets models continue the beginning of one text.
class sampler {
public:
    /// @param decoder  null if no text is to be printed
    sampler(const options& o, const llama_config& config, const text_decoder* decoder, std::span<const token> text)
        : decoder_(decoder), prompt_(text.first(std::min(prompt_tokens, text.size()))), seed_(seed_for(purpose::samples, o.seed)) {
        tokens_ = std::min(wanted_tokens(o, config), config.max_position_embeddings - std::ssize(prompt_));
    }

    [[nodiscard]] bool is_on() const noexcept { return tokens_ > 0; }
    [[nodiscard]] std::string prompt() const { return decoder_->text(prompt_); }
    [[nodiscard]] std::string sample(const llama_model& model) const {
        constexpr double temperature = 0.7;  // lower than 1: a small model's text reads better
        return decoder_->text(continue_sequence(model, prompt_, tokens_, temperature, seed_));
    }

private:
    static constexpr std::size_t prompt_tokens = 24;

    const text_decoder* decoder_;
    std::span<const token> prompt_;
    std::uint32_t seed_;
    std::int64_t tokens_ = 0;
};

/// The files for the results.
std::vector<std::filesystem::path> result_files(const options& o) {
    std::vector<std::filesystem::path> files;
    for (const std::string& name : {o.json, o.report})
        if (!name.empty()) files.emplace_back(name);
    return files;
}

/// Refuses results that would overwrite each other or what the run reads.
void require_own_names(const std::vector<std::filesystem::path>& results, const options& o, const model_folder& model) {
    if (!o.out.empty() && lead_to_one_file(o.out, model.path())) refuse("--out ", o.out, ": is the folder of the model itself");
    if (results.empty()) return;
    std::vector<std::filesystem::path> read = model.files();
    for (const std::string& text : {o.calibration, o.evaluation})
        if (text != "self") read.emplace_back(text);
    for (const std::filesystem::path& file : companions(model.path())) read.push_back(model.path() / file);
    for (const std::filesystem::path& file : results)
        for (const std::filesystem::path& input : read)
            if (lead_to_one_file(file, input)) refuse(file.string(), ": is read by this run, and would be overwritten by its results");
    const bool replaced = !o.json.empty() && !is_written_into(o.json);  // a terminal or /dev/null takes both
    if (results.size() == 2 && replaced && lead_to_one_file(results[0], results[1]))
        refuse(results[0].string(), ": is the name of both --json and --report");
}

/// The threads that --threads asks for.
std::unique_ptr<magr::thread_pool> started_pool(int threads) {
    try {
        return std::make_unique<magr::thread_pool>(threads);
    } catch (const std::system_error& error) {
        refuse("--threads: ", threads, " threads cannot be started (", error.what(), "); give a smaller number");
    }
}

void run(const options& o) {
    const model_folder model(o.model);
    const std::vector<std::filesystem::path> targets = result_files(o);
    require_own_names(targets, o, model);
    quantization written = o.how;  // the run whose model --out writes
    written.bits = o.bits.front();
    written.method = o.methods.front();
    if (!o.out.empty()) require_format(model.config(), written, o.output);
    std::optional<output_folder> out;
    progress display;
    if (!o.out.empty()) out.emplace(o.out, targets, [&](const std::string& line) { display.note(line); });
    std::optional<output_file> json_file, html_file;
    if (!o.json.empty()) json_file.emplace(o.json);
    if (!o.report.empty()) html_file.emplace(o.report);
    std::optional<text_decoder> decoder;
    if (wanted_tokens(o, model.config()) > 0) decoder.emplace(o.model, model.config());
    const std::unique_ptr<magr::thread_pool> threads = started_pool(o.threads);
    magr::thread_pool& pool = *threads;
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
        display.stage("reading the model");
        out->begin(model, calibration, written, o.output);
    }

    report results;
    const auto runs = static_cast<double>(o.bits.size() * o.methods.size());
    double passes = 0;  // over the calibration text
    for (const method m : o.methods) passes += calibration_passes(m, o.how.effort);
    display.expect((runs + 1) * static_cast<double>(count_tokens(evaluation)) +
                   static_cast<double>(o.bits.size()) * passes * static_cast<double>(count_tokens(calibration)));
    const evaluator evaluate(model, evaluation, pool, display);
    const sampler samples(o, model.config(), decoder ? &*decoder : nullptr, evaluation.front());

    results.model = printable(one_line(o.model));
    results.calibration_tokens = count_tokens(calibration);
    results.predictions = evaluate.baseline().predictions;
    results.group_size = o.how.group_size;
    results.baseline_perplexity = evaluate.baseline().perplexity;
    results.has_samples = samples.is_on();
    if (samples.is_on()) {
        results.prompt = samples.prompt();
        results.baseline_sample = samples.sample(load_model(model));
    }
    std::vector<block_metrics> metrics;
    for (const int bits : o.bits)
        for (const method m : o.methods) {
            quantization how = o.how;
            how.bits = bits;
            how.method = m;
            if (!takes(m, "--group-size")) how.group_size.reset();
            text_states states = evaluate.begin();
            std::vector<llama_block> blocks;  // all of them only if the model is to write a text
            const auto finished = [&](const llama_block& block) {
                evaluate.pass(states, block);
                if (samples.is_on()) blocks.push_back(block);
            };
            quantization_record record = quantize_model(model, calibration, how, pool, display, finished, out ? &*out : nullptr, &metrics);
            display.stage(std::string(name_of(m)) + " " + std::to_string(bits) + " bits, evaluation");
            const examples::evaluation score = evaluate.score(states);
            results.runs.push_back({.how = how,
                                    .perplexity = score.perplexity,
                                    .kl_divergence = score.kl_divergence,
                                    .output_error = record.mean_output_error(),
                                    .bits_per_weight = record.bits_per_weight(),
                                    .seconds = record.seconds,
                                    .processor_seconds = record.processor_seconds,
                                    .layers = std::move(record.layers),
                                    .remark = std::move(record.remark),
                                    .not_taken = not_taken(m, o)});
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

    std::cout << "model " << results.model << "\ncalibrated on " << results.calibration_tokens << " tokens, evaluated on "
              << results.predictions << " predictions, "
              << (o.how.group_size ? "one scale per " + std::to_string(*o.how.group_size) + " inputs" : "one scale per channel") << "\n\n"
              << table_text(results) << samples_text(results) << std::flush;
    if (json_file) json_file->commit(json_text(results));
    if (html_file) html_file->commit(html_text(results));
    finish_standard_output();
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
    occupy_standard_streams();
    remove_unfinished_files_when_interrupted();
    CLI::App app;
    options o;
    add_options(app, o);
    try {
        app.parse(argc, argv);
        run(o);
        return 0;
    } catch (const CLI::ParseError& error) {
        const int code = app.exit(error) == 0 ? 0 : 2;
        std::cout.flush();
        return std::cout.good() ? code : 2;
    } catch (const input_error& error) {
        return fail(error, 2);
    } catch (const magr::option_error& error) {
        return fail(error, 2);
    } catch (const std::filesystem::filesystem_error& error) {
        return fail(error, 2);
    } catch (const std::bad_alloc&) {
        return fail(std::runtime_error("there is not enough memory"), 1);
    } catch (const std::exception& error) {
        return fail(error, 1);
    }
}
