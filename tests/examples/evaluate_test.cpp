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

/// A progress display that nobody sees.
struct quiet {
    std::ostringstream stream;
    examples::progress progress{stream, false};
};

/// The same model with slightly other weights in its blocks.
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
    const evaluator evaluate(model, texts, 2, q.progress);
    CHECK(evaluate.baseline().predictions == predictions);
    CHECK(evaluate.baseline().perplexity == Approx(std::exp(nll / predictions)).epsilon(1e-5));
    const evaluation score = evaluate.score(other);
    CHECK(score.predictions == predictions);
    CHECK(score.perplexity == Approx(std::exp(other_nll / predictions)).epsilon(1e-5));
    CHECK(score.kl_divergence == Approx(divergence / predictions).epsilon(1e-4));
    CHECK(score.kl_divergence > 1e-3);
}

TEST_CASE("evaluator: a model does not diverge from itself", "[examples][evaluate]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts = tiny::texts(model.config, {100, 70});
    quiet q;
    const evaluator evaluate(model, texts, 1, q.progress);
    const evaluation score = evaluate.score(model);
    CHECK(score.kl_divergence == 0);
    CHECK(score.perplexity == evaluate.baseline().perplexity);
}

TEST_CASE("evaluator: the last bit does not depend on the threads", "[examples][evaluate]") {
    const llama_model model = tiny::model(), other = disturbed(model);
    const std::vector<sequence> texts = tiny::texts(model.config, std::vector<std::size_t>(60, 90));
    quiet q;
    const evaluator one(model, texts, 1, q.progress), three(model, texts, 3, q.progress);
    CHECK(one.baseline().perplexity == three.baseline().perplexity);
    const evaluation a = one.score(other), b = three.score(other);
    CHECK(a.perplexity == b.perplexity);
    CHECK(a.kl_divergence == b.kl_divergence);
}

TEST_CASE("evaluator: texts without anything to predict are refused", "[examples][evaluate]") {
    const llama_model model = tiny::model();
    const std::vector<sequence> texts{{1}, {1}};
    quiet q;
    CHECK_THAT(refusal([&] { return evaluator(model, texts, 1, q.progress).baseline().perplexity; }), mentions("at least two ids"));
}

// Where it is at hand: MAGR_MODELS names a folder that holds `tinystories-656k`, a Hugging Face folder with token ids beside it, whose
// published reference is 2.8303 nats per token over all of its evaluation stories and a perplexity of 17.17 over the first 200.
TEST_CASE("evaluator: reproduces the perplexity of a published model", "[examples][evaluate][real]") {
    const char* const folder = std::getenv("MAGR_MODELS");
    if (folder == nullptr) return;
    const std::filesystem::path model_folder = std::filesystem::path(folder) / "tinystories-656k";
    const llama_model model = load_model(model_folder);
    std::vector<sequence> texts = read_sequences(model_folder / "tinystories_eval.u16", model.config, std::int64_t{1} << 40);
    CHECK(count_tokens(texts) - std::ssize(texts) == 551148);
    texts.resize(200);
    quiet q;
    CHECK(evaluator(model, texts, 2, q.progress).baseline().perplexity == Approx(17.17).epsilon(0.005));
}
