// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <functional>
#include <magr/parallel/thread_pool.hpp>
#include <span>
#include <string>
#include <vector>

#include "quantize_llama/attention.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

/// A text on its way through a model: the hidden states of its tokens in front of the next block, in chunks of whole sequences. It takes
/// tokens x hidden_size floats, and is all that has to stay in memory between two blocks.
class text_states {
public:
    /// In front of the first block. The text must outlive the object.
    text_states(const llama_config& config, const matrix_f& embedding, std::span<const sequence> text);

    /// Computes the next block, in place.
    /// @param chunk_done  called with the number of tokens of each chunk, by any thread
    void pass(const llama_block& block, magr::thread_pool& pool, const std::function<void(std::int64_t)>& chunk_done);

    /// The same, for a block that must not leave float32.
    /// @param layer  number of the block, for the message
    /// @param text   what the text is called there
    /// @throws std::runtime_error  naming the text, its first sequence with a number that is not finite, and where in the block
    void pass_checked(const llama_block& block, std::int64_t layer, const std::string& text, magr::thread_pool& pool,
                      const std::function<void(std::int64_t)>& chunk_done);

    /// The input of the next block's linear layers at a site in chunk c; its hidden states go along.
    /// @param before  what this function gave for the site before; of no use for the first
    [[nodiscard]] matrix_f site_input(std::size_t c, const llama_block& block, site where, const matrix_f& before);

    /// Completes the block in chunk c.
    void finish_block(std::size_t c, const llama_block& block, const matrix_f& mlp_hidden);

    [[nodiscard]] const llama_config& config() const noexcept { return config_; }
    [[nodiscard]] const rope_table& rope() const noexcept { return rope_; }
    [[nodiscard]] std::size_t chunks() const noexcept { return chunks_.size(); }
    [[nodiscard]] std::span<const sequence> sequences(std::size_t c) const { return text_.subspan(chunks_[c].first, chunks_[c].count); }
    [[nodiscard]] std::size_t first_sequence(std::size_t c) const { return chunks_[c].first; }
    [[nodiscard]] const matrix_f& hidden(std::size_t c) const { return hidden_[c]; }

    /// Refuses a text that has left float32, from which no other block can be computed.
    /// @param what  begins the message: where in the model
    /// @throws std::runtime_error  naming the first sequence with a number that is not finite
    void require_finite(const std::string& what) const;

private:
    llama_config config_;
    std::span<const sequence> text_;
    std::vector<chunk> chunks_;
    rope_table rope_;
    std::vector<matrix_f> hidden_;  ///< per chunk
};

/// The same for values of some sequences of a text, one row per token.
/// @param first_sequence  number of the first of them in the text
void require_finite(const matrix_f& values, std::span<const sequence> sequences, std::size_t first_sequence, const std::string& what);

}  // namespace examples
