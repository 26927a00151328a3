// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "quantize_llama/report.hpp"

#include "common/text_stream.hpp"

namespace examples {
namespace {

constexpr std::string_view style = R"(
:root{color-scheme:light dark;--ink:#1c2430;--soft:#66707f;--line:#d9dee6;
--paper:#fff;--panel:#f6f8fa;--accent:#0a66c2;--good:#e6f4ea}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#98a2b0;--line:#333b47;
--paper:#14181e;--panel:#1b2028;--accent:#6cb2ff;--good:#17341f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.7rem;margin:0 0 .3rem}
h2{font-size:1.2rem;margin:2.6rem 0 .6rem}
p{margin:.4rem 0}
.soft{color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600;border-bottom:2px solid var(--line)}
th:first-child,td:first-child{text-align:left}
tr.first td{border-top:1px solid var(--line)}
td.best{background:var(--good);font-weight:600}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:1rem}
figure{margin:0;background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.8rem}
figcaption{font-size:.85rem;color:var(--soft);text-align:center}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
svg .axis{stroke:var(--soft);stroke-width:1}
svg .same{stroke:var(--soft);stroke-width:1;stroke-dasharray:5 4}
svg .half{stroke:var(--soft);stroke-width:1;stroke-dasharray:1 4}
svg circle{fill:var(--accent);fill-opacity:.55}
article{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;margin:.8rem 0}
article h3{margin:0 0 .3rem;font-size:.95rem}
article p{white-space:pre-wrap;overflow-wrap:anywhere}
.prompt{color:var(--soft)}
)";

std::string escape(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default: out += c;
        }
    }
    return out;
}

void write_table(std::ostream& out, const report& r) {
    std::map<int, double> best;  // lowest perplexity at each number of bits
    for (const run_record& run : r.runs) {
        const auto entry = best.emplace(run.how.bits, run.perplexity).first;
        entry->second = std::min(entry->second, run.perplexity);
    }
    out << "<div class=\"scroll\"><table>\n<tr><th>method</th><th>bits</th><th>bits/weight</th><th>perplexity</th><th>KL "
           "divergence</th><th>output error</th>"
           "<th>seconds</th></tr>\n<tr><td>full precision</td><td></td><td></td><td>"
        << number_text(r.baseline_perplexity) << "</td><td></td><td></td><td></td></tr>\n";
    int bits = 0;
    for (const run_record& run : r.runs) {
        out << (run.how.bits != bits ? "<tr class=\"first\">" : "<tr>") << "<td>" << name_of(run.how.method) << "</td><td>" << run.how.bits
            << "</td><td>" << number_text(run.bits_per_weight) << "</td><td"
            << (run.perplexity == best[run.how.bits] ? " class=\"best\">" : ">") << number_text(run.perplexity) << "</td><td>"
            << number_text(run.kl_divergence) << "</td><td>" << number_text(run.output_error) << "</td><td>" << number_text(run.seconds)
            << "</td></tr>\n";
        bits = run.how.bits;
    }
    out << "</table></div>\n";
}

void write_remarks_as_html(std::ostream& out, const report& r) {
    const std::vector<std::string> left = options_not_taken(r);
    if (left.empty() && std::all_of(r.runs.begin(), r.runs.end(), [](const run_record& run) { return remarks_of(run).empty(); })) return;
    out << "<h2>Remarks</h2>\n<ul>\n";
    for (const std::string& line : left) out << "<li>" << escape(line) << "</li>\n";
    for (const run_record& run : r.runs)
        for (const auto& [layer, text] : remarks_of(run))
            out << "<li>" << run_name(run) << ": " << escape(layer) << ": " << escape(text) << "</li>\n";
    out << "</ul>\n";
}

/// One scatter plot: each output channel at (max |w| before, max |w| after).
void write_scatter(std::ostream& out, const layer_record& layer) {
    constexpr double size = 280, left = 42, bottom = 36, inner = size - left - 10;
    constexpr std::size_t most_points = 512;
    const double largest = static_cast<double>(*std::max_element(layer.largest_before.begin(), layer.largest_before.end()));
    const double range = largest > 0 ? largest * 1.05 : 1.0;
    const auto x = [&](double value) { return number_text(left + inner * value / range); };
    const auto y = [&](double value) { return number_text(size - bottom - inner * value / range); };
    out << "<figure><svg viewBox=\"0 0 " << size << ' ' << size << "\" role=\"img\" aria-label=\"" << escape(layer.name)
        << ": largest magnitude of each output channel before and after MagR\">\n";
    const auto line = [&](std::string_view kind, double x1, double y1, double x2, double y2) {
        out << "<line class=\"" << kind << "\" x1=\"" << x(x1) << "\" y1=\"" << y(y1) << "\" x2=\"" << x(x2) << "\" y2=\"" << y(y2)
            << "\"/>\n";
    };
    line("axis", 0, 0, range, 0);
    line("axis", 0, 0, 0, range);
    line("same", 0, 0, range, range);
    line("half", 0, 0, range, range / 2);
    const double step = std::pow(10.0, std::floor(std::log10(range)));  // of the ticks, then refined to at least three of them
    const double tick = range / step >= 3 ? step : range / step >= 1.5 ? step / 2 : step / 5;
    for (double value = 0; value <= range; value += tick) {
        text_stream label;
        label << std::round(value / tick) * tick;
        out << "<text text-anchor=\"middle\" x=\"" << x(value) << "\" y=\"" << size - bottom + 14 << "\">" << label.str() << "</text>\n"
            << "<text text-anchor=\"end\" x=\"" << left - 5 << "\" y=\"" << y(value) << "\" dy=\"4\">" << label.str() << "</text>\n";
    }
    out << "<text text-anchor=\"middle\" x=\"" << left + inner / 2 << "\" y=\"" << size - 6 << "\">before</text>\n"
        << "<text text-anchor=\"middle\" transform=\"translate(10 " << size - bottom - inner / 2 << ") rotate(-90)\">after</text>\n";
    const std::size_t stride = (layer.largest_before.size() + most_points - 1) / most_points;
    for (std::size_t i = 0; i < layer.largest_before.size(); i += stride)
        out << "<circle r=\"2.2\" cx=\"" << x(static_cast<double>(layer.largest_before[i])) << "\" cy=\""
            << y(static_cast<double>(layer.largest_after[i])) << "\"/>\n";
    out << "</svg><figcaption>" << escape(layer.name) << ", alpha " << layer.alpha << "</figcaption></figure>\n";
}

/// Three layers of different kind and depth.
void write_figures(std::ostream& out, const report& r) {
    const run_record* run = coarsest(r, method::magr_optq);
    if (!run) run = coarsest(r, method::magr_rtn);
    if (!run) return;
    const std::size_t blocks = run->layers.size() / all_linears.size();
    const auto layer = [&](std::size_t block, linear kind) -> const layer_record& {
        return run->layers[block * all_linears.size() + static_cast<std::size_t>(kind)];
    };
    out << "<h2>Weight magnitudes</h2>\n<p class=\"soft\">Each point is an output channel of a layer: the largest magnitude among its "
           "weights "
           "before and after MagR, as preprocessed for "
        << run->how.bits << " bits. On the dashed line nothing has changed, on the dotted one it is halved.</p>\n<div class=\"figures\">\n";
    write_scatter(out, layer(0, linear::q_proj));
    write_scatter(out, layer(blocks / 2, linear::up_proj));
    write_scatter(out, layer(blocks - 1, linear::down_proj));
    out << "</div>\n";
}

void write_sample(std::ostream& out, const report& r, const std::string& name, const std::string& sample) {
    out << "<article><h3>" << name << "</h3><p><span class=\"prompt\">" << escape(r.prompt) << "</span>" << escape(sample)
        << "</p></article>\n";
}

void write_samples(std::ostream& out, const report& r) {
    out << "<h2>Texts</h2>\n<p class=\"soft\">What each model writes after the same beginning, with the same random numbers.</p>\n";
    write_sample(out, r, "full precision", r.baseline_sample);
    for (const run_record& run : r.runs) write_sample(out, r, run_name(run), run.sample);
}

}  // namespace

std::string html_text(const report& r) {
    text_stream out;
    out << "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Quantization with and without "
           "MagR</title>\n<style>"
        << style << "</style>\n</head>\n<body>\n<main>\n<h1>Quantization with and without MagR</h1>\n<p class=\"soft\">Model "
        << escape(r.model) << ", calibrated on " << r.calibration_tokens << " tokens, evaluated on " << r.predictions << " predictions; ";
    if (r.group_size)
        out << "one scale per " << *r.group_size << " inputs.</p>\n";
    else
        out << "one scale per output channel.</p>\n";
    out << "<h2>Results</h2>\n";
    write_table(out, r);
    out << "<p class=\"soft\">KL divergence: to the full-precision model, mean over the predictions, in nats. Output error: squared error "
           "of a "
           "layer's outputs relative to their energy, mean over the layers. Seconds: of calibration and quantization.</p>\n";
    write_remarks_as_html(out, r);
    write_figures(out, r);
    if (r.has_samples) write_samples(out, r);
    out << "</main>\n</body>\n</html>\n";
    return out.str();
}

}  // namespace examples
