// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_model.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <magr/gguf/gguf.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/quantize/rtn.hpp>
#include <string>
#include <vector>

#include "quantize_llama/gguf_file.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_gguf.hpp"

using namespace examples;
using magr::ggml_type;

namespace {

/// Rows of whole blocks: of 32, or also of 256.
llama_config config(std::int64_t width = 64) {
    llama_config c = tiny::config();
    c.hidden_size = width;
    c.intermediate_size = 2 * width;
    c.head_dim = width / c.num_attention_heads;
    return c;
}

matrix_f values_of(const magr::matrix<float>& m) { return Eigen::Map<const matrix_f>(m.data(), m.rows(), m.cols()); }

/// A model with every layer rounded to the grids that a mix gives it, and with other norms than before.
struct rounded_model {
    rounded_model(const llama_model& m, gguf_mix mix) : blocks(m.blocks) {
        for (std::size_t b = 0; b < blocks.size(); ++b) {
            blocks[b].input_norm *= 1.25f;
            blocks[b].post_attention_norm *= 0.75f;
            for (const linear kind : all_linears) {
                const ggml_type type = type_in_mix(mix, m.config, static_cast<std::int64_t>(b), kind).type;
                const matrix_f& W = m.blocks[b][kind];
                layers.push_back(is_k_quant(type) ? magr::quantize_rtn(W, magr::fit_k_quant_grids(W, type))
                                                  : magr::quantize_rtn(W, grid_options_of(type)));
                blocks[b][kind] = values_of(layers.back().dequantize());
            }
        }
    }

    [[nodiscard]] finished_model of(const model_folder& original) const {
        return {original, [this](std::int64_t b) { return blocks[static_cast<std::size_t>(b)]; },
                [this](std::int64_t b, linear kind) {
                    return layers[static_cast<std::size_t>(b) * all_linears.size() + static_cast<std::size_t>(kind)];
                }};
    }

    std::vector<llama_block> blocks;
    std::vector<magr::quantized_matrix<float>> layers;
};

/// The values of a quantized tensor of a file.
matrix_f unpacked(const gguf_file& file, const std::string& name) {
    const gguf_tensor_info& info = file.tensor(name);
    magr::gguf_tensor packed{
        static_cast<ggml_type>(info.type), static_cast<magr::index_t>(info.sizes[1]), static_cast<magr::index_t>(info.sizes[0]), {}};
    for (const std::byte b : file.bytes(name)) packed.data.push_back(static_cast<std::uint8_t>(b));
    return values_of(unpack_gguf(packed).dequantize());
}

std::vector<float> read(const gguf_file& file, const std::string& name) {
    std::vector<float> values(file.tensor(name).elements());
    file.read(name, values);
    return values;
}

std::string base_of(const llama_model& m, const std::string& architecture = "llama") {
    return tiny::gguf(tiny::gguf_metadata(m.config, architecture), tiny::gguf_tensors(m, architecture == "llama"));
}

constexpr std::array gguf_names{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

}  // namespace

TEST_CASE("GGUF models: rows of queries and keys are paired as llama.cpp's converter pairs them", "[examples][gguf]") {
    matrix_f m(12, 1);
    for (int i = 0; i < 12; ++i) m(i, 0) = static_cast<float>(i);
    const matrix_f expected = tiny::paired(m, 6);  // two heads: 0 3 1 4 2 5, 6 9 7 10 8 11
    CHECK(expected(1, 0) == 3);
    CHECK(expected(10, 0) == 8);
    for (int i = 0; i < 12; ++i) CHECK(row_before_pairing(i, 6) == static_cast<std::int64_t>(expected(i, 0)));
}

TEST_CASE("GGUF models: a file holds the codes of the linear layers, the norms, and the rest of the base file", "[examples][gguf]") {
    for (const gguf_mix mix : {gguf_mix::q4_0, gguf_mix::q4_1, gguf_mix::q5_0, gguf_mix::q5_1, gguf_mix::q8_0, gguf_mix::q4_k_m})
        for (const bool is_tied : {true, false}) {
            CAPTURE(to_string(mix), is_tied);
            const scratch_folder folder;
            llama_config c = config();
            c.tie_word_embeddings = is_tied;
            const llama_model m = tiny::model(c);
            const tiny::model_in_folder original(m);
            const rounded_model rounded(m, mix);
            const auto base = folder.write("base.gguf", base_of(m));
            const auto out = folder.path() / "out.gguf";
            write_gguf_model(rounded.of(original.get()), base, {mix, {}, {}}, out);

            const gguf_file before(base), after(out);
            std::vector<gguf_entry> metadata = before.metadata();
            set_entry(metadata, gguf_number("general.file_type", traits_of(mix).file_type));
            set_entry(metadata, gguf_number("general.quantization_version", 2));
            CHECK(after.metadata() == metadata);
            REQUIRE(after.tensors().size() == before.tensors().size());
            for (std::size_t t = 0; t < after.tensors().size(); ++t) CHECK(after.tensors()[t].name == before.tensors()[t].name);
            for (const char* const name : {"token_embd.weight", "output_norm.weight"}) CHECK(read(after, name) == read(before, name));
            for (std::size_t b = 0; b < m.blocks.size(); ++b) {
                const std::string prefix = "blk." + std::to_string(b) + ".";
                const row_f& norm = rounded.blocks[b].post_attention_norm;
                CHECK(read(after, prefix + "ffn_norm.weight") == std::vector<float>(norm.data(), norm.data() + norm.size()));
                for (const linear kind : all_linears) {
                    const bool rotates = kind == linear::q_proj || kind == linear::k_proj;
                    const matrix_f& W = rounded.blocks[b][kind];
                    const matrix_f expected = rotates ? tiny::paired(W, c.head_dim) : W;
                    CHECK(unpacked(after, prefix + gguf_names[static_cast<std::size_t>(kind)] + ".weight") == expected);
                }
            }
        }
}

TEST_CASE("GGUF models: k-quants are written with the factors of their scales", "[examples][gguf]") {
    const llama_model m = tiny::model(config(256));
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const auto base = folder.write("base.gguf", base_of(m));
    for (const gguf_mix mix : {gguf_mix::q2_k, gguf_mix::q3_k_m, gguf_mix::q5_k_s, gguf_mix::q6_k}) {
        CAPTURE(to_string(mix));
        const rounded_model rounded(m, mix);
        write_gguf_model(rounded.of(original.get()), base, {mix, {}, {}}, folder.path() / "out.gguf");
        const gguf_file after(folder.path() / "out.gguf");
        for (const linear kind : {linear::v_proj, linear::down_proj, linear::up_proj})
            CHECK(unpacked(after, std::string("blk.1.") + gguf_names[static_cast<std::size_t>(kind)] + ".weight") ==
                  rounded.blocks[1][kind]);
    }
    rounded_model other(m, gguf_mix::q4_1);  // whose scales are no products
    for (auto& layer : other.layers) layer.group_size = 32;
    CHECK_THROWS_AS(write_gguf_model(other.of(original.get()), base, {gguf_mix::q4_k_s, {}, {}}, folder.path() / "no.gguf"),
                    std::exception);
    CHECK_FALSE(std::filesystem::exists(folder.path() / "no.gguf"));
}

TEST_CASE("GGUF models: embedding and head are rounded where that is asked for", "[examples][gguf]") {
    llama_config c = config(256);
    c.vocab_size = 1100;  // more than is rounded at once
    c.tie_word_embeddings = false;
    const llama_model m = tiny::model(c);
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const rounded_model rounded(m, gguf_mix::q4_0);
    write_gguf_model(rounded.of(original.get()), folder.write("base.gguf", base_of(m)), {gguf_mix::q4_0, ggml_type::q8_0, ggml_type::q6_k},
                     folder.path() / "out.gguf");
    const gguf_file after(folder.path() / "out.gguf");
    const matrix_f embedding = unpacked(after, "token_embd.weight"), head = unpacked(after, "output.weight");
    CHECK((embedding - m.embedding).norm() < 0.01f * m.embedding.norm());
    CHECK((head - m.own_head).norm() < 0.03f * m.own_head.norm());
    CHECK(after.tensor("output.weight").type == static_cast<std::uint32_t>(ggml_type::q6_k));
}

TEST_CASE("GGUF models: an embedding that llama.cpp rounded before does not change", "[examples][gguf]") {
    llama_config c = config();
    c.tie_word_embeddings = false;
    llama_model m = tiny::model(c);
    const auto round_blocks = [](matrix_f& W) {  // to Q8_0: codes of at most 127 times an f16 number
        for (Eigen::Index i = 0; i < W.rows(); ++i)
            for (Eigen::Index j = 0; j < W.cols(); j += 32) {
                auto block = W.row(i).segment(j, 32);
                const float scale = static_cast<float>(static_cast<Eigen::half>(block.cwiseAbs().maxCoeff() / 127));
                block = (block / scale).array().round().cwiseMax(-127).cwiseMin(127).matrix() * scale;
            }
    };
    round_blocks(m.embedding);
    round_blocks(m.own_head);
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const rounded_model rounded(m, gguf_mix::q4_0);
    write_gguf_model(rounded.of(original.get()), folder.write("base.gguf", base_of(m)), {gguf_mix::q4_0, ggml_type::q8_0, ggml_type::q8_0},
                     folder.path() / "out.gguf");
    const gguf_file after(folder.path() / "out.gguf");
    CHECK(unpacked(after, "token_embd.weight") == m.embedding);
    CHECK(unpacked(after, "output.weight") == m.own_head);
}

TEST_CASE("GGUF models: Qwen's biases stay, and its rows keep their order", "[examples][gguf]") {
    llama_config c = config();
    c.qkv_bias = true;
    const llama_model m = tiny::model(c);
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const rounded_model rounded(m, gguf_mix::q5_1);
    const auto base = folder.write("base.gguf", base_of(m, "qwen2"));
    write_gguf_model(rounded.of(original.get()), base, {gguf_mix::q5_1, {}, {}}, folder.path() / "out.gguf");
    const gguf_file after(folder.path() / "out.gguf");
    CHECK(unpacked(after, "blk.0.attn_q.weight") == rounded.blocks[0][linear::q_proj]);
    CHECK(read(after, "blk.0.attn_k.bias") == read(gguf_file(base), "blk.0.attn_k.bias"));
}

TEST_CASE("GGUF models: a base file of another model is refused", "[examples][gguf]") {
    const llama_model m = tiny::model(config());
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const auto refused = [&](const std::string& contents) {
        const auto base = folder.write("base.gguf", contents);
        return refusal([&] { require_gguf_base(original.get(), base, {}); });
    };
    const auto metadata = tiny::gguf_metadata(m.config, "llama");
    const auto tensors = tiny::gguf_tensors(m);
    CHECK(refused(tiny::gguf(metadata, tensors)).empty());
    CHECK_THAT(refused(tiny::gguf({}, tensors)), mentions("general.architecture must be llama or qwen2, it is missing"));
    CHECK_THAT(refused(tiny::gguf(tiny::gguf_metadata(m.config, "gpt2"), tensors)), mentions("it is gpt2"));
    {
        llama_config other = m.config;
        other.num_hidden_layers = 3;
        CHECK_THAT(refused(tiny::gguf(tiny::gguf_metadata(other, "llama"), tensors)),
                   mentions("llama.block_count must be 2 as in config.json, it is 3"));
    }
    {
        auto split = metadata;
        split.push_back(tiny::gguf_entry_bytes("split.count", 2, tiny::bytes_of(std::uint16_t{2})));
        CHECK_THAT(refused(tiny::gguf(split, tensors)), mentions("is one of several files"));
    }
    {
        auto fewer = tensors;
        fewer.pop_back();
        CHECK_THAT(refused(tiny::gguf(metadata, fewer)), mentions("tensor output_norm.weight is missing"));
    }
    {
        auto more = tensors;
        more.push_back({"blk.2.ffn_up.weight", {1}, 0, "abcd"});
        CHECK_THAT(refused(tiny::gguf(metadata, more)), mentions("tensor blk.2.ffn_up.weight has no place"));
    }
    {
        auto turned = tensors;
        std::swap(turned[0].sizes[0], turned[0].sizes[1]);
        CHECK_THAT(refused(tiny::gguf(metadata, turned)), mentions("tensor token_embd.weight has not the shape"));
    }
    {
        auto quantized = tensors;
        quantized[0].type = 2;
        quantized[0].data.resize(40 * 64 / 32 * 18);
        CHECK_THAT(refused(tiny::gguf(metadata, quantized)), mentions("the type must be F32, F16 or BF16, it is Q4_0"));
    }
    // rows in the order of the Hugging Face file
    CHECK_THAT(refused(tiny::gguf(metadata, tiny::gguf_tensors(m, false))),
               mentions("tensor blk.0.attn_q.weight is not that of the model: row 1"));
    for (std::size_t t = 0; t < tensors.size(); ++t) {
        auto changed = tensors;
        float last = 0;
        std::string& data = changed[t].data;
        std::memcpy(&last, data.data() + data.size() - 4, 4);
        last *= 1.01f;
        data.replace(data.size() - 4, 4, tiny::bytes_of(last));
        CHECK_THAT(refused(tiny::gguf(metadata, changed)), mentions("tensor " + tensors[t].name + " is not that of the model"));
    }
}

TEST_CASE("GGUF models: a base file in 16 bits is the model", "[examples][gguf]") {
    const llama_model m = tiny::model(config());
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    for (const std::uint32_t type : {gguf_f16, gguf_bf16}) {
        auto tensors = tiny::gguf_tensors(m);
        for (auto& tensor : tensors) {
            std::string rounded;
            for (std::size_t i = 0; i < tensor.data.size(); i += 4) {
                float value = 0;
                std::memcpy(&value, tensor.data.data() + i, 4);
                rounded += type == gguf_f16 ? tiny::bytes_of(static_cast<Eigen::half>(value))
                                            : tiny::bytes_of(static_cast<Eigen::bfloat16>(value));
            }
            tensor.type = type;
            tensor.data = rounded;
        }
        const auto base = folder.write("base.gguf", tiny::gguf(tiny::gguf_metadata(m.config, "llama"), tensors));
        CHECK(refusal([&] { require_gguf_base(original.get(), base, {}); }).empty());
    }
}

TEST_CASE("GGUF models: rows that fill no blocks are refused", "[examples][gguf]") {
    llama_config c = config();
    const llama_model m = tiny::model(c);
    const tiny::model_in_folder original(m);
    const scratch_folder folder;
    const auto base = folder.write("base.gguf", base_of(m));
    CHECK(refusal([&] {
              require_gguf_base(original.get(), base, {gguf_mix::q4_0, ggml_type::q6_k, {}});
          }) == "the embedding: rows of 64 weights do not fill the blocks of 256 of q6_k");
    const llama_model small = tiny::model();  // 24 inputs
    const tiny::model_in_folder narrow(small);
    CHECK_THAT(refusal([&] { require_gguf_base(narrow.get(), base, {}); }),
               mentions("rows of 24 weights do not fill the blocks of 32 of q4_0"));
}
