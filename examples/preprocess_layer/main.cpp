// SPDX-License-Identifier: MIT
// Preprocesses one layer given as NumPy files and reports what was done.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <magr/magr.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "common/error.hpp"
#include "common/interruption.hpp"
#include "common/npy.hpp"
#include "common/output_file.hpp"
#include "common/standard_streams.hpp"

namespace {

struct arguments {
    std::string weights, inputs, out, json;
    magr::preprocess_options options;
};

void add_options(CLI::App& app, arguments& a) {
    app.add_option("W", a.weights, "Weights, out x in")->required()->type_name("W.npy");
    app.add_option("X", a.inputs, "Calibration inputs, tokens x in")->required()->type_name("X.npy");
    app.add_option("--alpha", a.options.alpha, "l_inf penalty in the units of X^T X / lambda_max (default: 1e-3, with groups 1e-4)")
        ->type_name("A");
    app.add_option("--group-size", a.options.group_size, "Inputs per group (default: the whole row)")->type_name("G");
    app.add_option("--damping", a.options.damping, "Multiple of the mean of diag(X^T X) added to it (default: 1e-2, proximal_gradient: 0)")
        ->type_name("D");
    app.add_option("--solver", a.options.solver, "admm or proximal_gradient (default: admm)")
        ->type_name("NAME")
        ->transform(CLI::CheckedTransformer(
                        std::map<std::string, magr::preprocess_solver>{{"admm", magr::preprocess_solver::admm},
                                                                       {"proximal_gradient", magr::preprocess_solver::proximal_gradient}})
                        .description(""));
    app.add_option("--max-iterations", a.options.max_iterations, "Limit of iterations (default: 100, proximal_gradient: 200)")
        ->type_name("K");
    app.add_option("--tolerance", a.options.tolerance, "Relative duality gap to stop at, 0: never (default: 1e-3, proximal_gradient: 0)")
        ->type_name("T");
    app.add_option("--out", a.out, "Write the new weights, in the type and order of W.npy")->type_name("W_new.npy");
    app.add_option("--json", a.json, "Write the report as JSON")->type_name("FILE");
}

int run(const arguments& a) {
    std::unique_ptr<examples::output_file> out, report;  // opened first: an unwritable place is noticed before the work
    if (!a.out.empty()) out = std::make_unique<examples::output_file>(a.out);
    if (!a.json.empty()) report = std::make_unique<examples::output_file>(a.json);
    examples::npy_matrix W = examples::read_npy(a.weights);
    examples::npy_matrix X = examples::read_npy(a.inputs);
    if (X.cols != W.cols) examples::refuse(a.inputs, ": ", X.cols, " columns, but ", a.weights, " has ", W.cols);

    magr::gram_accumulator<> calibration(X.cols);
    examples::with_view(X, [&](auto view) { calibration.add(view); });
    const auto& H = calibration.gram();

    const auto began = std::chrono::steady_clock::now();
    const magr::preprocess_result result = examples::with_view(W, [&](auto view) { return magr::preprocess(view, H, a.options); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();

    std::printf("%td x %td weights, %td tokens\n", W.rows, W.cols, calibration.tokens());
    std::printf("%-24s %s after %td iterations, %.3f s\n", "stopped", to_string(result.stopped), result.iterations, seconds);
    std::printf("%-24s %.6g -> %.6g\n", "objective", result.objective_before, result.objective);
    std::printf("%-24s %.2e (worst row %.2e)\n", "certified relative gap", result.gap, result.largest_gap);
    std::printf("%-24s %.6g -> %.6g (mean of the %s: %.6g -> %.6g)\n", "largest magnitude", result.linf_before, result.linf_after,
                a.options.group_size ? "groups" : "rows", result.mean_linf_before, result.mean_linf_after);
    std::printf("%-24s %.6g\n", "relative output error", result.output_error);

    if (out) out->commit(examples::to_npy(W));
    if (report) {
        const nlohmann::ordered_json json = {{"iterations", result.iterations},
                                             {"stop_reason", to_string(result.stopped)},
                                             {"objective", result.objective},
                                             {"objective_before", result.objective_before},
                                             {"gap", result.gap},
                                             {"linf_before", result.linf_before},
                                             {"linf_after", result.linf_after},
                                             {"output_error", result.output_error},
                                             {"alpha", result.alpha},
                                             {"damping", result.damping},
                                             {"seconds", seconds}};
        report->commit(json.dump(2) + "\n");
    }
    examples::finish_standard_output();
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Reduces the largest weights of a layer while its output changes little (MagR).\n"
        "Exit code: 0; 2 if the command line or a file cannot be used.");
    examples::occupy_standard_streams();
    examples::remove_unfinished_files_when_interrupted();
    arguments a;
    add_options(app, a);
    try {
        app.parse(argc, argv);
        return run(a);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    } catch (const std::exception& error) {
        std::cerr << "preprocess_layer: " << error.what() << '\n';
        return 2;
    }
}
