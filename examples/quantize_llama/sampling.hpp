// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <magr/parallel/thread_pool.hpp>
#include <random>
#include <span>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/attention.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// Advances several sequences by one token at a time, with their keys and values cached.
class decoder {
public:
    /// @param longest  tokens that a sequence can grow to
    decoder(const llama_model& model, std::int64_t sequences, std::int64_t longest);

    /// Appends ids[s] to sequence s.
    /// @return logits of the next token, sequences x vocab_size
    [[nodiscard]] matrix_f step(std::span<const token> ids);

    /// Begins sequence s anew.
    void restart(std::size_t s) { positions_[s] = 0; }

private:
    const llama_model& model_;
    rope_table rope_;
    std::vector<kv_cache> caches_;  ///< per block
    std::vector<std::int64_t> positions_;
};

/// One id drawn from softmax(logits / temperature).
[[nodiscard]] token draw(const Eigen::Ref<const row_f>& logits, double temperature, std::mt19937& random);

/// Texts that the model writes itself, at temperature 1: its own estimate of what it was trained on. `tokens` ids in total, in sequences
/// that begin with bos and end with eos or after `longest` ids.
///
/// Stream s of the text, which one slot of a batch writes, draws from its own generator, seeded with (seed, s); the result therefore
/// does not depend on the number of threads.
/// @throws input_error  if the configuration has no bos_token_id
[[nodiscard]] std::vector<sequence> sample_sequences(const llama_model& model, std::int64_t tokens, std::int64_t longest,
                                                     std::uint32_t seed, magr::thread_pool& pool, progress& progress);

/// `count` ids that follow `prompt`, or fewer if eos is drawn.
[[nodiscard]] sequence continue_sequence(const llama_model& model, std::span<const token> prompt, std::int64_t count, double temperature,
                                         std::uint32_t seed);

}  // namespace examples
