// SPDX-License-Identifier: MIT
#include "quantize_llama/model.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <system_error>

#include "common/error.hpp"

namespace examples {
namespace {

using tensor_shape = std::vector<std::uint64_t>;

tensor_shape shape_of_size(std::int64_t size) { return {static_cast<std::uint64_t>(size)}; }
tensor_shape shape_of_size(std::int64_t rows, std::int64_t cols) {
    return {static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols)};
}

const std::filesystem::path& existing(const std::filesystem::path& folder) {
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error)) refuse(folder.string(), ": no such folder");
    // transformers would load the model that the adapter is for, and add its weights
    if (const auto adapter = folder / "adapter_config.json"; std::filesystem::exists(adapter, error))
        refuse(adapter.string(), ": is of an adapter, which must be merged into the model first, or taken away if it is");
    return folder;
}

constexpr const char* final_norm_name = "model.norm.weight";

/// Every tensor of a block: visit(name, its place, its shape).
template <class Visit>
void visit_block(const llama_config& c, std::int64_t layer, llama_block& block, const Visit& visit) {
    const std::string prefix = block_prefix(layer);
    visit(prefix + "input_layernorm.weight", block.input_norm, shape_of_size(c.hidden_size));
    visit(prefix + "post_attention_layernorm.weight", block.post_attention_norm, shape_of_size(c.hidden_size));
    for (const linear kind : all_linears) {
        const auto [rows, cols] = shape_of(c, kind);
        visit(prefix + name_of(kind) + ".weight", block[kind], shape_of_size(rows, cols));
        if (has_bias(c, kind)) visit(prefix + name_of(kind) + ".bias", block.bias(kind), shape_of_size(rows));
    }
}

template <class Matrix>
void read_tensor(const model_tensors& tensors, const std::string& name, const tensor_shape& shape, Matrix& m) {
    tensors.require(name, shape);  // before memory is taken
    m.resize(shape.size() == 1 ? 1 : static_cast<Eigen::Index>(shape.front()), static_cast<Eigen::Index>(shape.back()));
    tensors.read(name, shape, {m.data(), static_cast<std::size_t>(m.size())});
}

}  // namespace

const char* name_of(linear kind) {
    constexpr std::array names{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                               "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
    return names[static_cast<std::size_t>(kind)];
}

std::string layer_name(std::int64_t layer, linear kind) { return "layers." + std::to_string(layer) + "." + name_of(kind); }

std::string input_name(std::int64_t layer, site where) {
    const auto reader = std::find_if(all_linears.begin(), all_linears.end(), [&](linear kind) { return input_of(kind) == where; });
    return "the input of " + layer_name(layer, *reader);
}

linear_shape shape_of(const llama_config& c, linear kind) {
    const std::int64_t queries = c.num_attention_heads * c.head_dim;
    const std::int64_t keys = c.num_key_value_heads * c.head_dim;
    switch (kind) {
        case linear::q_proj: return {queries, c.hidden_size};
        case linear::k_proj:
        case linear::v_proj: return {keys, c.hidden_size};
        case linear::o_proj: return {c.hidden_size, queries};
        case linear::gate_proj:
        case linear::up_proj: return {c.intermediate_size, c.hidden_size};
        case linear::down_proj: break;
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

std::string block_prefix(std::int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }

llama_block read_block(const model_tensors& tensors, const llama_config& config, std::int64_t layer) {
    llama_block block;
    visit_block(config, layer, block,
                [&](const std::string& name, auto& m, const tensor_shape& shape) { read_tensor(tensors, name, shape, m); });
    return block;
}

model_folder::model_folder(const std::filesystem::path& folder)
    : path_(existing(folder)),
      config_(read_config(folder / "config.json")),
      tensors_(folder),
      embedding_("model.embed_tokens.weight"),
      head_("lm_head.weight") {
    const llama_config& c = config_;
    std::set<std::string> expected;
    const auto expect = [&](const std::string& name, const tensor_shape& shape) {
        tensors_.require(name, shape);
        expected.insert(name);
    };

    // A tied model stores its one matrix under either name. If it stores both, the head is not used, as in other engines.
    const tensor_shape vocabulary = shape_of_size(c.vocab_size, c.hidden_size);
    const bool only_head = c.tie_word_embeddings && !tensors_.contains(embedding_) && tensors_.contains(head_);
    if (only_head) embedding_ = head_;
    expect(embedding_, vocabulary);
    if (!c.tie_word_embeddings) expect(head_, vocabulary);
    expected.insert(head_);
    if (c.tie_word_embeddings) head_ = embedding_;
    for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
        llama_block none;
        visit_block(c, layer, none, [&](const std::string& name, const auto&, const tensor_shape& shape) { expect(name, shape); });
    }
    expect(final_norm_name, shape_of_size(c.hidden_size));

    // A further layer would change the outputs. Tables of RoPE frequencies, which old files hold, are computed anyway.
    for (const std::string& name : tensors_.names())
        if (!expected.contains(name) && !name.ends_with("rotary_emb.inv_freq"))
            refuse(folder.string(), ": tensor ", name, " has no place in a Llama model of this configuration");
}

std::vector<std::filesystem::path> model_folder::files() const {
    std::vector<std::filesystem::path> all = tensors_.files();
    all.push_back(path_ / "config.json");
    return all;
}

matrix_f model_folder::vocabulary_matrix(const std::string& name) const {
    matrix_f m;
    read_tensor(tensors_, name, shape_of_size(config_.vocab_size, config_.hidden_size), m);
    return m;
}

row_f model_folder::final_norm() const {
    row_f norm;
    read_tensor(tensors_, final_norm_name, shape_of_size(config_.hidden_size), norm);
    return norm;
}

llama_block model_folder::block(std::int64_t layer) const { return read_block(tensors_, config_, layer); }

llama_model load_model(const model_folder& folder) {
    llama_model model;
    model.config = folder.config();
    model.embedding = folder.embedding();
    if (!model.config.tie_word_embeddings) model.own_head = folder.head();
    for (std::int64_t layer = 0; layer < model.config.num_hidden_layers; ++layer) model.blocks.push_back(folder.block(layer));
    model.final_norm = folder.final_norm();
    return model;
}

std::int64_t size_in_memory(const llama_config& c) {
    std::int64_t block = 0;
    for (const linear kind : all_linears) block += shape_of(c, kind).rows * shape_of(c, kind).cols;
    const std::int64_t vocabulary = (c.tie_word_embeddings ? 1 : 2) * c.vocab_size * c.hidden_size;
    return static_cast<std::int64_t>(sizeof(float)) * (c.num_hidden_layers * block + vocabulary);
}

}  // namespace examples
