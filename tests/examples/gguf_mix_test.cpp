// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_mix.hpp"

#include <string>
#include <vector>

#include "refusal.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using examples::gguf_mix;
using examples::linear;
using magr::ggml_type;

namespace {

examples::llama_config wide(std::int64_t blocks) {
    examples::llama_config c = tiny::config();
    c.hidden_size = c.intermediate_size = 512;
    c.num_attention_heads = 8;
    c.num_key_value_heads = 4;
    c.head_dim = 64;
    c.num_hidden_layers = blocks;
    return c;
}

/// The types of one kind of layer, block after block.
std::string types(gguf_mix mix, const examples::llama_config& c, linear kind) {
    std::string all;
    for (std::int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
        all.append(layer == 0 ? "" : " ").append(to_string(type_in_mix(mix, c, layer, kind).type));
    return all;
}

}  // namespace

TEST_CASE("GGUF mixes: layers of a model of eight blocks have the types of llama-quantize", "[examples][gguf]") {
    // as llama-quantize prints them, with an importance matrix for q4_0 and q5_0
    const examples::llama_config c = wide(8);
    struct row {
        gguf_mix mix;
        std::string values, output, down, rest;
    };
    const auto all = [](const std::string& type) {
        std::string eight = type;
        for (int i = 1; i < 8; ++i) eight += " " + type;
        return eight;
    };
    const std::string q6_q4 = "q6_k q4_k q4_k q6_k q4_k q4_k q6_k q6_k", q6_q5 = "q6_k q5_k q5_k q6_k q5_k q5_k q6_k q6_k";
    for (const row& expected :
         std::vector<row>{{gguf_mix::q4_0, all("q4_0"), all("q4_0"), "q4_1 q4_0 q4_0 q4_0 q4_0 q4_0 q4_0 q4_0", all("q4_0")},
                          {gguf_mix::q4_1, all("q4_1"), all("q4_1"), all("q4_1"), all("q4_1")},
                          {gguf_mix::q5_0, all("q5_0"), all("q5_0"), "q5_1 q5_0 q5_0 q5_0 q5_0 q5_0 q5_0 q5_0", all("q5_0")},
                          {gguf_mix::q5_1, all("q5_1"), all("q5_1"), all("q5_1"), all("q5_1")},
                          {gguf_mix::q8_0, all("q8_0"), all("q8_0"), all("q8_0"), all("q8_0")},
                          {gguf_mix::q2_k, all("q3_k"), all("q3_k"), all("q3_k"), all("q2_k")},
                          {gguf_mix::q3_k_s, all("q3_k"), all("q3_k"), all("q3_k"), all("q3_k")},
                          {gguf_mix::q3_k_m, "q5_k q5_k q4_k q4_k q4_k q4_k q4_k q4_k", all("q4_k"), all("q4_k"), all("q3_k")},
                          {gguf_mix::q3_k_l, all("q5_k"), all("q5_k"), all("q5_k"), all("q3_k")},
                          {gguf_mix::q4_k_s, "q5_k q5_k q5_k q5_k q4_k q4_k q4_k q4_k", all("q4_k"),
                           "q5_k q4_k q4_k q4_k q4_k q4_k q4_k q4_k", all("q4_k")},
                          {gguf_mix::q4_k_m, q6_q4, all("q4_k"), q6_q4, all("q4_k")},
                          {gguf_mix::q5_k_s, all("q5_k"), all("q5_k"), all("q5_k"), all("q5_k")},
                          {gguf_mix::q5_k_m, q6_q5, all("q5_k"), q6_q5, all("q5_k")},
                          {gguf_mix::q6_k, all("q6_k"), all("q6_k"), all("q6_k"), all("q6_k")}}) {
        CAPTURE(to_string(expected.mix));
        CHECK(types(expected.mix, c, linear::v_proj) == expected.values);
        CHECK(types(expected.mix, c, linear::o_proj) == expected.output);
        CHECK(types(expected.mix, c, linear::down_proj) == expected.down);
        for (const linear kind : {linear::q_proj, linear::k_proj, linear::gate_proj, linear::up_proj})
            CHECK(types(expected.mix, c, kind) == expected.rest);
    }
}

TEST_CASE("GGUF mixes: the heads of a model decide about its values", "[examples][gguf]") {
    examples::llama_config c = wide(80);
    CHECK(type_in_mix(gguf_mix::q3_k_s, c, 0, linear::v_proj).type == ggml_type::q5_k);  // 80 blocks, queries share keys
    CHECK(type_in_mix(gguf_mix::q4_k_m, c, 10, linear::v_proj).type == ggml_type::q5_k);
    CHECK(type_in_mix(gguf_mix::q3_k_s, c, 0, linear::down_proj).type == ggml_type::q3_k);
    CHECK(type_in_mix(gguf_mix::q3_k_m, c, 4, linear::down_proj).type == ggml_type::q5_k);
    CHECK(type_in_mix(gguf_mix::q3_k_m, c, 5, linear::down_proj).type == ggml_type::q4_k);
    c.num_key_value_heads = 8;
    CHECK(type_in_mix(gguf_mix::q3_k_s, c, 0, linear::v_proj).type == ggml_type::q3_k);
    c = wide(8);
    c.num_key_value_heads = 2;
    CHECK(type_in_mix(gguf_mix::q2_k, c, 0, linear::v_proj).type == ggml_type::q4_k);
}

TEST_CASE("GGUF mixes: rows that are no multiple of 256 get the type that llama.cpp takes", "[examples][gguf]") {
    using type = ggml_type;
    CHECK(examples::type_for_rows(type::q2_k, 384) == examples::chosen_type{type::q4_0, type::q2_k});
    CHECK(examples::type_for_rows(type::q3_k, 384) == examples::chosen_type{type::q4_0, type::q3_k});
    CHECK(examples::type_for_rows(type::q4_k, 384) == examples::chosen_type{type::q5_0, type::q4_k});
    CHECK(examples::type_for_rows(type::q5_k, 384) == examples::chosen_type{type::q5_1, type::q5_k});
    CHECK(examples::type_for_rows(type::q6_k, 384) == examples::chosen_type{type::q8_0, type::q6_k});
    CHECK(examples::type_for_rows(type::q4_k, 512) == examples::chosen_type{type::q4_k, type::q4_k});
    CHECK(examples::type_for_rows(type::q4_k, 512).remark(512).empty());
    CHECK(examples::type_for_rows(type::q4_k, 384).remark(384) ==
          "stored as q5_0, since rows of 384 do not fill the blocks of 256 of q4_k");

    examples::llama_config c = wide(8);
    c.intermediate_size = 384;
    CHECK(type_in_mix(gguf_mix::q4_k_m, c, 0, linear::down_proj) == examples::chosen_type{type::q8_0, type::q6_k});
    CHECK(refusal([&] { require_rows_of_blocks(gguf_mix::q4_k_m, c); }).empty());
    c.intermediate_size = 400;
    CHECK(refusal([&] { require_rows_of_blocks(gguf_mix::q4_k_m, c); }) ==
          "layers.0.mlp.down_proj: rows of 400 weights do not fill the blocks of 32 of q8_0, which q4_k_m needs");
}

TEST_CASE("GGUF mixes: embedding and head have the types of llama-quantize", "[examples][gguf]") {
    examples::llama_config c = wide(8);
    CHECK(embedding_type_in_mix(gguf_mix::q4_0, c) == ggml_type::q6_k);  // of a tied model it is the head
    c.tie_word_embeddings = false;
    CHECK(embedding_type_in_mix(gguf_mix::q4_0, c) == ggml_type::q4_0);
    CHECK(embedding_type_in_mix(gguf_mix::q4_k_m, c) == ggml_type::q4_k);
    CHECK(head_type_in_mix(gguf_mix::q4_0, c) == ggml_type::q6_k);
    CHECK(head_type_in_mix(gguf_mix::q8_0, c) == ggml_type::q8_0);
    c.hidden_size = 384;
    CHECK(head_type_in_mix(gguf_mix::q4_0, c) == ggml_type::q8_0);
    CHECK(head_type_in_mix(gguf_mix::q4_k_m, c) == ggml_type::q8_0);
    CHECK(embedding_type_in_mix(gguf_mix::q4_k_m, c) == ggml_type::q5_0);
}
