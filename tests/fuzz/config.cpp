// SPDX-License-Identifier: MIT
#include "quantize_llama/config.hpp"

#include <cmath>

#include "quantize_llama/attention.hpp"
#include "reading.hpp"

namespace {

/// Every accepted configuration must be a model that the forward pass can compute: its sizes fit together, and their products cannot
/// overflow.
void read_all(const std::filesystem::path& path) {
    const examples::llama_config c = examples::read_config(path);
    constexpr std::int64_t large = std::int64_t{1} << 31;
    for (const std::int64_t size : {c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads,
                                    c.num_key_value_heads, c.head_dim, c.max_position_embeddings})
        require(size >= 1 && size <= large);
    require(c.num_attention_heads % c.num_key_value_heads == 0 && c.head_dim % 2 == 0);
    require(c.num_attention_heads * c.head_dim <= large);
    require(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps) && c.rope_theta > 0 && std::isfinite(c.rope_theta));
    require(c.sliding_window >= 1 && c.scaling.factor >= 1 && c.scaling.attention_factor > 0 && std::isfinite(c.scaling.attention_factor));
    constexpr std::int64_t enough = 1 << 12;  // a head of a million elements takes too long here and behaves no differently
    if (c.head_dim <= enough)
        for (const double frequency : examples::rope_frequencies(c)) require(frequency > 0 && frequency <= 1);
    require(!c.bos_token_id || *c.bos_token_id < c.vocab_size);
    for (const examples::token id : c.eos_token_ids) require(id < c.vocab_size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_or_refuse("config.json", text_of(data, size), read_all);
    return 0;
}
