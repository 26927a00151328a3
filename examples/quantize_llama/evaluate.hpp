// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/model.hpp"
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
    /// Runs the full-precision model. The references must outlive the evaluator.
    /// @param threads  does not influence the results: every chunk of sequences is summed on its own, and the sums in a fixed order
    evaluator(const llama_model& full_precision, std::span<const sequence> text, int threads, progress& progress);

    /// The full-precision model itself; its divergence is 0.
    [[nodiscard]] const evaluation& baseline() const noexcept { return baseline_; }

    [[nodiscard]] evaluation score(const llama_model& model) const;

private:
    const llama_model& full_precision_;
    std::span<const sequence> text_;
    int threads_;
    progress& progress_;
    std::vector<chunk> chunks_;
    std::vector<matrix_f> hidden_;  ///< of the full-precision model, per chunk
    evaluation baseline_;
};

}  // namespace examples
