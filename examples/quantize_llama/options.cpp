// SPDX-License-Identifier: MIT
#include "quantize_llama/options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <magr/pack/format.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "common/text_stream.hpp"
#include "quantize_llama/choices.hpp"

namespace examples {
namespace {

constexpr std::int64_t most_tokens = std::int64_t{1} << 40;
constexpr std::int64_t whole_row = -1;  // what GPTQ's files and tools call one group per row

/// Where the source tree keeps the embedded model; after the tree has moved, the same place below the current folder.
std::string embedded_model() {
    std::error_code error;
    return std::filesystem::is_directory(MAGR_EMBEDDED_MODEL, error) ? MAGR_EMBEDDED_MODEL : "examples/quantize_llama/model";
}

std::string listed(const std::vector<double>& values) {
    text_stream text;
    for (std::size_t i = 0; i < values.size(); ++i) text << (i ? ", " : "") << values[i];
    return text.str();
}

/// An option whose values have names.
template <class Value, class Enum, std::size_t count>
CLI::Option* add_choice(CLI::App& app, const std::string& name, Value& value, const std::array<Enum, count>& choices,
                        std::string description) {
    std::vector<std::string> names;
    for (const Enum choice : choices) names.emplace_back(to_string(choice));
    const auto set = [&value, &choices](const std::string& chosen) {
        value = *std::find_if(choices.begin(), choices.end(), [&](Enum choice) { return chosen == to_string(choice); });
    };
    if constexpr (std::is_same_v<Value, Enum>) description += std::string(" (default: ") + to_string(value) + ")";
    return app.add_option_function<std::string>(name, set, description)->type_name("NAME")->check(CLI::IsMember(names));
}

/// Accepts the finite numbers from `low` to `high`.
CLI::Validator number_between(double low, double high) {
    const auto check = [low, high](const std::string& text) {
        double value = 0;
        const char* const end = text.data() + text.size();
        const auto parsed = std::from_chars(text.data(), end, value);
        if (parsed.ec == std::errc() && parsed.ptr == end && value >= low && value <= high) return std::string();
        text_stream message;
        message << text << " is not a number from " << low << " to " << high;
        return message.str();
    };
    return {check, ""};
}

/// Refuses a name that is empty, as that from an unset variable of a shell is: the option would count as not given.
CLI::Validator not_empty() {
    return {[](const std::string& name) { return std::string(name.empty() ? "the name is empty" : ""); }, ""};
}

/// Refuses what no method of the run would do, and what the library would refuse after a part of the work.
void require_taken(const options& o) {
    const magr::zero_point zero = o.how.zero_point;
    const magr::column_order order = o.how.order;
    if (std::find(o.methods.begin(), o.methods.end(), method::owq) != o.methods.end()) {
        if (zero == magr::zero_point::real || zero == magr::zero_point::offset)
            throw CLI::ValidationError("--zero-point", "owq takes only none, middle and integer");
        if (order != magr::column_order::natural && order != magr::column_order::act_order)
            throw CLI::ValidationError("--order", "owq takes only natural and act_order");
    }
    for (const std::string& option : o.asked)
        if (std::none_of(o.methods.begin(), o.methods.end(), [&](method m) { return takes(m, option); }))
            throw CLI::ValidationError(option, std::string(o.methods.size() == 1 ? name_of(o.methods.front()) : "no method of this run") +
                                                   (o.methods.size() == 1 ? " does not take it" : " takes it"));
}

/// A GGUF file's types say what grids are.
void suit_gguf(options& o, const CLI::App& app) {
    const bool is_format = std::string_view("gguf") == o.output.format->name;
    if (is_format && !o.how.gguf) throw CLI::ValidationError("--format", "gguf needs --gguf-type");
    if (is_format && o.output.gguf_base.empty()) throw CLI::ValidationError("--format", "gguf needs --gguf-base");
    if (!is_format && !o.output.gguf_base.empty()) throw CLI::ValidationError("--gguf-base", "is for --format gguf");
    if (!o.how.gguf) return;
    if (o.output.format->packed)
        throw CLI::ValidationError("--gguf-type", std::string(o.output.format->name) + " files have grids of their own");
    for (const char* option : {"--bits", "--group-size", "--zero-point", "--storage"})
        if (app.count(option) > 0) throw CLI::ValidationError(option, "the types of --gguf-type decide about it");
    for (const method m : o.methods) {
        const bool has_own_grids =
            !traits_of(m).has_codes || ((traits_of(m).published || m == method::paper) && is_k_quant(traits_of(*o.how.gguf).type));
        if (has_own_grids)
            throw CLI::ValidationError("--gguf-type",
                                       std::string(name_of(m)) + " does not round onto the grids of " + to_string(*o.how.gguf));
    }
    const magr::grid_options grid = grid_options_of(traits_of(*o.how.gguf).type);  // of most layers, for the report
    o.bits = {grid.bits};
    o.how.group_size = grid.group_size;
    o.how.zero_point = grid.zero_point;
    o.how.storage = grid.storage;
}

/// Gives the options of the quantization that were not given the values that suit the format.
void suit_format(options& o, const CLI::App& app) {
    suit_gguf(o, app);
    if (!o.output.format->packed) return;
    const magr::grid_options grid = magr::grid_options_for(*o.output.format->packed);
    const auto is_open = [&](const char* option) { return app.count(option) == 0; };
    if (is_open("--bits")) o.bits = {grid.bits};
    if (is_open("--group-size")) o.how.group_size = grid.group_size;
    if (is_open("--zero-point")) o.how.zero_point = grid.zero_point;
    if (is_open("--storage")) o.how.storage = grid.storage;
    if (is_open("--out-dtype")) o.output.weights = o.how.storage;
}

}  // namespace

std::vector<std::string> not_taken(method m, const options& o) {
    std::vector<std::string> left;
    std::copy_if(o.asked.begin(), o.asked.end(), std::back_inserter(left), [&](const std::string& option) { return !takes(m, option); });
    return left;
}

void add_options(CLI::App& app, options& o) {
    o.model = embedded_model();
    o.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));

    app.description(
        "Quantizes a Llama model with and without MagR and compares the results.\n\n"
        "Without options: the embedded model, calibrated and evaluated on texts that it writes itself, at 2, 3 and 4 bits.\n"
        "Progress goes to stderr, the table and texts by the models to stdout. Exit code: 0; 2 if the command line, the model\n"
        "folder or another file cannot be used; 1 if anything else fails.\n");

    const std::string data = "Data", self_tokens = std::to_string(default_self_tokens);
    app.add_option("--model", o.model,
                   "Hugging Face folder: config.json and model.safetensors, or model.safetensors.index.json and its files")
        ->group(data)
        ->type_name("FOLDER")
        ->check(not_empty())
        ->capture_default_str();
    app.add_option("--calib", o.calibration, "Token ids to calibrate on (*.u16, *.u32), or self: sampled from the model")
        ->group(data)
        ->type_name("FILE|self")
        ->check(not_empty())
        ->capture_default_str();
    app.add_option("--eval", o.evaluation, "Token ids to evaluate on, or self: sampled with another seed")
        ->group(data)
        ->type_name("FILE|self")
        ->check(not_empty())
        ->capture_default_str();
    app.add_option("--calib-tokens", o.calibration_tokens,
                   "Calibrate on this many ids (default: all of a file, " + self_tokens + " for self)")
        ->group(data)
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, most_tokens));
    app.add_option("--eval-tokens", o.evaluation_tokens, "Evaluate on this many ids (default: all of a file, " + self_tokens + " for self)")
        ->group(data)
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{2}, most_tokens));
    app.add_option("--seed", o.seed, "Seed of all sampling")->group(data)->type_name("N")->capture_default_str();

    const std::string quantizing = "Quantization";
    app.add_option("--bits", o.bits, "Bits per weight, from 2 to 8; several separated by commas (default: 2,3,4)")
        ->group(quantizing)
        ->type_name("N,...")
        ->delimiter(',')
        ->check(CLI::Range(2, 8));
    const auto set_methods = [&o](const std::vector<std::string>& names) {
        o.methods.clear();
        for (const std::string& name : names)
            if (name == "all")
                o.methods.insert(o.methods.end(), all_methods.begin(), all_methods.end());
            else
                o.methods.push_back(*std::find_if(all_methods.begin(), all_methods.end(), [&](method m) { return name == name_of(m); }));
    };
    std::vector<std::string> method_names{"all"};
    for (const method m : all_methods) method_names.emplace_back(name_of(m));
    app.add_option_function<std::vector<std::string>>("--methods", set_methods, "Which methods, or all (default: the first eight)")
        ->group(quantizing)
        ->type_name("NAME,...")
        ->delimiter(',')
        ->check(CLI::IsMember(method_names));
    const auto set_group_size = [&o](const std::int64_t& size) {
        if (size != whole_row && size < 1)
            throw CLI::ValidationError("--group-size", std::to_string(size) + " is neither a number of inputs nor -1 for whole rows");
        o.how.group_size.reset();
        if (size != whole_row) o.how.group_size = static_cast<magr::index_t>(size);
    };
    app.add_option_function<std::int64_t>("--group-size", set_group_size,
                                          "Inputs that share a scale and a penalty (default: whole rows, also asked for by -1)")
        ->group(quantizing)
        ->type_name("N");
    app.add_option("--alpha", o.how.alpha,
                   "MagR's penalty (default: for each layer the one with the smallest output error, out of " +
                       listed(default_alphas(false)) + ", with groups " + listed(default_alphas(true)) + ")")
        ->group(quantizing)
        ->type_name("X")
        ->check(number_between(0, 1e6));
    app.add_option("--beta", o.how.beta,
                   "Factor of the grid's range (the paper takes 0.8, 0.9, 1 at 2, 3, 4 bits per channel, 0.95 in groups of 128)")
        ->group(quantizing)
        ->type_name("X")
        ->check(number_between(1e-3, 1))
        ->capture_default_str();
    app.add_option("--damping", o.how.damping,
                   "Multiple of the Gram matrix' mean diagonal added to its diagonal (default: 0.01, on k-quants chosen)")
        ->group(quantizing)
        ->type_name("X")
        ->check(number_between(1e-12, 1e6));
    add_choice(app, "--solver", o.how.solver, solvers, "MagR's solver")->group(quantizing);
    add_choice(app, "--order", o.how.order, column_orders,
               "In which order OPTQ takes the inputs: as they are, those of large activations first, or the same keeping groups together")
        ->group(quantizing);
    add_choice(app, "--zero-point", o.how.zero_point, zero_points,
               "What is stored with a scale: nothing, its sign, a code, a real number, or the weight of code 0")
        ->group(quantizing);
    add_choice(app, "--storage", o.how.storage, storage_types, "Type in which scales are stored")->group(quantizing);
    add_choice(app, "--range", o.how.range, range_searches,
               "How the range of a grid is chosen (default: min_max, of auto output_error; paper has its own)")
        ->group(quantizing);
    add_choice(app, "--target", o.how.target, rounding_targets,
               "Which weights are rounded after MagR: those that it made, or the original ones on the grids of those")
        ->group(quantizing);
    app.add_option("--refinement-rounds", o.how.refinement_rounds, "Rounds of scales and codes of the methods that refine")
        ->group(quantizing)
        ->type_name("N")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_option("--drift", o.how.drift, "Part of the drift of a layer's inputs that auto makes up for")
        ->group(quantizing)
        ->type_name("X")
        ->check(number_between(0, 1))
        ->capture_default_str();

    app.add_option("--effort", o.how.effort,
                   "Of auto: 2 tunes all scales and the norms together in the end, which takes the whole model in memory and several times "
                   "as long")
        ->group(quantizing)
        ->type_name("N")
        ->check(CLI::Range(1, 2))
        ->capture_default_str();
    app.add_option("--activation-bits", o.how.activation_bits,
                   "Round the inputs of the linear layers to so many bits, token by token, as a program with integer products does "
                   "(default: they keep float32)")
        ->group(quantizing)
        ->type_name("N")
        ->check(CLI::Range(2, 8));

    std::vector<std::string> gguf_types;
    for (const gguf_mix_traits& mix : gguf_mixes) gguf_types.emplace_back(mix.name);
    const auto set_gguf_type = [&o](const std::string& name) {
        o.how.gguf = std::find_if(gguf_mixes.begin(), gguf_mixes.end(), [&](const gguf_mix_traits& m) { return name == m.name; })->value;
    };
    app.add_option_function<std::string>("--gguf-type", set_gguf_type,
                                         "Quantize onto the grids of GGUF files, in place of --bits, --group-size, --zero-point and "
                                         "--storage: one type for all layers, or llama.cpp's mix of that name")
        ->group(quantizing)
        ->type_name("NAME")
        ->check(CLI::IsMember(gguf_types));

    const std::string output = "Output";
    app.add_option("--json", o.json, "Write the results as JSON")->group(output)->type_name("FILE")->check(not_empty());
    app.add_option("--report", o.report, "Write one self-contained HTML page: table, magnitudes before and after MagR, texts")
        ->group(output)
        ->type_name("FILE")
        ->check(not_empty());
    CLI::Option* const out =
        app.add_option(
               "--out", o.out,
               "Write the quantized model to this folder as it is made, and go on with what an interrupted run has left there; needs "
               "one method and one number of bits")
            ->group(output)
            ->type_name("FOLDER")
            ->check(not_empty());
    std::vector<std::string> format_names;
    std::string readers;
    for (const output_format& format : output_formats()) {
        format_names.emplace_back(format.name);
        readers += std::string("\n") + format.name + ": " + format.readers;
    }
    const auto set_format = [&o](const std::string& name) {
        const auto is_named = [&](const output_format& format) { return name == format.name; };
        o.output.format = &*std::find_if(output_formats().begin(), output_formats().end(), is_named);
    };
    app.add_option_function<std::string>("--format", set_format,
                                         std::string("What --out writes (default: ") + o.output.format->name +
                                             "). With packed weights, of --bits, --group-size, --zero-point and --storage those that are "
                                             "not given suit the format, and --out-dtype is the type of the scales. What loads it:" +
                                             readers)
        ->group(output)
        ->type_name("NAME")
        ->check(CLI::IsMember(format_names))
        ->needs(out);
    app.add_option("--gguf-base", o.output.gguf_base,
                   "GGUF file of the same model in f32, f16 or bf16, as convert_hf_to_gguf.py makes it: --format gguf takes metadata and "
                   "tokenizer from it")
        ->group(output)
        ->type_name("FILE")
        ->check(not_empty())
        ->needs(out);
    app.add_flag_function(
           "--gguf-small-embedding", [&o](std::int64_t) { o.output.gguf_keeps_embedding = false; },
           "Round embedding and head to the types that llama.cpp takes for them; else they are as in --gguf-base")
        ->group(output)
        ->needs(out);
    add_choice(app, "--out-dtype", o.output.weights, storage_types,
               "Type in which dequantized weights are written, and to which they are rounded; of packed ones that of all others")
        ->group(output)
        ->needs(out);
    app.add_option("--sample-tokens", o.sample_tokens,
                   "Length of the texts that the models write, which needs the whole model in memory; 0: none (default: " +
                       std::to_string(default_sample_tokens) + ", of models above 1 GiB none)")
        ->group(output)
        ->type_name("N")
        ->check(CLI::Range(0, 4096));
    app.add_option("--threads", o.threads, "Threads; the results are the same for any number")
        ->group(output)
        ->type_name("N")
        ->check(CLI::Range(1, 1024));

    app.callback([&app, &o] {
        suit_format(o, app);
        for (const char* option : partial_options)
            if (app.count(option) > 0) o.asked.emplace_back(option);
        require_taken(o);
        if (!o.out.empty() && (o.methods.size() != 1 || o.bits.size() != 1))
            throw CLI::ValidationError("--out", "needs one method and one number of bits, given with --methods and --bits");
        if (!o.out.empty() && !traits_of(o.methods.front()).has_codes)
            throw CLI::ValidationError("--out", std::string(name_of(o.methods.front())) +
                                                    " stores more of a layer than codes and grids, which is all that the folder can hold");
    });
}

}  // namespace examples
