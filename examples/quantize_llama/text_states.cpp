// SPDX-License-Identifier: MIT
#include "quantize_llama/text_states.hpp"

#include "quantize_llama/forward.hpp"

namespace examples {

text_states::text_states(const llama_config& config, const matrix_f& embedding, std::span<const sequence> text)
    : config_(config), text_(text), chunks_(split_into_chunks(text)), rope_(make_rope_table(config, text)) {
    for (std::size_t c = 0; c < chunks_.size(); ++c) hidden_.push_back(embed(embedding, sequences(c)));
}

void text_states::pass(const llama_block& block, magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done) {
    pool.parallel_for(std::ssize(chunks_), [&](magr::index_t task, magr::index_t) {
        const auto c = static_cast<std::size_t>(task);
        forward_block(config_, block, rope_, sequences(c), hidden_[c]);
        chunk_done(count_tokens(sequences(c)));
    });
}

matrix_f text_states::site_input(std::size_t c, const llama_block& block, site where, const matrix_f& before) {
    const auto attend = [&](matrix_f& queries, matrix_f& keys, const matrix_f& values) {
        return causal_attention(config_, rope_, sequences(c), queries, keys, values);
    };
    return examples::site_input(block, config_.rms_norm_eps, where, hidden_[c], before, attend);
}

void text_states::finish_block(std::size_t c, const llama_block& block, const matrix_f& mlp_hidden) {
    examples::finish_block(block, hidden_[c], mlp_hidden);
}

}  // namespace examples
