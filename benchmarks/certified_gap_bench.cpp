// SPDX-License-Identifier: MIT
// Counts the products with a matrix of H's size that a certified gap of 1e-3 takes on layers of a real network. Everything counts except
// for the inverse. Also counts them for other steps, from a quarter to four times the chosen one, and shows the best of these in hindsight.
//
//     certified_gap_bench FOLDER     of NAME.W.f32 (out x in) and NAME.X_calib.f32 (tokens x in), row-major float32, as listed below
#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/preprocess.hpp>

namespace {

using magr::index_t;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct layer {
    const char* name;
    index_t out, in;
};
constexpr layer layers[] = {{"L0.ffn1", 1536, 512}, {"L1.attn_out", 512, 512}, {"L1.ffn2", 512, 1536}};
constexpr std::array factors{1.0, 0.25, 0.5, 0.7, 1.4, 2.0, 4.0};  // of the step; the chosen one first

/// All rows of `cols` numbers; empty if there is no such file.
matrix read(const std::string& path, index_t cols) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return {};
    matrix values(static_cast<index_t>(file.tellg()) / (static_cast<index_t>(sizeof(float)) * cols), cols);
    file.seekg(0);
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(sizeof(float)) * values.size());
    return values;
}

/// The products with each step, for one problem.
std::array<double, factors.size()> products(const matrix& W0, const magr::matrix<double>& H, magr::preprocess_options options) {
    std::array<double, factors.size()> found{};
    double rho = 0;
    for (std::size_t k = 0; k < factors.size(); ++k) {
        if (k > 0) options.rho = rho * factors[k];
        matrix W = W0;
        const auto result = magr::preprocess(W, H, options);
        if (k == 0) rho = result.rho;
        found[k] = result.stopped == magr::stop_reason::converged ? result.products : std::numeric_limits<double>::infinity();
    }
    return found;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: certified_gap_bench FOLDER\n");
        return 2;
    }
    const std::string folder = argv[1];
    std::vector<magr::matrix<double>> grams;
    std::vector<matrix> weights;
    for (const auto& [name, out, in] : layers) {
        weights.push_back(read(folder + "/" + name + ".W.f32", in));
        const matrix X = read(folder + "/" + name + ".X_calib.f32", in);
        if (weights.back().rows() != out || X.rows() == 0) {
            std::fprintf(stderr, "certified_gap_bench: %s: no weights of %d x %d, or no inputs\n", name, static_cast<int>(out),
                         static_cast<int>(in));
            return 1;
        }
        magr::gram_accumulator<> gram(in);
        gram.add(X);
        grams.push_back(gram.gram());
    }
    for (const double damping : {1e-1, 1e-2, 1e-3}) {
        std::printf("damping %g\n%-12s %8s %6s  products; with the step times", damping, "layer", "penalty", "groups");
        for (std::size_t k = 1; k < factors.size(); ++k) std::printf(" %5.2f", factors[k]);
        std::printf("   best\n");
        std::array<double, factors.size()> sums{};
        double best = 0, largest = 0;
        int count = 0;
        for (std::size_t l = 0; l < std::size(layers); ++l)
            for (const double alpha : {1e-3, 1e-4})
                for (const index_t group : {index_t{0}, index_t{128}}) {
                    magr::preprocess_options options{.alpha = alpha, .damping = damping};
                    if (group > 0) options.group_size = group;
                    const auto found = products(weights[l], grams[l], options);
                    std::printf("%-12s %8g %6d  %8.1f                     ", layers[l].name, alpha, static_cast<int>(group), found[0]);
                    for (std::size_t k = 1; k < found.size(); ++k) std::printf(" %5.1f", found[k]);
                    const double least = *std::min_element(found.begin(), found.end());
                    std::printf("  %5.1f\n", least);
                    for (std::size_t k = 0; k < found.size(); ++k) sums[k] += found[k];
                    best += least;
                    largest = std::max(largest, found[0]);
                    ++count;
                }
        std::printf("mean %32.2f                     ", sums[0] / count);
        for (std::size_t k = 1; k < sums.size(); ++k) std::printf(" %5.1f", sums[k] / count);
        std::printf("  %5.2f; largest %.1f\n", best / count, largest);
    }
    return 0;
}
