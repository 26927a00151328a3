// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"
#include "scratch_folder.hpp"

/// Small random models, and their files written by the formats' definitions.
namespace tiny {

using namespace examples;

/// Grouped-query attention with its own head size, because no two sizes should be equal.
inline llama_config config() {
    llama_config c;
    c.vocab_size = 40;
    c.hidden_size = 24;
    c.intermediate_size = 28;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 4;
    c.num_key_value_heads = 2;
    c.head_dim = 10;
    c.max_position_embeddings = 128;
    c.rms_norm_eps = 1e-5;
    c.rope_theta = 500.0;
    c.tie_word_embeddings = true;
    c.bos_token_id = 1;
    c.eos_token_ids = {2};
    return c;
}

/// RoPE scaled by YaRN.
inline rope_scaling yarn() {
    return {.kind = rope_scaling_kind::yarn,
            .factor = 4,
            .original_max_position_embeddings = 128,
            .low_turns = 0.3,
            .high_turns = 10,
            .attention_factor = 1.2};
}

class random_values {
public:
    explicit random_values(std::uint32_t seed) : random_(seed) {}

    matrix_f matrix(std::int64_t rows, std::int64_t cols, float deviation) {
        matrix_f m(rows, cols);
        for (Eigen::Index i = 0; i < m.size(); ++i) m.data()[i] = deviation * normal();
        return m;
    }

    row_f norm(std::int64_t cols) {
        row_f v(cols);
        for (Eigen::Index i = 0; i < cols; ++i) v[i] = 1.0f + 0.2f * normal();
        return v;
    }

private:
    /// The sum of twelve uniform numbers: close enough to a normal distribution, and the same on every platform.
    float normal() {
        float sum = -6.0f;
        for (int i = 0; i < 12; ++i) sum += static_cast<float>(random_() >> 8) * 0x1p-24f;
        return sum;
    }

    std::mt19937 random_;
};

inline llama_model model(const llama_config& c = config(), std::uint32_t seed = 7) {
    random_values random(seed);
    llama_model m;
    m.config = c;
    m.embedding = random.matrix(c.vocab_size, c.hidden_size, 0.7f);
    for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
        llama_block block;
        block.input_norm = random.norm(c.hidden_size);
        block.post_attention_norm = random.norm(c.hidden_size);
        for (const linear kind : all_linears) {
            const auto [rows, cols] = shape_of(c, kind);
            block[kind] = random.matrix(rows, cols, 1.0f / std::sqrt(static_cast<float>(cols)));
            if (has_bias(c, kind)) block.bias(kind) = random.matrix(1, rows, 0.5f);
        }
        m.blocks.push_back(block);
    }
    m.final_norm = random.norm(c.hidden_size);
    if (!c.tie_word_embeddings) m.own_head = random.matrix(c.vocab_size, c.hidden_size, 0.7f);
    return m;
}

/// Random texts of these lengths, each beginning with bos.
inline std::vector<sequence> texts(const llama_config& c, const std::vector<std::size_t>& lengths, std::uint32_t seed = 3) {
    std::mt19937 random(seed);
    std::vector<sequence> all;
    for (const std::size_t length : lengths) {
        sequence text{*c.bos_token_id};
        while (text.size() < length) text.push_back(static_cast<token>(random() % static_cast<std::uint32_t>(c.vocab_size)));
        all.push_back(text);
    }
    return all;
}

/// A tensor for a file: its name, type, shape and bytes.
struct stored_tensor {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::string bytes;
};

template <class T>
std::string bytes_of(T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bytes;
}

inline stored_tensor float_tensor(const std::string& name, std::vector<std::int64_t> shape, const float* values) {
    stored_tensor t{name, "F32", std::move(shape), {}};
    std::int64_t count = 1;
    for (const std::int64_t dimension : t.shape) count *= dimension;
    for (std::int64_t i = 0; i < count; ++i) t.bytes += bytes_of(values[i]);
    return t;
}

/// A safetensors file: length of the header, header, tensors.
inline std::string safetensors(const std::string& header, const std::string& data) {
    return bytes_of(std::uint64_t{header.size()}) + header + data;
}

inline std::string safetensors(const std::vector<stored_tensor>& tensors) {
    std::ostringstream header;
    std::string data;
    for (const stored_tensor& t : tensors) {
        header << (data.empty() ? "{\"" : ",\"") << t.name << R"(":{"dtype":")" << t.dtype << R"(","shape":[)";
        for (std::size_t i = 0; i < t.shape.size(); ++i) header << (i ? "," : "") << t.shape[i];
        header << R"(],"data_offsets":[)" << data.size() << ',' << data.size() + t.bytes.size() << "]}";
        data += t.bytes;
    }
    header << '}';
    std::string text = header.str();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return safetensors(text, data);
}

/// All tensors of a model under their Hugging Face names.
inline std::vector<stored_tensor> stored(const llama_model& m) {
    const llama_config& c = m.config;
    std::vector<stored_tensor> all{float_tensor("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, m.embedding.data()),
                                   float_tensor("model.norm.weight", {c.hidden_size}, m.final_norm.data())};
    if (m.own_head.size() != 0) all.push_back(float_tensor("lm_head.weight", {c.vocab_size, c.hidden_size}, m.own_head.data()));
    for (std::size_t layer = 0; layer < m.blocks.size(); ++layer) {
        const std::string prefix = "model.layers." + std::to_string(layer) + ".";
        const llama_block& block = m.blocks[layer];
        all.push_back(float_tensor(prefix + "input_layernorm.weight", {c.hidden_size}, block.input_norm.data()));
        all.push_back(float_tensor(prefix + "post_attention_layernorm.weight", {c.hidden_size}, block.post_attention_norm.data()));
        for (const linear kind : all_linears) {
            all.push_back(float_tensor(prefix + name_of(kind) + ".weight", {block[kind].rows(), block[kind].cols()}, block[kind].data()));
            if (block.bias(kind).size() != 0)
                all.push_back(float_tensor(prefix + name_of(kind) + ".bias", {block.bias(kind).size()}, block.bias(kind).data()));
        }
    }
    return all;
}

/// The configuration, of type llama, or of type qwen2 if only q, k and v have biases.
inline std::string config_text(const llama_config& c) {
    std::ostringstream text;
    const auto flag = [](bool value) { return value ? "true" : "false"; };
    if (c.qkv_bias && !c.o_bias)
        text << R"({"model_type":"qwen2")";
    else
        text << R"({"model_type":"llama","attention_bias":)" << flag(c.o_bias) << R"(,"mlp_bias":)" << flag(c.mlp_bias);
    text << R"(,"hidden_act":"silu","vocab_size":)" << c.vocab_size << R"(,"hidden_size":)" << c.hidden_size << R"(,"intermediate_size":)"
         << c.intermediate_size << R"(,"num_hidden_layers":)" << c.num_hidden_layers << R"(,"num_attention_heads":)"
         << c.num_attention_heads << R"(,"num_key_value_heads":)" << c.num_key_value_heads << R"(,"head_dim":)" << c.head_dim
         << R"(,"max_position_embeddings":)" << c.max_position_embeddings << R"(,"rms_norm_eps":)" << c.rms_norm_eps << R"(,"rope_theta":)"
         << c.rope_theta << R"(,"tie_word_embeddings":)" << flag(c.tie_word_embeddings) << R"(,"bos_token_id":1,"eos_token_id":2})";
    return text.str();
}

/// Writes a model as a Hugging Face folder.
inline void write_model(const scratch_folder& folder, const llama_model& m) {
    folder.write("config.json", config_text(m.config));
    folder.write("model.safetensors", safetensors(stored(m)));
}

/// The same model in its own folder.
class model_in_folder {
public:
    explicit model_in_folder(const llama_model& m) : folder_((write_model(scratch_, m), scratch_.path())) {}

    [[nodiscard]] const model_folder& get() const { return folder_; }

private:
    scratch_folder scratch_;
    model_folder folder_;
};

}  // namespace tiny
