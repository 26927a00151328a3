#include "quantize_llama/config.hpp"

#include <string>

#include "common/json.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"

using examples::json;
using examples::llama_config;
using examples::read_config;

namespace {

const char* const minimal = R"({"model_type": "llama", "vocab_size": 50, "hidden_size": 24, "intermediate_size": 30, "num_hidden_layers": 3,
                                "num_attention_heads": 6, "max_position_embeddings": 64})";

/// The minimal configuration with the keys of `change` put in; null takes one away.
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

TEST_CASE("config: what the forward pass does not implement is refused", "[examples][config]") {
    CHECK_THAT(refused(R"({"model_type": "mistral"})"), mentions("model_type must be \"llama\", it is \"mistral\""));
    CHECK_THAT(refused(R"({"model_type": null})"), mentions("model_type must be \"llama\", it is missing"));
    CHECK_THAT(refused(R"({"hidden_act": "gelu"})"), mentions("hidden_act must be \"silu\""));
    CHECK_THAT(refused(R"({"attention_bias": true})"), mentions("attention_bias must be false"));
    CHECK_THAT(refused(R"({"mlp_bias": true})"), mentions("mlp_bias must be false"));
    CHECK_THAT(refused(R"({"rope_interleaved": true})"), mentions("rope_interleaved"));
    CHECK_THAT(refused(R"({"quantization_config": {"bits": 4}})"), mentions("quantization_config"));
    CHECK_THAT(refused(R"({"rope_scaling": {"type": "linear", "factor": 2.0}})"), mentions("rope_scaling: type must be \"default\""));
    CHECK_THAT(refused(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})"), mentions("rope_scaling: rope_type"));
    CHECK_THAT(refused(R"({"rope_parameters": {"rope_type": "yarn"}})"), mentions("rope_parameters: rope_type"));
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
    CHECK_THAT(refused(R"({"tie_word_embeddings": 1})"), mentions("tie_word_embeddings must be true or false"));
    CHECK_THAT(refused(R"({"bos_token_id": 50})"), mentions("bos_token_id must be a token id below 50, it is 50"));
    CHECK_THAT(refused(R"({"eos_token_id": [1, -1]})"), mentions("eos_token_id must be a token id below 50"));
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
