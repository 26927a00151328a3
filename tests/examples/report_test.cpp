// SPDX-License-Identifier: MIT
#include "quantize_llama/report.hpp"

#include <limits>

#include "common/json.hpp"
#include "refusal.hpp"
#include "support/catch.hpp"

using namespace examples;

namespace {

report sample_report() {
    report r;
    r.model = "folder/<model>";
    r.calibration_tokens = 1000;
    r.predictions = 900;
    r.baseline_perplexity = 3.25;
    r.has_samples = true;
    r.prompt = "Once & ";
    r.baseline_sample = "full <b>text</b>";
    for (const int bits : {2, 3})
        for (const method m : default_methods()) {
            run_record run;
            run.how.method = m;
            run.how.bits = bits;
            run.perplexity = 10.0 * bits + static_cast<double>(m);
            run.kl_divergence = 0.5;
            run.output_error = 0.125;
            run.bits_per_weight = 2.25;
            run.seconds = 1.5;
            run.processor_seconds = 2.5;
            run.peak_memory_bytes = 250'000'000;
            run.sample = std::string(name_of(m)) + " writes \"this\"";
            if (uses_magr(m))
                for (const linear kind : all_linears)
                    run.layers.push_back(
                        {.name = name_of(kind), .alpha = 1e-3, .largest_before = {1.0f, 2.0f, 0.0f}, .largest_after = {0.5f, 0.75f, 0.0f}});
            r.runs.push_back(run);
        }
    return r;
}

}  // namespace

TEST_CASE("report: the JSON has the documented keys and values", "[examples][report]") {
    report r = sample_report();
    r.runs[0].how.group_size = 64;
    r.runs[1].peak_memory_bytes = 0;
    r.runs[1].perplexity = std::numeric_limits<double>::infinity();
    const json object = json::parse(json_text(r));
    CHECK(object.size() == 3);
    CHECK(object.at("model") == "folder/<model>");
    CHECK(object.at("baseline") == json{{"perplexity", 3.25}});
    REQUIRE(object.at("results").size() == 16);
    CHECK(object.at("results")[0] == json{{"method", "rtn"},
                                          {"bits", 2},
                                          {"group_size", 64},
                                          {"bits_per_weight", 2.25},
                                          {"perplexity", 20.0},
                                          {"kl", 0.5},
                                          {"output_error", 0.125},
                                          {"layers_with_magr", 0},
                                          {"options_not_taken", json::array()},
                                          {"remarks", json::object()},
                                          {"seconds", 1.5},
                                          {"processor_seconds", 2.5},
                                          {"peak_memory_bytes", 250'000'000}});
    CHECK(object.at("results")[1].at("perplexity").is_null());
    CHECK(object.at("results")[1].at("peak_memory_bytes").is_null());
    CHECK(object.at("results")[15].at("method") == "auto");
    CHECK(object.at("results")[3].at("method") == "magr+rtn");
    CHECK(object.at("results")[3].at("layers_with_magr") == all_linears.size());
    CHECK(object.at("results")[15].at("group_size").is_null());
}

TEST_CASE("report: the table has a line for full precision and for every run", "[examples][report]") {
    const std::string table = table_text(sample_report());
    CHECK_THAT(table, mentions("full precision"));
    for (const char* part : {"rtn                 2        2.250       20.00         0.5000        0.1250    1.500",
                             "magr+optq           3        2.250       34.00", "at most 250 MB of memory"})
        CHECK_THAT(table, mentions(part));
}

TEST_CASE("report: the terminal shows full precision and the coarsest runs without and with MagR", "[examples][report]") {
    const std::string samples = samples_text(sample_report());
    CHECK_THAT(samples, mentions("--- full precision\nOnce & |full <b>text</b>"));
    CHECK_THAT(samples, mentions("--- optq, 2 bits\nOnce & |optq writes"));
    CHECK_THAT(samples, mentions("--- auto, 2 bits\nOnce & |auto writes"));
    CHECK_THAT(samples, !mentions("3 bits"));

    report only_rtn = sample_report();
    std::erase_if(only_rtn.runs, [](const run_record& run) { return uses_optq(run.how.method); });
    CHECK_THAT(samples_text(only_rtn), mentions("--- magr+rtn, 2 bits"));
}

TEST_CASE("report: the page is complete in itself and escapes what it shows", "[examples][report]") {
    const std::string page = html_text(sample_report());
    for (const char* reference : {"http", "src=", "href=", "url(", "@import", "<script", "<link"}) CHECK_THAT(page, !mentions(reference));
    CHECK_THAT(page, !mentions("<b>"));
    CHECK_THAT(page, !mentions("<model>"));
    for (const char* part :
         {"folder/&lt;model&gt;", "full &lt;b&gt;text&lt;/b&gt;", "Once &amp; ", "writes &quot;this&quot;", "magr+optq, 3 bits"})
        CHECK_THAT(page, mentions(part));
    const auto count = [&](const std::string& part) {
        std::size_t n = 0;
        for (std::size_t at = page.find(part); at != std::string::npos; at = page.find(part, at + 1)) ++n;
        return n;
    };
    CHECK(count("<svg") == 3);
    CHECK(count("<circle") == 9);
    CHECK(count("<article>") == 17);
    for (const auto& [opened, closed] : {std::pair{"<table", "</table>"},
                                         {"<figure>", "</figure>"},
                                         {"<svg", "</svg>"},
                                         {"<article", "</article>"},
                                         {"<tr", "</tr>"},
                                         {"<td", "</td>"},
                                         {"<div", "</div>"},
                                         {"<main", "</main>"},
                                         {"<html", "</html>"}})
        CHECK(count(opened) == count(closed));
}

TEST_CASE("report: a layer that was not quantized as usual is named in all three forms", "[examples][report]") {
    report r = sample_report();
    CHECK_THAT(html_text(r), !mentions("Remarks"));
    r.runs[2].layers = {{.name = "layers.0.x", .remark = "all 8 inputs are <zero>"}, {.name = "layers.1.x"}};
    CHECK_THAT(table_text(r), mentions("\noptq+refine, 2 bits: layers.0.x: all 8 inputs are <zero>\n"));
    CHECK_THAT(table_text(r), !mentions("layers.1.x"));
    CHECK(json::parse(json_text(r)).at("results")[2].at("remarks") == json{{"layers.0.x", "all 8 inputs are <zero>"}});
    CHECK_THAT(html_text(r), mentions("<li>optq+refine, 2 bits: layers.0.x: all 8 inputs are &lt;zero&gt;</li>"));

    r.runs[2].layers.assign(10, r.runs[2].layers[0]);
    CHECK_THAT(table_text(r), mentions("optq+refine, 2 bits: and 2 other layers"));
}

TEST_CASE("report: options that mean nothing to a method are named once in all three forms", "[examples][report]") {
    report r = sample_report();
    CHECK(options_not_taken(r).empty());
    for (run_record& run : r.runs)
        if (run.how.method == method::rtn) run.not_taken = {"--alpha", "--order"};
    CHECK(options_not_taken(r) == std::vector<std::string>{"rtn does not take --alpha, --order"});
    CHECK_THAT(table_text(r), mentions("\nrtn does not take --alpha, --order\n"));
    CHECK_THAT(html_text(r), mentions("<li>rtn does not take --alpha, --order</li>"));
    CHECK(json::parse(json_text(r)).at("results")[0].at("options_not_taken") == json::array({"--alpha", "--order"}));
}

TEST_CASE("report: without MagR there are no magnitudes to show", "[examples][report]") {
    report r = sample_report();
    std::erase_if(r.runs, [](const run_record& run) { return uses_magr(run.how.method); });
    CHECK_THAT(html_text(r), !mentions("<svg"));
}

TEST_CASE("report: without texts there is nothing to show of them", "[examples][report]") {
    report r = sample_report();
    r.has_samples = false;
    CHECK(samples_text(r).empty());
    CHECK_THAT(html_text(r), !mentions("<article>"));
    CHECK_THAT(html_text(r), mentions("</html>"));
}

TEST_CASE("number_text: four digits, no exponent where it can be read without", "[examples][report]") {
    CHECK(number_text(16.9507) == "16.95");
    CHECK(number_text(3.25) == "3.250");
    CHECK(number_text(0.12345) == "0.1235");
    CHECK(number_text(498.62) == "498.6");
    CHECK(number_text(12345.6) == "12346");
    CHECK(number_text(0) == "0.0000");
    CHECK(number_text(1.5e9) == "1.50e+09");
    CHECK(number_text(2e-7) == "2.00e-07");
    CHECK(number_text(std::numeric_limits<double>::infinity()) == "-");
}
