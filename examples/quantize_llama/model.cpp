// SPDX-License-Identifier: MIT
#include "quantize_llama/model.hpp"

#include <algorithm>
#include <set>
#include <string>

#include "common/error.hpp"
#include "quantize_llama/safetensors.hpp"

namespace examples {
namespace {

/// Reads tensors and remembers which, so that what a model holds beyond a plain Llama can be refused afterwards.
class tensor_reader {
public:
    explicit tensor_reader(const std::filesystem::path& folder) : folder_(folder), tensors_(folder) {}

    [[nodiscard]] bool contains(const std::string& name) const { return tensors_.contains(name); }

    [[nodiscard]] matrix_f matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
        const std::vector<float> values = take(name, {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)});
        return Eigen::Map<const matrix_f>(values.data(), rows, cols);
    }

    [[nodiscard]] row_f row(const std::string& name, std::int64_t cols) {
        const std::vector<float> values = take(name, {static_cast<std::uint64_t>(cols)});
        return Eigen::Map<const row_f>(values.data(), cols);
    }

    /// A further bias or layer would change the outputs. Tables of RoPE frequencies, which old files hold, are computed anyway.
    void refuse_rest() const {
        for (const std::string& name : tensors_.names())
            if (!taken_.contains(name) && !name.ends_with("rotary_emb.inv_freq"))
                refuse(folder_.string(), ": tensor ", name, " has no place in a Llama model of this configuration");
    }

private:
    std::vector<float> take(const std::string& name, const std::vector<std::uint64_t>& shape) {
        taken_.insert(name);
        return tensors_.read(name, shape);
    }

    std::filesystem::path folder_;
    model_tensors tensors_;
    std::set<std::string> taken_;
};

}  // namespace

const char* name_of(linear kind) {
    constexpr std::array names{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                               "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    return names[static_cast<std::size_t>(kind)];
}

linear_shape shape_of(const llama_config& c, linear kind) {
    const std::int64_t queries = c.num_attention_heads * c.head_dim;
    const std::int64_t keys = c.num_key_value_heads * c.head_dim;
    switch (kind) {
        case linear::q_proj:
            return {queries, c.hidden_size};
        case linear::k_proj:
        case linear::v_proj:
            return {keys, c.hidden_size};
        case linear::o_proj:
            return {c.hidden_size, queries};
        case linear::gate_proj:
        case linear::up_proj:
            return {c.intermediate_size, c.hidden_size};
        case linear::down_proj:
            break;
    }
    return {c.hidden_size, c.intermediate_size};
}

bool has_bias(const llama_config& c, linear kind) {
    switch (input_of(kind)) {
        case site::attention_input: return c.qkv_bias;
        case site::attention_output: return c.o_bias;
        case site::mlp_input:
        case site::mlp_hidden: break;
    }
    return c.mlp_bias;
}

llama_model load_model(const std::filesystem::path& folder) {
    if (!std::filesystem::is_directory(folder)) refuse(folder.string(), ": no such folder");
    llama_model model;
    model.config = read_config(folder / "config.json");
    const llama_config& c = model.config;
    tensor_reader reader(folder);

    // A tied model stores its one matrix under either name. If it stores both, they must be the same.
    const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
    const bool only_head = c.tie_word_embeddings && !reader.contains(embedding) && reader.contains(head);
    model.embedding = reader.matrix(only_head ? head : embedding, c.vocab_size, c.hidden_size);
    if (!c.tie_word_embeddings || (reader.contains(head) && !only_head)) model.own_head = reader.matrix(head, c.vocab_size, c.hidden_size);
    if (c.tie_word_embeddings && model.own_head.size() != 0) {
        if (model.own_head != model.embedding)
            refuse(folder.string(), ": tie_word_embeddings is true, but ", head, " and ", embedding, " differ");
        model.own_head.resize(0, 0);
    }
    for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
        const std::string prefix = "model.layers." + std::to_string(layer) + ".";
        llama_block block;
        block.input_norm = reader.row(prefix + "input_layernorm.weight", c.hidden_size);
        block.post_attention_norm = reader.row(prefix + "post_attention_layernorm.weight", c.hidden_size);
        for (const linear kind : all_linears) {
            const auto [rows, cols] = shape_of(c, kind);
            block[kind] = reader.matrix(prefix + name_of(kind) + ".weight", rows, cols);
            if (has_bias(c, kind)) block.bias(kind) = reader.row(prefix + name_of(kind) + ".bias", rows);
        }
        model.blocks.push_back(std::move(block));
    }
    model.final_norm = reader.row("model.norm.weight", c.hidden_size);
    reader.refuse_rest();
    return model;
}

}  // namespace examples
