// SPDX-License-Identifier: MIT
#include "quantize_llama/report.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <string>
#include <vector>

#include "common/json.hpp"
#include "common/text_stream.hpp"

namespace examples {

std::string number_text(double value) {
    if (!std::isfinite(value)) return "-";
    text_stream text;
    const double size = std::abs(value);
    if (size != 0 && (size < 1e-4 || size >= 1e6))
        text << std::scientific << std::setprecision(2) << value;
    else
        text << std::fixed << std::setprecision(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 4) << value;
    return text.str();
}

const run_record* coarsest(const report& r, method m) {
    const run_record* found = nullptr;
    for (const run_record& run : r.runs)
        if (run.how.method == m && (!found || run.how.bits < found->how.bits)) found = &run;
    return found;
}

namespace {

/// A line for each layer with a remark; only some of each run, as one cause often has an effect in many layers.
void write_remarks(std::ostream& out, const report& r) {
    constexpr std::size_t most_lines = 8;
    for (const run_record& run : r.runs) {
        const auto remarks = remarks_of(run);
        for (std::size_t i = 0; i < std::min(remarks.size(), most_lines); ++i)
            out << (i == 0 ? "\n" : "") << run_name(run) << ": " << remarks[i].layer << ": " << remarks[i].text << '\n';
        if (remarks.size() > most_lines)
            out << run_name(run) << ": and " << remarks.size() - most_lines << " other layers, which --json and --report list\n";
    }
}

}  // namespace

std::string run_name(const run_record& run) { return std::string(name_of(run.how.method)) + ", " + std::to_string(run.how.bits) + " bits"; }

std::vector<layer_remark> remarks_of(const run_record& run) {
    std::vector<layer_remark> remarks;
    if (!run.remark.empty()) remarks.push_back({"all layers", run.remark});
    for (const layer_record& layer : run.layers)
        if (!layer.remark.empty()) remarks.push_back({layer.name, layer.remark});
    return remarks;
}

std::vector<std::string> options_not_taken(const report& r) {
    std::vector<std::string> lines;
    for (const run_record& run : r.runs) {
        if (run.not_taken.empty()) continue;
        std::string line = std::string(name_of(run.how.method)) + " does not take ";
        for (std::size_t i = 0; i < run.not_taken.size(); ++i) line.append(i ? ", " : "").append(run.not_taken[i]);
        if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
    }
    return lines;
}

std::string table_text(const report& r) {
    text_stream text;
    const auto line = [&](const std::string& method, const std::string& bits, const std::string& stored, const std::string& perplexity,
                          const std::string& kl, const std::string& error, const std::string& seconds) {
        text << std::left << std::setw(16) << method << std::right << std::setw(5) << bits << std::setw(13) << stored << std::setw(12)
             << perplexity << std::setw(15) << kl << std::setw(14) << error << std::setw(9) << seconds << '\n';
    };
    line("method", "bits", "bits/weight", "perplexity", "KL divergence", "output error", "seconds");
    line("full precision", "", "", number_text(r.baseline_perplexity), "", "", "");
    int bits = 0;
    for (const run_record& run : r.runs) {
        if (run.how.bits != bits) text << '\n';
        bits = run.how.bits;
        line(name_of(run.how.method), std::to_string(bits), number_text(run.bits_per_weight), number_text(run.perplexity),
             number_text(run.kl_divergence), number_text(run.output_error), number_text(run.seconds));
    }
    const std::vector<std::string> left = options_not_taken(r);
    for (std::size_t i = 0; i < left.size(); ++i) text << (i == 0 ? "\n" : "") << left[i] << '\n';
    write_remarks(text, r);
    if (!r.runs.empty() && r.runs.back().peak_memory_bytes > 0)
        text << "\nat most " << r.runs.back().peak_memory_bytes / 1'000'000 << " MB of memory\n";
    return text.str();
}

std::string samples_text(const report& r) {
    if (!r.has_samples) return {};
    text_stream text;
    const auto show = [&](const std::string& name, const std::string& sample) {
        text << "\n--- " << name << "\n" << r.prompt << "|" << sample << "\n";
    };
    show("full precision", r.baseline_sample);
    using methods = std::vector<method>;
    for (const methods& preferred : {methods{method::optq, method::rtn}, methods{method::automatic, method::magr_optq, method::magr_rtn}})
        for (const method m : preferred)
            if (const run_record* run = coarsest(r, m)) {
                show(run_name(*run), run->sample);
                break;
            }
    return text.str();
}

std::string json_text(const report& r) {
    const auto layers_with_magr = [](const run_record& run) {
        return std::count_if(run.layers.begin(), run.layers.end(), [](const layer_record& layer) { return layer.alpha > 0; });
    };
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (const run_record& run : r.runs) {
        nlohmann::ordered_json group_size, peak_memory, remarks = nlohmann::ordered_json::object();
        for (const auto& [layer, text] : remarks_of(run)) remarks[layer] = text;
        if (run.peak_memory_bytes > 0) peak_memory = run.peak_memory_bytes;
        if (run.how.group_size) group_size = *run.how.group_size;
        results.push_back({{"method", name_of(run.how.method)},
                           {"bits", run.how.bits},
                           {"group_size", group_size},
                           {"bits_per_weight", run.bits_per_weight},
                           {"perplexity", run.perplexity},
                           {"kl", run.kl_divergence},
                           {"output_error", run.output_error},
                           {"layers_with_magr", layers_with_magr(run)},
                           {"options_not_taken", run.not_taken},
                           {"remarks", remarks},
                           {"seconds", run.seconds},
                           {"processor_seconds", run.processor_seconds},
                           {"peak_memory_bytes", peak_memory}});
    }
    const nlohmann::ordered_json object{{"model", r.model}, {"baseline", {{"perplexity", r.baseline_perplexity}}}, {"results", results}};
    return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace examples
