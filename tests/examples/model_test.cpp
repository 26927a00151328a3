// SPDX-License-Identifier: MIT
#include "quantize_llama/model.hpp"

#include <algorithm>
#include <limits>

#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

void write_model(const scratch_folder& folder, const llama_config& config, const std::vector<tiny::stored_tensor>& tensors) {
    folder.write("config.json", tiny::config_text(config));
    folder.write("model.safetensors", tiny::safetensors(tensors));
}

bool same_weights(const llama_model& a, const llama_model& b) {
    bool same = a.embedding == b.embedding && a.final_norm == b.final_norm && a.head() == b.head() && a.blocks.size() == b.blocks.size();
    for (std::size_t layer = 0; same && layer < a.blocks.size(); ++layer)
        same = a.blocks[layer].input_norm == b.blocks[layer].input_norm &&
               a.blocks[layer].post_attention_norm == b.blocks[layer].post_attention_norm &&
               a.blocks[layer].weights == b.blocks[layer].weights && a.blocks[layer].biases == b.blocks[layer].biases;
    return same;
}

}  // namespace

TEST_CASE("load_model: every tensor arrives in its place", "[examples][model]") {
    const scratch_folder folder;
    for (const bool tied : {true, false}) {
        llama_config config = tiny::config();
        config.tie_word_embeddings = tied;
        const llama_model model = tiny::model(config);
        write_model(folder, config, tiny::stored(model));
        const llama_model loaded = load_model(folder.path());
        CHECK(same_weights(loaded, model));
        CHECK(loaded.config.head_dim == config.head_dim);
        CHECK(loaded.own_head.size() == (tied ? 0 : model.embedding.size()));
    }
}

TEST_CASE("load_model: biases arrive in their places, and all that belong to the type must be there", "[examples][model]") {
    const scratch_folder folder;
    struct biases {
        bool qkv, o, mlp;
        std::size_t per_block;
        const char* one_too_many;
    };
    for (const auto& [qkv, o, mlp, per_block, one_too_many] :
         {biases{true, false, false, 3, "self_attn.o_proj"},  // qwen2
          biases{true, true, false, 4, "mlp.up_proj"}, biases{false, false, true, 3, "self_attn.v_proj"},
          biases{true, true, true, 7, "self_attn.rotary"}}) {
        llama_config config = tiny::config();
        config.qkv_bias = qkv;
        config.o_bias = o;
        config.mlp_bias = mlp;
        const llama_model model = tiny::model(config);
        for (const row_f& bias : model.blocks[1].biases) CHECK((bias.size() == 0 || !bias.isZero()));
        const std::vector<tiny::stored_tensor> tensors = tiny::stored(model);
        write_model(folder, config, tensors);
        CHECK(same_weights(load_model(folder.path()), model));

        std::size_t found = 0;
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            if (!tensors[i].name.ends_with(".bias")) continue;
            ++found;
            std::vector<tiny::stored_tensor> without = tensors;
            without.erase(without.begin() + static_cast<std::ptrdiff_t>(i));
            write_model(folder, config, without);
            CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions("tensor " + tensors[i].name + " is missing"));
        }
        CHECK(found == per_block * model.blocks.size());

        std::vector<tiny::stored_tensor> with = tensors;
        const float zeros[40] = {};
        with.push_back(tiny::float_tensor("model.layers.0." + std::string(one_too_many) + ".bias", {24}, zeros));
        write_model(folder, config, with);
        CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions(std::string(one_too_many) + ".bias has no place"));
    }
}

TEST_CASE("load_model: the matrix of a tied model may be stored under either name, or both", "[examples][model]") {
    const scratch_folder folder;
    const llama_model model = tiny::model();
    std::vector<tiny::stored_tensor> tensors = tiny::stored(model);
    REQUIRE(tensors.front().name == "model.embed_tokens.weight");

    tiny::stored_tensor head = tensors.front();
    head.name = "lm_head.weight";
    tensors.push_back(head);
    write_model(folder, model.config, tensors);
    CHECK(same_weights(load_model(folder.path()), model));

    tensors.erase(tensors.begin());
    write_model(folder, model.config, tensors);
    CHECK(same_weights(load_model(folder.path()), model));

    tensors.pop_back();
    write_model(folder, model.config, tensors);
    CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions("tensor model.embed_tokens.weight is missing"));

    tensors = tiny::stored(model);
    head.bytes[0] = static_cast<char>(head.bytes[0] ^ 1);
    tensors.push_back(head);
    write_model(folder, model.config, tensors);
    CHECK(same_weights(load_model(folder.path()), model));  // the file's own output head is not used, whatever it contains
    tensors.back() = {"lm_head.weight", "I8", {3}, "abc"};
    write_model(folder, model.config, tensors);
    CHECK(same_weights(load_model(folder.path()), model));
}

TEST_CASE("load_model: a model that is not tied needs both matrices", "[examples][model]") {
    const scratch_folder folder;
    llama_config config = tiny::config();
    config.tie_word_embeddings = false;
    std::vector<tiny::stored_tensor> tensors = tiny::stored(tiny::model(config));
    std::erase_if(tensors, [](const tiny::stored_tensor& t) { return t.name == "lm_head.weight"; });
    write_model(folder, config, tensors);
    CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions("tensor lm_head.weight is missing"));
}

TEST_CASE("load_model: what does not match the configuration is refused", "[examples][model]") {
    const scratch_folder folder;
    const llama_model model = tiny::model();
    const auto refused = [&](const auto& change) {
        std::vector<tiny::stored_tensor> tensors = tiny::stored(model);
        change(tensors);
        write_model(folder, model.config, tensors);
        const std::string message = refusal([&] { return load_model(folder.path()); });
        CHECK(message.find('\n') == std::string::npos);
        return message;
    };
    const auto named = [](std::vector<tiny::stored_tensor>& tensors, const std::string& name) {
        return std::find_if(tensors.begin(), tensors.end(), [&](const tiny::stored_tensor& t) { return t.name == name; });
    };
    REQUIRE(refused([](auto&) {}).empty());
    const std::string gate = "model.layers.1.mlp.gate_proj.weight";
    CHECK_THAT(refused([&](auto& t) { t.erase(named(t, gate)); }), mentions("tensor " + gate + " is missing"));
    CHECK_THAT(refused([&](auto& t) { std::swap(named(t, gate)->shape[0], named(t, gate)->shape[1]); }),
               mentions("tensor " + gate + " has shape [24, 28], config.json asks for [28, 24]"));
    CHECK_THAT(refused([&](auto& t) { named(t, gate)->bytes.replace(0, 4, tiny::bytes_of(std::numeric_limits<float>::infinity())); }),
               mentions("tensor " + gate + ": element 0 of shape [28, 24] is not finite"));
    const float zeros[40] = {};
    CHECK_THAT(refused([&](auto& t) { t.push_back(tiny::float_tensor("model.layers.0.self_attn.q_proj.bias", {40}, zeros)); }),
               mentions("q_proj.bias has no place in a Llama model of this configuration"));
    for (const char* other : {"model.layers.2.input_layernorm.weight", "model.layers.0.self_attn.q_norm.weight",
                              "model.layers.1.pre_feedforward_layernorm.weight", "model.layers.0.self_attn.sinks", "model.norm.bias",
                              "lm_head.bias", "score.weight", "model.layers.0.mlp.up_proj.lora_A.weight", "model.embed_positions.weight"})
        CHECK_THAT(refused([&](auto& t) { t.push_back(tiny::float_tensor(other, {24}, zeros)); }),
                   mentions(std::string(other) + " has no place"));
    CHECK(refused([&](auto& t) { t.push_back(tiny::float_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {5}, zeros)); }).empty());
}

TEST_CASE("load_model: a path that is not a folder is refused", "[examples][model]") {
    const scratch_folder folder;
    CHECK_THAT(refusal([&] { return load_model(folder.path() / "none"); }), mentions("no such folder"));
    CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions("config.json: no such file"));
    std::filesystem::create_symlink("loop", folder.path() / "loop");
    CHECK_THAT(refusal([&] { return load_model(folder.path() / "loop"); }), mentions("loop: no such folder"));
    CHECK_THAT(refusal([&] { return load_model(folder.path() / std::string(300, 'n')); }), mentions("no such folder"));
}

TEST_CASE("load_model: an adapter beside the weights is refused, as its weights are not among them", "[examples][model]") {
    const scratch_folder folder;
    const llama_model model = tiny::model();
    write_model(folder, model.config, tiny::stored(model));
    folder.write("adapter_config.json", "{}");
    CHECK_THAT(refusal([&] { return load_model(folder.path()); }), mentions("adapter_config.json: is of an adapter"));
}

TEST_CASE("model_folder: shapes and names are checked at once, values when they are read", "[examples][model]") {
    const scratch_folder folder;
    const llama_model model = tiny::model();
    std::vector<tiny::stored_tensor> tensors = tiny::stored(model);
    const std::string last = "model.layers.1.mlp.down_proj.weight";
    REQUIRE(tensors.back().name == last);
    tensors.back().bytes.replace(0, 4, tiny::bytes_of(std::numeric_limits<float>::quiet_NaN()));
    write_model(folder, model.config, tensors);
    {
        const model_folder opened(folder.path());
        CHECK(opened.block(0).weights == model.blocks[0].weights);
        CHECK(opened.embedding() == model.embedding);
        CHECK(opened.head() == model.embedding);
        CHECK(opened.final_norm() == model.final_norm);
        CHECK_THAT(refusal([&] { return opened.block(1).weights.size(); }), mentions(last + ": element 0 of shape [24, 28] is not finite"));
    }
    std::swap(tensors.back().shape[0], tensors.back().shape[1]);
    write_model(folder, model.config, tensors);
    CHECK_THAT(refusal([&] { return model_folder(folder.path()).path(); }), mentions("tensor " + last + " has shape [28, 24]"));
    tensors.back() = {last, "I32", {24, 28}, std::string(24 * 28 * 4, '\0')};
    write_model(folder, model.config, tensors);
    CHECK_THAT(refusal([&] { return model_folder(folder.path()).path(); }), mentions("must be F32, F16 or BF16, it is I32"));
}

TEST_CASE("size_in_memory: the numbers of a model's matrices", "[examples][model]") {
    llama_config config = tiny::config();
    const auto size = [](const llama_model& m) {
        std::int64_t numbers = m.embedding.size() + m.own_head.size();
        for (const llama_block& block : m.blocks)
            for (const matrix_f& W : block.weights) numbers += W.size();
        return 4 * numbers;
    };
    CHECK(size_in_memory(config) == size(tiny::model(config)));
    config.tie_word_embeddings = false;
    CHECK(size_in_memory(config) == size(tiny::model(config)));
}
