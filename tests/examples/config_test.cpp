// SPDX-License-Identifier: MIT
#include "quantize_llama/config.hpp"

#include <cmath>
#include <string>

#include "common/json.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"

using examples::json;
using examples::llama_config;
using examples::read_config;
using examples::rope_scaling;
using examples::rope_scaling_kind;

namespace {

const char* const minimal = R"({"model_type": "llama", "vocab_size": 50, "hidden_size": 24, "intermediate_size": 30, "num_hidden_layers": 3,
                                "num_attention_heads": 6, "max_position_embeddings": 64})";

/// The minimal configuration with the keys of `change` merged in; null removes a key.
std::string changed(const std::string& change) {
    json object = json::parse(minimal);
    object.merge_patch(json::parse(change));
    return object.dump();
}

std::string refused(const std::string& change) {
    const scratch_folder folder;
    const auto path = folder.write("config.json", changed(change));
    const std::string message = refusal([&] { return read_config(path); });
    if (!message.empty()) {
        CHECK(message.starts_with(path.string()));
        CHECK(message.find('\n') == std::string::npos);
    }
    return message;
}

llama_config accepted(const std::string& change) {
    const scratch_folder folder;
    return read_config(folder.write("config.json", changed(change)));
}

}  // namespace

TEST_CASE("config: what is absent gets its default", "[examples][config]") {
    const llama_config c = accepted("{}");
    CHECK(c.vocab_size == 50);
    CHECK(c.num_hidden_layers == 3);
    CHECK(c.num_key_value_heads == 6);
    CHECK(c.head_dim == 4);
    CHECK(c.rms_norm_eps == 1e-6);
    CHECK(c.rope_theta == 10000.0);
    CHECK_FALSE(c.tie_word_embeddings);
    CHECK_FALSE(c.bos_token_id.has_value());
    CHECK(c.eos_token_ids.empty());
    CHECK(c.scaling == rope_scaling{});
    CHECK(c.sliding_window > c.max_position_embeddings);
    CHECK_FALSE((c.qkv_bias || c.o_bias || c.mlp_bias));
}

TEST_CASE("config: what is present is taken", "[examples][config]") {
    const llama_config c = accepted(R"({"num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5,
                                        "rope_theta": 5e5,
                                        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "bfloat16"})");
    CHECK(c.num_key_value_heads == 2);
    CHECK(c.head_dim == 8);
    CHECK(c.rms_norm_eps == 1e-5);
    CHECK(c.rope_theta == 5e5);
    CHECK(c.tie_word_embeddings);
    CHECK(c.bos_token_id == 1u);
    CHECK(c.eos_token_ids == std::vector<examples::token>{2, 3});
    CHECK(accepted(R"({"eos_token_id": 7})").eos_token_ids == std::vector<examples::token>{7});
    CHECK(accepted(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}})").rope_theta == 300.0);
    CHECK(accepted(R"({"rope_scaling": {"type": "default"}, "rope_theta": 200.0})").rope_theta == 200.0);
}

TEST_CASE("config: the types differ in biases and windows", "[examples][config]") {
    const llama_config biased = accepted(R"({"attention_bias": true})");
    CHECK((biased.qkv_bias && biased.o_bias && !biased.mlp_bias));
    CHECK(accepted(R"({"mlp_bias": true})").mlp_bias);
    CHECK_FALSE(accepted(R"({"mlp_bias": true})").qkv_bias);

    const llama_config qwen = accepted(R"({"model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": false,
                                           "sliding_window": 8, "max_window_layers": 1})");
    CHECK((qwen.qkv_bias && !qwen.o_bias && !qwen.mlp_bias));
    CHECK(qwen.sliding_window > qwen.max_position_embeddings);
    CHECK_THAT(refused(R"({"model_type": "qwen2", "num_key_value_heads": 2, "use_sliding_window": true})"),
               mentions("use_sliding_window must be false"));

    const auto mistral = [](const std::string& rest) { return R"({"model_type": "mistral", "num_key_value_heads": 2)" + rest + "}"; };
    CHECK_FALSE((accepted(mistral("")).qkv_bias || accepted(mistral("")).o_bias));
    CHECK(accepted(mistral("")).sliding_window == 4096);  // the default of the type
    CHECK(accepted(mistral(R"(, "sliding_window": 8)")).sliding_window == 8);
    CHECK_THAT(refused(mistral(R"(, "sliding_window": 0)")), mentions("sliding_window must be an integer from 1"));
    const scratch_folder folder;
    std::string unlimited = changed(mistral(""));
    unlimited.insert(1, R"("sliding_window": null,)");  // null differs from an absent key
    CHECK(read_config(folder.write("config.json", unlimited)).sliding_window > 64);

    CHECK_THAT(refused(R"({"model_type": "qwen2"})"), mentions("num_key_value_heads is missing"));
    CHECK_THAT(refused(R"({"model_type": "mistral"})"), mentions("num_key_value_heads is missing"));
}

TEST_CASE("config: scaled RoPE, in the older spelling and the newer one", "[examples][config]") {
    const auto scaling = [](const std::string& text) {
        const rope_scaling newer = accepted(R"({"rope_parameters": {"rope_theta": 500.0, "rope_type": )" + text + "}}").scaling;
        CHECK(accepted(R"({"rope_theta": 500.0, "rope_scaling": {"type": )" + text + "}}").scaling == newer);
        CHECK(accepted(R"({"rope_theta": 500.0, "rope_scaling": {"rope_type": )" + text + "}}").scaling == newer);
        return newer;
    };
    const auto kind = [](rope_scaling_kind k) { return static_cast<int>(k); };
    CHECK(scaling(R"("default")") == rope_scaling{});
    CHECK(scaling(R"("dynamic", "factor": 4.0)") == rope_scaling{});

    const rope_scaling linear = scaling(R"("linear", "factor": 2)");
    CHECK(kind(linear.kind) == kind(rope_scaling_kind::linear));
    CHECK(linear.factor == 2);

    const rope_scaling llama3 =
        scaling(R"("llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192)");
    CHECK(kind(llama3.kind) == kind(rope_scaling_kind::llama3));
    CHECK((llama3.factor == 32 && llama3.low_turns == 1 && llama3.high_turns == 4));
    CHECK(llama3.original_max_position_embeddings == 8192);
    CHECK(llama3.attention_factor == 1);

    const rope_scaling yarn = scaling(R"("yarn", "factor": 4.0, "finetuned": true)");
    CHECK(kind(yarn.kind) == kind(rope_scaling_kind::yarn));
    CHECK((yarn.low_turns == 1 && yarn.high_turns == 32 && yarn.truncate));
    CHECK(yarn.original_max_position_embeddings == 64);               // max_position_embeddings
    CHECK(yarn.attention_factor == Approx(0.1 * std::log(4.0) + 1));  // as in the paper
    CHECK(scaling(R"("yarn", "factor": 4.0, "attention_factor": 0.75)").attention_factor == 0.75);
    CHECK(scaling(R"("yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 0.5)").attention_factor ==
          Approx((0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1)));
    const rope_scaling wide = scaling(R"("yarn", "factor": 4.0, "beta_slow": 2, "beta_fast": 16, "truncate": false)");
    CHECK((wide.low_turns == 2 && wide.high_turns == 16 && !wide.truncate));
}

TEST_CASE("config: scaled RoPE that cannot be computed is refused", "[examples][config]") {
    const auto rope = [](const std::string& text) { return refused(R"({"rope_scaling": {)" + text + "}}"); };
    CHECK_THAT(rope(R"("type": "longrope")"), mentions("rope_type must be default, linear, dynamic, llama3 or yarn, it is \"longrope\""));
    CHECK_THAT(rope(R"("type": "")"), mentions("rope_type must be default, linear, dynamic, llama3 or yarn, it is \"\""));
    CHECK_THAT(rope(R"("type": 3)"), mentions("rope_scaling: type must be a string, it is 3"));
    CHECK_THAT(rope(R"("type": "linear", "rope_type": "yarn", "factor": 2.0)"), mentions("type must be \"yarn\", it is \"linear\""));
    CHECK_THAT(rope(R"("type": "linear")"), mentions("rope_scaling: factor is missing"));
    for (const char* factor : {"0.5", "1e7"})
        CHECK_THAT(rope(R"("type": "linear", "factor": )" + std::string(factor)), mentions("factor must be from 1 to"));
    CHECK_THAT(rope(R"("type": "linear", "factor": "2")"), mentions("factor must be a positive number"));
    CHECK_THAT(rope(R"("type": "llama3", "factor": 8.0, "high_freq_factor": 4.0)"), mentions("low_freq_factor is missing"));
    CHECK_THAT(rope(R"("type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 4.0)"),
               mentions("high_freq_factor (4) must be larger than low_freq_factor (4)"));
    CHECK_THAT(rope(R"("type": "yarn", "factor": 4.0, "beta_slow": 40)"), mentions("beta_fast (32) must be larger than beta_slow (40)"));
    CHECK_THAT(rope(R"("type": "yarn", "factor": 4.0, "original_max_position_embeddings": -1)"),
               mentions("original_max_position_embeddings must be an integer from 1 to"));
    for (const char* attention : {R"("attention_factor": 1e300)", R"("attention_factor": 1e-300)", R"("mscale": 1e4, "mscale_all_dim": 1)"})
        CHECK_THAT(rope(R"("type": "yarn", "factor": 4.0, )" + std::string(attention)),
                   mentions("the attention factor must be from 0.01 to 100"));
    CHECK_THAT(refused(R"({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}})"),
               mentions("has both rope_scaling and rope_parameters"));
}

TEST_CASE("config: what the forward pass does not implement is refused", "[examples][config]") {
    CHECK_THAT(refused(R"({"model_type": "gemma"})"), mentions("model_type must be llama, mistral or qwen2, it is \"gemma\""));
    CHECK_THAT(refused(R"({"model_type": 3})"), mentions("model_type must be llama, mistral or qwen2, it is 3"));
    CHECK_THAT(refused(R"({"model_type": null})"), mentions("model_type must be llama, mistral or qwen2, it is missing"));
    CHECK_THAT(refused(R"({"hidden_act": "gelu"})"), mentions("hidden_act must be \"silu\""));
    CHECK_THAT(refused(R"({"attention_bias": 1})"), mentions("attention_bias must be true or false"));
    CHECK_THAT(refused(R"({"rope_interleaved": true})"), mentions("rope_interleaved"));
    CHECK_THAT(refused(R"({"quantization_config": {"bits": 4}})"), mentions("quantization_config"));
    CHECK_THAT(refused(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"), mentions("partial_rotary_factor"));
    CHECK_THAT(refused(R"({"rope_parameters": 3})"), mentions("rope_parameters must be an object"));
}

TEST_CASE("config: sizes that are absent, of a wrong type or implausible are refused", "[examples][config]") {
    for (const char* key :
         {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"}) {
        const auto with = [&](const char* value) { return refused("{\"" + std::string(key) + "\": " + value + "}"); };
        CHECK_THAT(with("null"), mentions(std::string(key) + " is missing"));
        for (const char* value : {"0", "-1", "2.5", "\"8\"", "true", "99999999999999999999", "9223372036854775807"})
            CHECK_THAT(with(value), mentions(std::string(key) + " must be an integer from 1 to"));
    }
    CHECK_THAT(refused(R"({"num_key_value_heads": 4})"), mentions("must be a multiple of num_key_value_heads (4)"));
    CHECK_THAT(refused(R"({"num_attention_heads": 5})"), mentions("must be a multiple of num_attention_heads (5)"));
    CHECK_THAT(refused(R"({"head_dim": 3})"), mentions("must be even"));
    CHECK_THAT(refused(R"({"head_dim": 1048576})"), mentions("num_attention_heads * head_dim"));
    CHECK_THAT(refused(R"({"rms_norm_eps": 0})"), mentions("rms_norm_eps must be a positive number"));
    CHECK_THAT(refused(R"({"rope_theta": "x"})"), mentions("rope_theta must be a positive number"));
    CHECK_THAT(refused(R"({"rope_theta": 1.0})"), mentions("rope_theta must be larger than 1"));
    CHECK_THAT(refused(R"({"tie_word_embeddings": 1})"), mentions("tie_word_embeddings must be true or false"));
    CHECK_THAT(refused(R"({"rms_norm_eps": 1e-60})"), mentions("rms_norm_eps must be a positive number of float32"));
    CHECK_THAT(refused(R"({"bos_token_id": "1"})"), mentions("bos_token_id must be a token id, it is \"1\""));
    CHECK_THAT(refused(R"({"eos_token_id": [1, 2.5]})"), mentions("eos_token_id must be a token id, it is 2.5"));
}

TEST_CASE("config: ids that the vocabulary does not have are none", "[examples][config]") {
    for (const char* id : {"-1", "50", "99999999999"}) {
        CHECK_FALSE(accepted(R"({"bos_token_id": )" + std::string(id) + "}").bos_token_id.has_value());
        CHECK(accepted(R"({"eos_token_id": )" + std::string(id) + "}").eos_token_ids.empty());
        CHECK(accepted(R"({"eos_token_id": [3, )" + std::string(id) + "]}").eos_token_ids == std::vector<examples::token>{3});
    }
    CHECK(accepted(R"({"bos_token_id": 49})").bos_token_id == 49u);
}

TEST_CASE("config: a key of another architecture is refused unless its value changes nothing", "[examples][config]") {
    struct extension {
        const char *key, *neutral, *other;
    };
    // The minimal model has heads of 4 elements, 3 layers, 24 channels.
    for (const auto& [key, neutral, other] : {extension{"attn_logit_softcapping", "null", "50.0"},
                                              extension{"final_logit_softcapping", "null", "30.0"},
                                              extension{"sliding_window", "64", "8"},
                                              extension{"use_sliding_window", "false", "true"},
                                              extension{"layer_types", R"(["full_attention", "full_attention", "full_attention"])",
                                                        R"(["full_attention", "sliding_attention", "full_attention"])"},
                                              extension{"attention_multiplier", "0.5", "0.0078125"},
                                              extension{"residual_multiplier", "1", "0.22"},
                                              extension{"embedding_multiplier", "1.0", "12"},
                                              extension{"logits_scaling", "1", "8.0"},
                                              extension{"logit_scale", "1", "0.0625"},
                                              extension{"query_pre_attn_scalar", "4", "256"},
                                              extension{"scale_emb", "1", "12"},
                                              extension{"use_qk_norm", "false", "true"},
                                              extension{"qk_norm", "false", "true"},
                                              extension{"partial_rotary_factor", "1", "0.5"},
                                              extension{"rotary_dim", "4", "2"},
                                              extension{"rope_interleaved", "false", "true"},
                                              extension{"is_causal", "true", "false"},
                                              extension{"use_bidirectional_attention", "false", "true"},
                                              extension{"num_local_experts", "0", "8"},
                                              extension{"no_rope_layers", "[]", "[1, 0, 1]"},
                                              extension{"attention_chunk_size", "null", "8192"},
                                              extension{"rope_local_base_freq", "10000", "500.0"},
                                              extension{"lm_head_bias", "false", "true"},
                                              extension{"bias", "false", "true"},
                                              extension{"norm_eps", "1e-6", "1e-5"},
                                              extension{"n_layers", "3", "4"},
                                              extension{"num_kv_heads", "6", "2"},
                                              extension{"num_key_value_groups", "1", "3"},
                                              extension{"use_rms_norm", "true", "false"},
                                              extension{"rotary", "true", "false"},
                                              extension{"num_experts_per_tok", "0", "2"},
                                              extension{"is_encoder_decoder", "false", "true"},
                                              extension{"architectures", R"(["LLaMAForCausalLM"])", R"(["MixtralForCausalLM"])"},
                                              extension{"auto_map", R"({"AutoTokenizer": "a.B"})", R"({"AutoModelForCausalLM": "a.B"})"},
                                              extension{"per_layer_config", "{}", R"({"1": {"rms_norm_eps": 1.0}})"},
                                              extension{"text_config", "null", R"({"hidden_size": 3})"},
                                              extension{"pruned_heads", "{}", R"({"0": [1]})"},
                                              extension{"hidden_activation", "\"silu\"", "\"gelu\""},
                                              extension{"hidden_act", "\"swish\"", "\"relu\""},
                                              extension{"position_embedding_type", "\"rope\"", "\"alibi\""},
                                              extension{"clip_qkv", "null", "8"},
                                              extension{"quantization", "null", R"({"bits": 4})"}}) {
        INFO(key);
        const auto with = [&name = key](const char* value) { return json{{name, json::parse(value)}}.dump(); };
        CHECK(accepted(with(neutral)).vocab_size == 50);
        CHECK_THAT(refused(with(other)), mentions(key));
    }
    const auto mistral = [](const std::string& rest) { return R"({"model_type": "mistral", "num_key_value_heads": 2)" + rest + "}"; };
    CHECK_THAT(refused(mistral(R"(, "attention_bias": true)")), mentions("attention_bias must be false"));
    const std::string windows = R"(["sliding_attention", "sliding_attention", "sliding_attention"])";
    CHECK(accepted(mistral(R"(, "sliding_window": 8, "layer_types": )" + windows)).sliding_window == 8);
    CHECK_THAT(refused(R"({"layer_types": )" + windows + "}"), mentions("layer_types must all be full_attention"));
    CHECK_THAT(refused(R"({"layer_types": ["full_attention"]})"), mentions("layer_types must be an array of 3 names"));
    CHECK(accepted(mistral(R"(, "sliding_window": 8, "use_sliding_window": true)")).sliding_window == 8);
    CHECK_THAT(refused(mistral(R"(, "sliding_window": 8, "use_sliding_window": false)")), mentions("use_sliding_window must be true"));
    CHECK(accepted(R"({"model_type": "qwen2", "num_key_value_heads": 2, "attention_bias": false})").qkv_bias);
    CHECK(accepted(R"({"model_type": "qwen2", "num_key_value_heads": 2, "architectures": ["LlamaForCausalLM"]})").qkv_bias);
    for (const char* none : {"3", "[3]", R"("GemmaForCausalLM")", R"(["LlamaForCausalLM", "LlamaForSequenceClassification"])"})
        CHECK_THAT(refused(R"({"architectures": )" + std::string(none) + "}"), mentions("architectures must name the language model"));
}

TEST_CASE("config: a key that nobody knows is refused unless it asks for nothing", "[examples][config]") {
    for (const char* something : {"true", "1", "0", "0.5", "[1]", R"({"a": 1})", "\"x\""}) {
        const std::string message = refused(R"({"new_idea": )" + std::string(something) + "}");
        CHECK_THAT(message, mentions("\"new_idea\" is not known here"));
        CHECK_THAT(message, mentions("it is " + json::parse(something).dump()));
    }
    for (const char* nothing : {"null", "false", "[]", "{}", "\"\""}) {
        std::string with = minimal;  // not by a merge, in which null removes a key
        with.insert(1, R"("new_idea": )" + std::string(nothing) + ", ");
        const scratch_folder folder;
        CHECK(read_config(folder.write("config.json", with)).vocab_size == 50);
    }
    CHECK_THAT(refused(R"({"new\nidea": 1})"), mentions(R"("new\nidea" is not known here)"));
    const std::string long_name(300, 'n');
    CHECK(refused("{\"" + long_name + "\": 1}").size() < 400);
    for (const char* harmless :
         {R"({"pretraining_tp": 2})", R"({"attention_dropout": 0.1})", R"({"use_cache": true})", R"({"initializer_range": 0.02})",
          R"({"pad_token_id": 7})", R"({"unsloth_version": "2024.9"})", R"({"id2label": {"0": "a"}})", R"({"temperature": 0.7})"})
        CHECK(accepted(harmless).vocab_size == 50);
}

TEST_CASE("config: the configurations of published models are accepted", "[examples][config]") {
    const scratch_folder folder;
    const auto read = [&](const std::string& text) { return read_config(folder.write("config.json", text)); };
    CHECK(read(R"({"_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float16",
        "transformers_version": "4.31.0.dev0", "use_cache": true, "vocab_size": 32000})")
              .head_dim == 128);
    CHECK(read(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
        "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
        "use_cache": true, "vocab_size": 128256, "pad_token_id": 128004, "unsloth_fixed": true})")
              .scaling.factor == 32);  // Llama 3.2 1B, as published by unsloth
    CHECK(read(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
        "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false,
        "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}}, "transformers_version": "4.40.1",
        "use_cache": true, "vocab_size": 49152})")
              .rope_theta == 1e5);  // SmolLM2 135M
    CHECK(read(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632, "max_position_embeddings": 2048,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.35.0", "use_cache": true, "vocab_size": 32000})")
              .num_key_value_heads == 4);  // TinyLlama
    CHECK(read(R"({"architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true, "vocab_size": 32768})")
              .sliding_window > 32768);  // Mistral 7B v0.3
    CHECK(read(R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "dtype": "bfloat16",
        "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "layer_types": ["full_attention", "full_attention"], "max_position_embeddings": 32768, "max_window_layers": 21,
        "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 2, "num_key_value_heads": 2, "pad_token_id": null,
        "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}, "sliding_window": null,
        "tie_word_embeddings": true, "transformers_version": "5.0.0", "use_cache": true, "use_mrope": false, "use_sliding_window": false,
        "vocab_size": 151936})")
              .qkv_bias);  // Qwen2.5 0.5B, as written by transformers 5
}

TEST_CASE("config: RoPE that is nested by kind of layer is read if it is the same for all", "[examples][config]") {
    const std::string one = R"({"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0})";
    const std::string other = R"({"rope_type": "linear", "factor": 2.0, "rope_theta": 800.0})";
    const auto nested = [](const std::string& inside) { return R"({"rope_parameters": {)" + inside + "}}"; };
    for (const std::string& rest : {std::string(), R"(, "sliding_attention": )" + one, std::string(R"(, "sliding_attention": null)")}) {
        const llama_config c = accepted(nested(R"("full_attention": )" + one + rest));
        CHECK(c.rope_theta == 700.0);
        CHECK(c.scaling.factor == 2.0);
    }
    CHECK_THAT(refused(nested(R"("full_attention": )" + one + R"(, "sliding_attention": )" + other)), mentions("differs between kinds"));
    CHECK_THAT(refused(nested(R"("full_attention": )" + one + R"(, "rope_theta": 3.0)")), mentions("stands beside the parameters"));
    CHECK_THAT(refused(nested(R"("main": )" + one)), mentions("\"main\" is not a kind of layer"));
}

TEST_CASE("config: what a type of RoPE does not know is refused by name", "[examples][config]") {
    const auto rope = [](const std::string& text) { return refused(R"({"rope_scaling": {)" + text + "}}"); };
    CHECK_THAT(rope(R"("factor": 4.0)"), mentions("\"factor\" is not known to RoPE of type \"default\""));
    CHECK_THAT(rope(R"("type": "linear", "factor": 4.0, "beta_fast": 32)"), mentions("\"beta_fast\" is not known"));
    CHECK_THAT(rope(R"("type": "default", "mrope_section": [1, 2, 3])"), mentions("\"mrope_section\" is not known"));
    CHECK_THAT(rope(R"("type": "yarn", "factor": 4.0, "llama_4_scaling_beta": 0.1)"), mentions("\"llama_4_scaling_beta\" is not known"));
    CHECK_THAT(rope(R"("type": "dynamic", "factor": 2.0, "alpha": 1000.0)"), mentions("\"alpha\" is not known"));
    CHECK_THAT(rope(R"("type": "yarn", "factor": 4.0, "attn_factor": 2.0)"), mentions("attn_factor must be 1"));
    CHECK_THAT(rope(R"("type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32)"),
               mentions("original_max_position_embeddings must not be below max_position_embeddings (64)"));
    CHECK_THAT(refused(R"({"rope_theta": 500.0, "rope_parameters": {"rope_theta": 600.0}})"), mentions("rope_theta must be 500"));
    const std::string yarn = R"("rope_scaling": {"type": "yarn", "factor": 4.0)";
    CHECK(accepted(R"({"original_max_position_embeddings": 16, )" + yarn + "}}").scaling.original_max_position_embeddings == 16);
    CHECK_THAT(refused(R"({"original_max_position_embeddings": 16, )" + yarn + R"(, "original_max_position_embeddings": 32}})"),
               mentions("is 32 here and 16 beside it"));
}

TEST_CASE("config: a file that is not one JSON object is refused", "[examples][config]") {
    const scratch_folder folder;
    const auto refused_text = [&](const std::string& text) {
        const auto path = folder.write("config.json", text);
        return refusal([&] { return read_config(path); });
    };
    CHECK_THAT(refused_text(""), mentions("not valid JSON"));
    CHECK_THAT(refused_text("[]"), mentions("not a JSON object"));
    CHECK_THAT(refused_text(R"({"vocab_size": 1, "vocab_size": 2})"), mentions("\"vocab_size\" appears twice"));
    CHECK_THAT(refused_text(std::string(2 << 20, ' ')), mentions("more than the 1048576 that are plausible"));
    CHECK_THAT(refusal([&] { return read_config(folder.path() / "none.json"); }), mentions("no such file"));
}
