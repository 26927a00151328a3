// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quantize_llama/quantize_model.hpp"

/// What one run of the program found, and its three forms.
namespace examples {

struct run_record {
    quantization how;
    double perplexity = 0;
    double kl_divergence = 0;
    double output_error = 0;
    double bits_per_weight = 0;  ///< all that is stored of the linear layers, in bits, over the number of their weights
    double seconds = 0;
    double processor_seconds = 0;
    std::int64_t peak_memory_bytes = 0;  ///< of the whole process, up to the end of this run; 0 if it is not known
    std::vector<layer_record> layers;
    std::string remark = {};                  ///< what was not as usual with the model as a whole
    std::vector<std::string> not_taken = {};  ///< options on the command line that mean nothing to the method
    std::string sample = {};                  ///< what the quantized model writes after the prompt
};

struct report {
    std::string model;
    std::int64_t calibration_tokens = 0;
    std::int64_t predictions = 0;
    std::optional<magr::index_t> group_size;
    double baseline_perplexity = 0;
    bool has_samples = false;  ///< whether the models wrote texts
    std::string prompt;
    std::string baseline_sample;
    std::vector<run_record> runs;
};

/// "optq, 2 bits"
[[nodiscard]] std::string run_name(const run_record& run);

/// What was not as usual with some layers, or "all layers" together.
struct layer_remark {
    std::string layer, text;
};
[[nodiscard]] std::vector<layer_remark> remarks_of(const run_record& run);

/// "quip does not take --group-size, --storage", for each method that was given options which mean nothing to it.
[[nodiscard]] std::vector<std::string> options_not_taken(const report& r);

/// For the terminal: one line per run, grouped by bits, then the remarks.
[[nodiscard]] std::string table_text(const report& r);

/// For the terminal: what full precision and the coarsest quantization, without and with MagR, write after the same prompt. Empty without
/// texts.
[[nodiscard]] std::string samples_text(const report& r);

/// {"model", "baseline": {"perplexity"}, "results": [{"method", "bits", "group_size", "bits_per_weight", "perplexity", "kl",
/// "output_error", "layers_with_magr", "options_not_taken": [option], "remarks": {layer: text}, "seconds", "processor_seconds",
/// "peak_memory_bytes"}]}; group_size is null if there are no groups, a number that is not finite or not known is null.
[[nodiscard]] std::string json_text(const report& r);

/// One page that needs no other file: the table, the weights' magnitudes before and after MagR, a text by each model.
[[nodiscard]] std::string html_text(const report& r);

/// A number with four significant digits, without an exponent where that is readable.
[[nodiscard]] std::string number_text(double value);

/// The run of `m` at the smallest number of bits, if there is one.
[[nodiscard]] const run_record* coarsest(const report& r, method m);

}  // namespace examples
