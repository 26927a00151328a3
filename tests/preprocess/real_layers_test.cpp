// Layers of a real network, where they are at hand: MAGR_MODELS names a folder that holds `use-lite`, row-major float32 files
// NAME.W.f32 (out x in) and NAME.X_calib.f32 (2048 tokens x in). Nothing is checked without it.
#include <cstdlib>
#include <fstream>
#include <string>

#include <magr/magr.hpp>

#include "support/catch.hpp"

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct real_layer {
    const char* name;
    Eigen::Index out, in;
};
constexpr real_layer real_layers[] = {{"L0.ffn1", 1536, 512}, {"L1.ffn2", 512, 1536}, {"L1.attn_out", 512, 512}};

matrix read(const std::string& path, Eigen::Index rows, Eigen::Index cols) {
    matrix values(rows, cols);
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(sizeof(float)) * values.size());
    REQUIRE(file.good());
    return values;
}

}  // namespace

TEST_CASE("preprocess: real layers reach a certified gap of 1e-3 within 20 iterations", "[preprocess][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    for (const auto& [name, out, in] : real_layers) {
        const std::string base = std::string(folder) + "/use-lite/" + name;
        const matrix W0 = read(base + ".W.f32", out, in);
        magr::gram_accumulator<> gram(in);
        gram.add(read(base + ".X_calib.f32", 2048, in));
        for (const double alpha : {1e-3, 1e-4}) {
            matrix W = W0;
            const auto result = magr::preprocess(W, gram.gram(), {.alpha = alpha, .damping = 1e-2});
            CAPTURE(name, alpha, result.iterations, result.gap);
            CHECK(result.stopped == magr::stop_reason::converged);
            CHECK(result.gap <= 1e-3);
            CHECK(result.iterations <= 20);
        }
    }
}

TEST_CASE("preprocess: without damping the fast solver goes far below what the authors' iteration ends at", "[preprocess][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    const std::string base = std::string(folder) + "/use-lite/L1.ffn2";
    const matrix W0 = read(base + ".W.f32", 512, 1536);
    magr::gram_accumulator<> gram(1536);
    gram.add(read(base + ".X_calib.f32", 2048, 1536));
    matrix W = W0;
    CHECK(magr::preprocess(W, gram.gram(), {.alpha = 1e-3, .damping = 0.0}).objective <= 0.1205);
    W = W0;
    CHECK(magr::preprocess(W, gram.gram(), {.alpha = 1e-3, .solver = magr::solver::proximal_gradient}).objective == Approx(0.1762).epsilon(1e-3));
}
