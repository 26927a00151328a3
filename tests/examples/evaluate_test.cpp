// SPDX-License-Identifier: MIT
#include "quantize_llama/evaluate.hpp"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "refusal.hpp"
#include "support/catch.hpp"
#include "textbook_llama.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

/// Threads, and a progress display whose output is discarded.
struct quiet {
    explicit quiet(magr::index_t threads = 2) : pool(threads) {}

    std::ostringstream stream;
    examples::progress progress{stream, false};
    magr::thread_pool pool;
};

/// Passes the text through a model's blocks.
evaluation score(const evaluator& evaluate, const llama_model& model) {
    text_states states = evaluate.begin();
    for (const llama_block& block : model.blocks) evaluate.pass(states, block);
    return evaluate.score(states);
}

/// The same model with slightly different weights in its blocks.
llama_model disturbed(llama_model model) {
    tiny::random_values random(99);
    for (llama_block& block : model.blocks)
        for (matrix_f& W : block.weights) W += random.matrix(W.rows(), W.cols(), 0.05f);
    return model;
}

}  // namespace

TEST_CASE("evaluator: perplexity and divergence by their definitions", "[examples][evaluate][oracle]") {
    const llama_model model = tiny::model(), other = disturbed(model);
    const std::vector<sequence> texts = tiny::texts(model.config, {30, 1, 150, 2});
    double nll = 0, other_nll = 0, divergence = 0;
    int predictions = 0;
    for (const sequence& text : texts) {
        const auto p = textbook::logits(model, text), q = textbook::logits(other, text);
        for (std::size_t t = 0; t + 1 < text.size(); ++t, ++predictions) {
            const textbook::vector a = textbook::softmax(p[t]), b = textbook::softmax(q[t]);
            nll -= std::log(a[text[t + 1]]);
            other_nll -= std::log(b[text[t + 1]]);
            for (std::size_t i = 0; i < a.size(); ++i) divergence += a[i] * std::log(a[i] / b[i]);
        }
    }
    quiet q;
    const tiny::model_in_folder stored(model);
    const evaluator evaluate(stored.get(), texts, q.pool, q.progress);
    CHECK(evaluate.baseline().predictions == predictions);
    CHECK(evaluate.baseline().perplexity == Approx(std::exp(nll / predictions)).epsilon(1e-5));
    const evaluation result = score(evaluate, other);
    CHECK(result.predictions == predictions);
    CHECK(result.perplexity == Approx(std::exp(other_nll / predictions)).epsilon(1e-5));
    CHECK(result.kl_divergence == Approx(divergence / predictions).epsilon(1e-4));
    CHECK(result.kl_divergence > 1e-3);
}

TEST_CASE("evaluator: a model does not diverge from itself", "[examples][evaluate]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = tiny::texts(model.config, {100, 70});
    quiet q;
    const tiny::model_in_folder stored(model);
    const evaluator evaluate(stored.get(), texts, q.pool, q.progress);
    const evaluation result = score(evaluate, model);
    CHECK(result.kl_divergence == 0);
    CHECK(result.perplexity == evaluate.baseline().perplexity);
}

TEST_CASE("evaluator: the last bit does not depend on the threads", "[examples][evaluate]") {
    const llama_model model = tiny::model(), other = disturbed(model);
    const std::vector<sequence> texts = tiny::texts(model.config, std::vector<std::size_t>(60, 90));
    quiet q1(1), q3(3);
    const tiny::model_in_folder stored(model);
    const evaluator one(stored.get(), texts, q1.pool, q1.progress), three(stored.get(), texts, q3.pool, q3.progress);
    CHECK(one.baseline().perplexity == three.baseline().perplexity);
    const evaluation a = score(one, other), b = score(three, other);
    CHECK(a.perplexity == b.perplexity);
    CHECK(a.kl_divergence == b.kl_divergence);
}

TEST_CASE("evaluator: texts without anything to predict are refused", "[examples][evaluate]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts{{1}, {1}};
    quiet q;
    const tiny::model_in_folder stored(model);
    CHECK_THAT(refusal([&] { return evaluator(stored.get(), texts, q.pool, q.progress).baseline().perplexity; }),
               mentions("at least two ids"));
}

// Runs if MAGR_MODELS names a folder that holds `tinystories-656k`, a Hugging Face folder with token ids beside it. Its published reference
// is 2.8303 nats per token over all of its evaluation stories and a perplexity of 17.17 over the first 200.
TEST_CASE("evaluator: reproduces the perplexity of a published model", "[examples][evaluate][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    const std::filesystem::path published = std::filesystem::path(folder) / "tinystories-656k";
    const model_folder model(published);
    std::vector<sequence> texts = read_sequences(published / "tinystories_eval.u16", model.config(), std::int64_t{1} << 40);
    CHECK(count_tokens(texts) - std::ssize(texts) == 551148);
    texts.resize(200);
    quiet q;
    CHECK(evaluator(model, texts, q.pool, q.progress).baseline().perplexity == Approx(17.17).epsilon(0.005));
}
