// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tiny_llama.hpp"

/// GGUF files written by the format's definition, little endian.
namespace tiny {

inline std::string gguf_text(const std::string& text) { return bytes_of(std::uint64_t{text.size()}) + text; }

/// @param value  the bytes behind the type
inline std::string gguf_entry_bytes(const std::string& key, std::uint32_t type, const std::string& value) {
    return gguf_text(key) + bytes_of(type) + value;
}

struct gguf_tensor_bytes {
    std::string name;
    std::vector<std::uint64_t> sizes;  ///< innermost first
    std::uint32_t type;
    std::string data;
};

/// @param entries  as by `gguf_entry_bytes`
inline std::string gguf(const std::vector<std::string>& entries, const std::vector<gguf_tensor_bytes>& tensors,
                        std::uint64_t alignment = 32, std::uint32_t version = 3) {
    const auto pad = [&](std::string& bytes) { bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0'); };
    std::string head = "GGUF" + bytes_of(version) + bytes_of(std::uint64_t{tensors.size()}) + bytes_of(std::uint64_t{entries.size()});
    std::string data;
    for (const std::string& entry : entries) head += entry;
    for (const gguf_tensor_bytes& tensor : tensors) {
        head += gguf_text(tensor.name) + bytes_of(static_cast<std::uint32_t>(tensor.sizes.size()));
        for (const std::uint64_t size : tensor.sizes) head += bytes_of(size);
        head += bytes_of(tensor.type) + bytes_of(std::uint64_t{data.size()});
        data += tensor.data;
        pad(data);
    }
    pad(head);
    return head + data;
}

inline std::string floats(const float* values, Eigen::Index count) {
    return {reinterpret_cast<const char*>(values), static_cast<std::size_t>(count) * sizeof(float)};
}

/// Metadata of a model of this configuration, and something that only the tokenizer knows.
inline std::vector<std::string> gguf_metadata(const llama_config& c, const std::string& architecture) {
    const auto number = [&](const char* key, std::int64_t value) {
        return gguf_entry_bytes(architecture + "." + key, 4, bytes_of(static_cast<std::uint32_t>(value)));
    };
    return {gguf_entry_bytes("general.architecture", 8, gguf_text(architecture)),
            gguf_entry_bytes("general.file_type", 4, bytes_of(std::uint32_t{0})),
            number("block_count", c.num_hidden_layers),
            number("embedding_length", c.hidden_size),
            number("feed_forward_length", c.intermediate_size),
            number("attention.head_count", c.num_attention_heads),
            gguf_entry_bytes("tokenizer.ggml.tokens", 9,
                             bytes_of(std::uint32_t{8}) + bytes_of(std::uint64_t{2}) + gguf_text("a") + gguf_text("b"))};
}

/// Rows i and i + head_dim / 2 of each head next to each other, by hand.
inline matrix_f paired(const matrix_f& m, std::int64_t head_dim) {
    matrix_f result(m.rows(), m.cols());
    Eigen::Index to = 0;
    for (Eigen::Index head = 0; head < m.rows(); head += head_dim)
        for (Eigen::Index i = 0; i < head_dim / 2; ++i) {
            result.row(to++) = m.row(head + i);
            result.row(to++) = m.row(head + i + head_dim / 2);
        }
    return result;
}

/// All tensors of a model in float32 under llama.cpp's names.
/// @param pairs  whether rows of queries and keys are in the order of architecture llama
inline std::vector<gguf_tensor_bytes> gguf_tensors(const llama_model& m, bool pairs = true) {
    const auto matrix = [](const std::string& name, const matrix_f& W) {
        return gguf_tensor_bytes{
            name, {static_cast<std::uint64_t>(W.cols()), static_cast<std::uint64_t>(W.rows())}, 0, floats(W.data(), W.size())};
    };
    const auto vector = [](const std::string& name, const row_f& v) {
        return gguf_tensor_bytes{name, {static_cast<std::uint64_t>(v.size())}, 0, floats(v.data(), v.size())};
    };
    constexpr std::array names{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    std::vector<gguf_tensor_bytes> all{matrix("token_embd.weight", m.embedding)};
    for (std::size_t b = 0; b < m.blocks.size(); ++b) {
        const std::string prefix = "blk." + std::to_string(b) + ".";
        const llama_block& block = m.blocks[b];
        all.push_back(vector(prefix + "attn_norm.weight", block.input_norm));
        for (const linear kind : all_linears) {
            const std::string name = prefix + names[static_cast<std::size_t>(kind)];
            const bool rotates = pairs && (kind == linear::q_proj || kind == linear::k_proj);
            all.push_back(matrix(name + ".weight", rotates ? paired(block[kind], m.config.head_dim) : block[kind]));
            if (block.bias(kind).size() == 0) continue;
            const row_f bias = rotates ? row_f(paired(block.bias(kind).transpose(), m.config.head_dim).transpose()) : block.bias(kind);
            all.push_back(vector(name + ".bias", bias));
        }
        all.push_back(vector(prefix + "ffn_norm.weight", block.post_attention_norm));
    }
    all.push_back(vector("output_norm.weight", m.final_norm));
    if (m.own_head.size() != 0) all.push_back(matrix("output.weight", m.own_head));
    return all;
}

}  // namespace tiny
