// SPDX-License-Identifier: MIT
#include "quantize_llama/text_states.hpp"

#include <exception>
#include <stdexcept>
#include <string>

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

void text_states::pass_checked(const llama_block& block, std::int64_t layer, const std::string& text, magr::thread_pool& pool,
                               const std::function<void(std::int64_t)>& chunk_done) {
    std::vector<std::exception_ptr> failures(chunks_.size());  // of which the first is reported, whichever thread was faster
    pool.parallel_for(std::ssize(chunks_), [&](magr::index_t task, magr::index_t) {
        const auto c = static_cast<std::size_t>(task);
        try {
            forward_block(config_, block, rope_, sequences(c), hidden_[c], [&](site where, const matrix_f& inputs) {
                examples::require_finite(inputs, sequences(c), first_sequence(c), text + ": " + input_name(layer, where));
            });
        } catch (const std::runtime_error&) {
            failures[c] = std::current_exception();
        }
        chunk_done(count_tokens(sequences(c)));
    });
    for (const std::exception_ptr& failure : failures)
        if (failure) std::rethrow_exception(failure);
    require_finite(text + ": the output of layers." + std::to_string(layer));
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

void text_states::require_finite(const std::string& what) const {
    for (std::size_t c = 0; c < chunks_.size(); ++c) examples::require_finite(hidden_[c], sequences(c), first_sequence(c), what);
}

void require_finite(const matrix_f& values, std::span<const sequence> sequences, std::size_t first_sequence, const std::string& what) {
    if (values.allFinite()) return;
    Eigen::Index row = 0;
    std::size_t number = first_sequence;
    for (const sequence& s : sequences) {
        if (!values.middleRows(row, std::ssize(s)).allFinite()) break;
        row += std::ssize(s);
        ++number;
    }
    throw std::runtime_error(what + " leaves the range of float32 in sequence " + std::to_string(number + 1) + " of the text");
}

}  // namespace examples
