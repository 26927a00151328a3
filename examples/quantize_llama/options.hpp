// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <magr/preprocess/options.hpp>
#include <optional>
#include <string>
#include <vector>

#include "quantize_llama/output_format.hpp"
#include "quantize_llama/quantize_model.hpp"

namespace examples {

/// Ids of a text that the model writes, unless told otherwise.
inline constexpr std::int64_t default_self_tokens = 16384;

/// Ids of a text that the models write for the report, unless told otherwise: only models up to this size, of which there are two in memory
/// then, one after the other.
inline constexpr std::int64_t default_sample_tokens = 240;
inline constexpr std::int64_t largest_sampled_model = std::int64_t{1} << 30;

/// The command line.
struct options {
    std::string model;
    std::string calibration = "self";
    std::string evaluation = "self";
    std::optional<std::int64_t> calibration_tokens;
    std::optional<std::int64_t> evaluation_tokens;
    std::vector<int> bits{2, 3, 4};
    std::vector<method> methods = default_methods();
    quantization how;                ///< what all runs share
    std::vector<std::string> asked;  ///< of `partial_options`, those that the command line has
    std::uint32_t seed = 1;
    int threads = 1;
    std::optional<std::int64_t> sample_tokens;
    std::string json;
    std::string report;
    std::string out;
    output_settings output;
};

/// The options on the command line that a method does not take.
[[nodiscard]] std::vector<std::string> not_taken(method m, const options& o);

/// Declares the options; their values arrive in `o` when `app` parses. Refuses options that no method of the run takes.
void add_options(CLI::App& app, options& o);

}  // namespace examples
