// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <magr/parallel/thread_pool.hpp>
#include <span>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/text_states.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// How well a model predicts a text. The first id of a sequence is given, every later one is predicted from all before it.
struct evaluation {
    double perplexity = 0;     ///< exp of the mean negative log-likelihood of the predicted ids, in nats
    double kl_divergence = 0;  ///< mean over the predicted positions of KL(full precision || model), in nats
    std::int64_t predictions = 0;
};

/// Scores models that differ only in their blocks against the full-precision one, on the same text.
///
/// Keeps the full-precision model's last hidden states (tokens x hidden_size floats) rather than its logits, which would need
/// vocab_size floats per token; the head, which all models share, is applied to both again.
class evaluator {
public:
    /// Runs the full-precision model, one block in memory at a time. The references must outlive the evaluator.
    /// @param pool  does not influence the results: every chunk of sequences is summed on its own, and the sums in a fixed order
    evaluator(const model_folder& full_precision, std::span<const sequence> text, magr::thread_pool& pool, progress& progress);

    /// The full-precision model itself; its divergence is 0.
    [[nodiscard]] const evaluation& baseline() const noexcept { return baseline_; }

    /// The text in front of the first block, to be passed through all blocks of a model.
    [[nodiscard]] text_states begin() const { return text_states(model_.config(), model_.embedding(), text_); }
    void pass(text_states& states, const llama_block& block) const;

    /// The model through whose blocks the text was passed.
    [[nodiscard]] evaluation score(const text_states& passed) const;

private:
    void advance(std::int64_t tokens) const;

    const model_folder& model_;
    std::span<const sequence> text_;
    magr::thread_pool& pool_;
    progress& progress_;
    std::vector<matrix_f> reference_;  ///< last hidden states of the full-precision model, per chunk
    evaluation baseline_;
};

}  // namespace examples
