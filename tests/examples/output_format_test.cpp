// SPDX-License-Identifier: MIT
#include "quantize_llama/output_format.hpp"

#include <algorithm>
#include <cstring>
#include <magr/gguf/gguf.hpp>
#include <magr/pack/awq.hpp>
#include <magr/pack/compressed_tensors.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/pack/mlx.hpp>
#include <sstream>
#include <stdexcept>

#include "common/json.hpp"
#include "common/output_file.hpp"
#include "folder_contents.hpp"
#include "quantize_llama/codes_file.hpp"
#include "quantize_llama/gguf_file.hpp"
#include "quantize_llama/output_folder.hpp"
#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_gguf.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

const output_format& format_of(const std::string& name) {
    const auto found =
        std::find_if(output_formats().begin(), output_formats().end(), [&](const output_format& format) { return name == format.name; });
    REQUIRE(found != output_formats().end());
    return *found;
}

/// Three blocks with biases, whose layers have numbers of rows and inputs that all formats can hold.
llama_config even_config() {
    llama_config c = tiny::config();
    c.num_hidden_layers = 3;
    c.hidden_size = 64;
    c.intermediate_size = 96;
    c.head_dim = 16;
    c.qkv_bias = true;
    c.tie_word_embeddings = false;
    return c;
}

struct format_settings {
    quantization how;
    output_settings output;
};

/// Groups of 32 and what suits the format.
format_settings settings_for(const std::string& name, int bits = 4) {
    format_settings settings;
    settings.output.format = &format_of(name);
    const magr::grid_options grid = magr::grid_options_for(settings.output.format->packed.value());
    settings.how.bits = bits;
    settings.how.group_size = 32;
    settings.how.zero_point = grid.zero_point;
    settings.how.storage = grid.storage;
    settings.output.weights = grid.storage;
    return settings;
}

struct stopped_early {};

/// Quantizes into a folder and returns the blocks as the caller sees them. Throws an error after `most` of them.
std::vector<llama_block> run(const model_folder& from, const std::filesystem::path& to, const format_settings& settings,
                             std::size_t most = 99) {
    std::ostringstream ignored;
    progress quiet(ignored, false);
    magr::thread_pool pool(2);
    const auto texts = tiny::texts(from.config(), std::vector<std::size_t>(8, 40), 17);
    require_format(from.config(), settings.how, settings.output);
    output_folder out(to);
    out.begin(from, texts, settings.how, settings.output);
    std::vector<llama_block> blocks;
    const auto finished = [&](const llama_block& block) {
        blocks.push_back(block);
        if (blocks.size() == most) throw stopped_early();
    };
    static_cast<void>(quantize_model(from, texts, settings.how, pool, quiet, finished, &out));
    return blocks;
}

template <class T>
magr::matrix<T> matrix_of(const model_tensors& tensors, const std::string& name, const char* dtype) {
    const safetensors_file& file = tensors.file_of(name);
    const tensor_info& info = file.tensors().at(name);
    REQUIRE(info.dtype == dtype);
    REQUIRE(info.shape.size() == 2);
    magr::matrix<T> m(static_cast<magr::index_t>(info.shape[0]), static_cast<magr::index_t>(info.shape[1]));
    const auto bytes = file.bytes(name);
    std::memcpy(m.data(), bytes.data(), bytes.size());
    return m;
}

template <class T>
std::vector<T> vector_of(const model_tensors& tensors, const std::string& name, const char* dtype) {
    const safetensors_file& file = tensors.file_of(name);
    REQUIRE(file.tensors().at(name).dtype == dtype);
    const auto bytes = file.bytes(name);
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

magr::stored_matrix stored_of(const model_tensors& tensors, const std::string& name, magr::storage_type type, const char* dtype) {
    const safetensors_file& file = tensors.file_of(name);
    const tensor_info& info = file.tensors().at(name);
    REQUIRE(info.dtype == dtype);
    REQUIRE(info.shape.size() == 2);
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(file.bytes(name).data());
    return {type,
            static_cast<magr::index_t>(info.shape[0]),
            static_cast<magr::index_t>(info.shape[1]),
            {bytes, bytes + file.bytes(name).size()}};
}

/// A layer out of the tensors that a loader reads, by the inverse of the library's packers.
magr::quantized_matrix<float> unpacked(const model_tensors& tensors, const std::string& name, const format_settings& settings) {
    const std::string format = settings.output.format->name;
    const int bits = settings.how.bits;
    const magr::index_t group = settings.how.group_size.value();
    if (format.starts_with("gptq"))
        return magr::unpack_gptq(
            {format == "gptq" ? magr::gptq_version::v1 : magr::gptq_version::v2, bits, group,
             matrix_of<std::int32_t>(tensors, name + ".qweight", "I32"), matrix_of<std::int32_t>(tensors, name + ".qzeros", "I32"),
             matrix_of<std::uint16_t>(tensors, name + ".scales", "F16"), vector_of<std::int32_t>(tensors, name + ".g_idx", "I32")});
    if (format == "awq")
        return magr::unpack_awq({group, matrix_of<std::int32_t>(tensors, name + ".qweight", "I32"),
                                 matrix_of<std::int32_t>(tensors, name + ".qzeros", "I32"),
                                 matrix_of<std::uint16_t>(tensors, name + ".scales", "F16")});
    const char* const dtype = settings.how.storage == magr::storage_type::f16 ? "F16" : "BF16";
    if (format == "mlx")
        return magr::unpack_mlx({bits, group, matrix_of<std::uint32_t>(tensors, name + ".weight", "U32"),
                                 stored_of(tensors, name + ".scales", settings.how.storage, dtype),
                                 stored_of(tensors, name + ".biases", settings.how.storage, dtype)});
    magr::compressed_tensors_weight packed;
    packed.bits = bits;
    packed.group_size = group;
    packed.weight_packed = matrix_of<std::int32_t>(tensors, name + ".weight_packed", "I32");
    packed.weight_scale = stored_of(tensors, name + ".weight_scale", settings.how.storage, dtype);
    if (settings.how.zero_point == magr::zero_point::integer)
        packed.weight_zero_point = matrix_of<std::int32_t>(tensors, name + ".weight_zero_point", "I32");
    const std::vector<std::int64_t> shape = vector_of<std::int64_t>(tensors, name + ".weight_shape", "I64");
    REQUIRE(shape.size() == 2);
    packed.weight_shape = {shape[0], shape[1]};
    return magr::unpack_compressed_tensors(packed);
}

matrix_f values_of(const magr::quantized_matrix<float>& q) {
    const magr::matrix<float> values = q.dequantize();
    return Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
}

std::vector<format_settings> packed_runs() {
    std::vector<format_settings> all;
    for (const char* name : {"gptq", "gptq_v2", "compressed-tensors", "awq", "mlx"}) all.push_back(settings_for(name));
    all.push_back(settings_for("gptq_v2", 3));
    all.back().how.order = magr::column_order::act_order;
    all.push_back(settings_for("compressed-tensors", 5));
    all.back().how.zero_point = magr::zero_point::none;
    all.back().how.storage = all.back().output.weights = magr::storage_type::bf16;
    all.push_back(settings_for("mlx", 6));
    return all;
}

}  // namespace

TEST_CASE("output_format: packed tensors are the quantized matrices bit for bit", "[examples][output_format]") {
    const tiny::model_in_folder stored(tiny::model(even_config()));
    const model_folder& from = stored.get();
    for (const format_settings& settings : packed_runs()) {
        INFO(settings.output.format->name << " " << settings.how.bits);
        const scratch_folder to;
        const std::vector<llama_block> blocks = run(from, to.path(), settings);
        const model_tensors tensors(to.path());
        REQUIRE(blocks.size() == 3);
        for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
            const safetensors_file codes(to.path() / ("codes/block-0000" + std::to_string(layer) + ".safetensors"));
            for (const linear kind : all_linears) {
                const std::string name = block_prefix(static_cast<std::int64_t>(layer)) + name_of(kind);
                const magr::quantized_matrix<float> expected = read_codes(codes, static_cast<std::int64_t>(layer), kind);
                const magr::quantized_matrix<float> q = unpacked(tensors, name, settings);
                CHECK(q.codes == expected.codes);
                CHECK(q.scales == expected.scales);
                CHECK(q.group_of_column == expected.group_of_column);
                CHECK(values_of(q) == blocks[layer][kind]);
                CHECK(tensors.contains(name + ".bias") == has_bias(from.config(), kind));
                if (std::string(settings.output.format->name) != "mlx") CHECK_FALSE(tensors.contains(name + ".weight"));
            }
        }
    }
}

TEST_CASE("output_format: codes and grids are read as they were written", "[examples][output_format]") {
    const scratch_folder scratch;
    std::array<quantized_layer, all_linears.size()> layers;
    for (const linear kind : all_linears) {
        magr::quantized_matrix<float>& q = layers[static_cast<std::size_t>(kind)].quantized.emplace();
        q.bits = 2 + static_cast<int>(kind);  // mixed, as in files of GGUF
        q.zero_point = kind == linear::q_proj ? magr::zero_point::offset : magr::zero_point::integer;
        q.storage = magr::storage_type::bf16;
        q.group_size = 2;
        q.codes = magr::matrix<std::uint8_t>(2, 4);
        q.codes(1, 2) = 3;
        q.scales = magr::matrix<float>(2, 2);
        std::fill_n(q.scales.data(), 4, 0.5f);
        q.scales(0, 1) = 0.25f;
        q.zeros = magr::matrix<float>(2, 2);
        q.group_of_column = {0, 1, 1, 0};
        if (kind != linear::o_proj) continue;
        q.shared.groups = 2;
        q.shared.scales = magr::matrix<float>(2, 1);
        q.shared.scales(1, 0) = 0.5f;
        q.shared.scale_codes = magr::matrix<std::int8_t>(2, 2);
        q.shared.scale_codes(0, 1) = -7;
    }
    const auto path = scratch.path() / "codes.safetensors";
    write_codes(path, 5, layers);
    const safetensors_file file(path);
    for (const linear kind : all_linears) {
        const magr::quantized_matrix<float>& q = *layers[static_cast<std::size_t>(kind)].quantized;
        const magr::quantized_matrix<float> read = read_codes(file, 5, kind);
        CHECK(read.bits == q.bits);
        CHECK(read.zero_point == q.zero_point);
        CHECK(read.storage == q.storage);
        CHECK(read.group_size == 2);
        CHECK(read.codes == q.codes);
        CHECK(read.scales == q.scales);
        CHECK(read.zeros == q.zeros);
        CHECK(read.group_of_column == q.group_of_column);
        CHECK(read.shared.groups == q.shared.groups);
        CHECK(read.shared.scales == q.shared.scales);
        CHECK(read.shared.scale_codes == q.shared.scale_codes);
        CHECK(read.shared.offsets == q.shared.offsets);
        CHECK(read.shared.offset_codes == q.shared.offset_codes);
    }
    CHECK_THAT(refusal([&] { return read_codes(file, 4, linear::q_proj); }), mentions("model.layers.4.self_attn.q_proj.qweight: missing"));

    // What nobody has written, with one fault at a time.
    const auto refused = [&](linear kind, const auto& damage) {
        auto damaged = layers;
        damage(*damaged[static_cast<std::size_t>(kind)].quantized);
        const auto place = scratch.path() / "damaged.safetensors";
        write_codes(place, 5, damaged);
        return refusal([&] { return read_codes(safetensors_file(place), 5, kind); });
    };
    using quantized = magr::quantized_matrix<float>;
    CHECK(refused(linear::k_proj, [](quantized&) {}).empty());
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.bits = 9; }), mentions("bits: 9 is no number from 0 to 8"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.bits = 1; }), mentions("bits"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.group_size = -1; }), mentions("group_size: -1"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.codes(0, 0) = 8; }), mentions("(row 0, column 0) is 8"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.codes = magr::matrix<std::uint8_t>(3, 4); }), mentions("k_proj"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.scales = magr::matrix<float>(2, 1); }), mentions("k_proj"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.zeros = magr::matrix<float>(2, 3); }), mentions("k_proj"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.scales(1, 1) = 0; }), mentions("k_proj"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.group_of_column[3] = 2; }), mentions("k_proj"));
    CHECK_THAT(refused(linear::k_proj, [](quantized& q) { q.group_of_column.pop_back(); }), mentions("k_proj"));
    CHECK_THAT(refused(linear::o_proj, [](quantized& q) { q.shared.scale_codes = magr::matrix<std::int8_t>(2, 1); }), mentions("factors"));
    CHECK_THAT(refused(linear::o_proj, [](quantized& q) { q.shared.groups = 3; }), mentions("factors"));
}

TEST_CASE("output_format: what is not packed has the type of the output", "[examples][output_format]") {
    const llama_model model = tiny::model(even_config());
    const tiny::model_in_folder stored(model);
    const scratch_folder to;
    format_settings settings = settings_for("gptq");
    settings.how.method = method::automatic;
    settings.how.effort = 2;
    const std::vector<llama_block> blocks = run(stored.get(), to.path(), settings);
    const model_tensors tensors(to.path());
    const auto read = [&](const std::string& name) {
        CHECK(tensors.file_of(name).tensors().at(name).dtype == "F16");
        return tensors.file_of(name).read(name);
    };
    const std::vector<float> embedding = read("model.embed_tokens.weight");
    for (std::size_t i = 0; i < embedding.size(); ++i) {
        const float exact = model.embedding.data()[i];
        CHECK(std::abs(embedding[i] - exact) <= std::abs(exact) * 0x1p-11f);
    }
    CHECK(read("lm_head.weight").size() == embedding.size());
    CHECK(read("model.norm.weight").size() == 64);
    // tuned norms, and biases, are what the report is about
    for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
        const std::string prefix = block_prefix(static_cast<std::int64_t>(layer));
        const llama_block& block = blocks[layer];
        const std::vector<float> norm = read(prefix + "input_layernorm.weight"), bias = read(prefix + "self_attn.k_proj.bias");
        CHECK(std::equal(norm.begin(), norm.end(), block.input_norm.begin(), block.input_norm.end()));
        CHECK(std::equal(bias.begin(), bias.end(), block.bias(linear::k_proj).begin(), block.bias(linear::k_proj).end()));
        CHECK(block.input_norm != model.blocks[layer].input_norm);
        for (const linear kind : all_linears) CHECK(values_of(unpacked(tensors, prefix + name_of(kind), settings)) == block[kind]);
    }
    CHECK(folder_contents(to.path()).size() == 2 + 1 + 4 + 2 * 3 + 1);  // as without a format, and quantize_config.json
    const std::vector<llama_block> again = run(stored.get(), to.path(), settings);
    for (std::size_t layer = 0; layer < blocks.size(); ++layer) CHECK(again[layer].weights == blocks[layer].weights);
}

TEST_CASE("output_format: config.json says how the layers are packed", "[examples][output_format]") {
    const tiny::model_in_folder stored(tiny::model(even_config()));
    const auto config_of = [&](const format_settings& settings, const scratch_folder& to) {
        output_folder(to.path()).begin(stored.get(), tiny::texts(stored.get().config(), {9}), settings.how, settings.output);
        return json::parse(to.read("config.json"));
    };
    SECTION("gptq") {
        for (const char* name : {"gptq", "gptq_v2"}) {
            const scratch_folder to;
            const json config = config_of(settings_for(name, 3), to), q = config.at("quantization_config");
            CHECK(config.at("torch_dtype") == "float16");
            CHECK(config.at("hidden_size") == 64);
            CHECK(q.at("quant_method") == "gptq");
            CHECK(q.at("checkpoint_format") == name);
            CHECK(q.at("bits") == 3);
            CHECK(q.at("group_size") == 32);
            CHECK(q.at("sym") == (std::string(name) == "gptq"));
            CHECK(q.at("desc_act") == false);
            CHECK(json::parse(to.read("quantize_config.json")) == q);
        }
        const scratch_folder to;
        format_settings settings = settings_for("gptq_v2");
        settings.how.order = magr::column_order::act_order;
        CHECK(config_of(settings, to).at("quantization_config").at("desc_act") == true);
        const scratch_folder rows;
        settings.how.group_size.reset();
        const json q = config_of(settings, rows).at("quantization_config");
        CHECK(q.at("group_size") == -1);
        CHECK(q.at("desc_act") == false);
    }
    SECTION("compressed-tensors") {
        const scratch_folder to, rows;
        format_settings settings = settings_for("compressed-tensors");
        const json q = config_of(settings, to).at("quantization_config");
        CHECK(q.at("quant_method") == "compressed-tensors");
        CHECK(q.at("format") == "pack-quantized");
        CHECK(q.at("ignore") == json{"lm_head"});
        const json group = q.at("config_groups").at("group_0");
        CHECK(group.at("targets") == json{"Linear"});
        CHECK(group.at("weights").at("num_bits") == 4);
        CHECK(group.at("weights").at("symmetric") == false);
        CHECK(group.at("weights").at("strategy") == "group");
        CHECK(group.at("weights").at("group_size") == 32);
        settings.how.group_size.reset();
        settings.how.zero_point = magr::zero_point::none;
        const json whole = config_of(settings, rows).at("quantization_config").at("config_groups").at("group_0").at("weights");
        CHECK(whole.at("symmetric") == true);
        CHECK(whole.at("strategy") == "channel");
        CHECK(whole.at("group_size").is_null());
    }
    SECTION("awq") {
        const scratch_folder to;
        const json q = config_of(settings_for("awq"), to).at("quantization_config");
        CHECK(q.at("quant_method") == "awq");
        CHECK(q.at("version") == "gemm");
        CHECK(q.at("bits") == 4);
        CHECK(q.at("group_size") == 32);
        CHECK(q.at("zero_point") == true);
    }
    SECTION("mlx") {
        const scratch_folder to;
        const json config = config_of(settings_for("mlx", 3), to);
        CHECK(config.at("quantization") == json{{"group_size", 32}, {"bits", 3}, {"mode", "affine"}});
    }
}

TEST_CASE("output_format: a run that was interrupted in any format ends with the same files", "[examples][output_format]") {
    const tiny::model_in_folder stored(tiny::model(even_config()));
    std::vector<format_settings> all = packed_runs();
    for (const auto type : {magr::storage_type::f16, magr::storage_type::bf16})  // dequantized weights, rounded
        for (const auto m : {method::magr_optq, method::gptaq}) {
            format_settings rounded;
            rounded.how.method = m;
            rounded.output.weights = type;
            all.push_back(rounded);
        }
    all.push_back(settings_for("awq"));
    all.back().how.method = method::automatic;
    for (const format_settings& settings : all) {
        INFO(settings.output.format->name << " " << to_string(settings.output.weights) << " " << name_of(settings.how.method));
        const scratch_folder whole, interrupted;
        run(stored.get(), whole.path(), settings);
        const auto expected = folder_contents(whole.path());
        CHECK(expected.contains("model.safetensors.index.json"));
        CHECK_THROWS_AS(run(stored.get(), interrupted.path(), settings, 1), stopped_early);
        CHECK_FALSE(folder_contents(interrupted.path()).contains("model.safetensors.index.json"));
        run(stored.get(), interrupted.path(), settings);
        CHECK(folder_contents(interrupted.path()) == expected);
        // what is lost is made again
        std::filesystem::remove(interrupted.path() / "model-00003-of-00004.safetensors");
        interrupted.write("config.json", "{}");
        run(stored.get(), interrupted.path(), settings);
        CHECK(folder_contents(interrupted.path()) == expected);
    }
}

TEST_CASE("output_format: the same run in another format is another run", "[examples][output_format]") {
    const tiny::model_in_folder stored(tiny::model(even_config()));
    const scratch_folder to;
    CHECK_THROWS_AS(run(stored.get(), to.path(), settings_for("awq"), 1), stopped_early);
    CHECK_THAT(refusal([&] { return run(stored.get(), to.path(), settings_for("gptq_v2")); }),
               mentions(R"(format is "awq" there and "gptq_v2" here)"));
}

TEST_CASE("output_format: what a format cannot hold is refused with every reason", "[examples][output_format]") {
    const auto refused = [](const format_settings& settings, const llama_config& config = even_config()) {
        return refusal([&] { return require_format(config, settings.how, settings.output), 0; });
    };
    for (const format_settings& settings : packed_runs()) CHECK(refused(settings).empty());
    CHECK(refused({}, tiny::config()).empty());

    format_settings settings = settings_for("gptq_v2", 5);
    settings.how.storage = magr::storage_type::f32;
    settings.how.zero_point = magr::zero_point::offset;
    const std::string message = refused(settings, tiny::config());
    CHECK_THAT(message, mentions("--format gptq_v2 cannot hold this model: "));
    CHECK_THAT(message, mentions("rows must be a multiple of 32, there are 40 in self_attn.q_proj"));
    CHECK_THAT(message, mentions("columns must be a multiple of 32, there are 28 in mlp.down_proj"));
    CHECK_THAT(message, mentions("bits must be 2, 3, 4 or 8, it is 5; "));
    CHECK_THAT(message, mentions("storage must be f16, it is f32; "));
    CHECK_THAT(message, mentions("zero_point must be none or integer, it is offset"));

    for (const char* name : {"gptq", "mlx"}) {
        settings = settings_for(name);
        settings.how.zero_point = magr::zero_point::integer;
        CHECK_THAT(refused(settings), mentions("some zero points of --zero-point integer cannot be stored"));
    }
    for (const char* name : {"awq", "compressed-tensors", "mlx"}) {
        settings = settings_for(name);
        settings.how.order = magr::column_order::act_order;
        CHECK_THAT(refused(settings), mentions("group_aware does"));
        settings.how.order = magr::column_order::group_aware;
        CHECK(refused(settings).empty());
        settings.how.group_size = 128;
        CHECK_THAT(refused(settings), mentions("mlp.down_proj has 96 inputs, fewer than a group of 128"));
        settings.how.group_size = 64;
        CHECK_THAT(refused(settings), mentions("a divisor of the columns, 96, it is 64 in mlp.down_proj"));
        settings.how.group_size.reset();
        CHECK(refused(settings).empty() == (std::string(name) != "mlx"));
    }
    settings = settings_for("awq");
    settings.how.group_size.reset();
    settings.how.order = magr::column_order::act_order;  // one group per row has its inputs together in any order
    CHECK(refused(settings).empty());
    settings = settings_for("compressed-tensors");
    settings.output.weights = magr::storage_type::bf16;
    CHECK_THAT(refused(settings), mentions("--storage is f16 and --out-dtype is bf16"));
}

TEST_CASE("output_format: numbers that the type of what is not packed cannot hold are told before the work", "[examples][output_format]") {
    llama_model large = tiny::model(even_config());
    large.blocks[1].input_norm[3] = 1e6f;
    const tiny::model_in_folder stored(large);
    const scratch_folder to;
    CHECK_THAT(refusal([&] { return run(stored.get(), to.path(), settings_for("gptq")); }),
               mentions("--out-dtype f16: model.layers.1.input_layernorm.weight has an element of 1e+06"));
    CHECK(folder_contents(to.path()).empty());
}

TEST_CASE("output_format: a format with files of its own gets the quantized model when all blocks are done", "[examples][output_format]") {
    const llama_model model = tiny::model(even_config());
    const tiny::model_in_folder stored(model);
    output_format own = format_of("dequantized");
    own.name = "own";
    own.write = [](const finished_model& quantized, const quantization&, const output_settings& settings,
                   const std::filesystem::path& folder) {
        CHECK(std::string(settings.format->name) == "own");
        std::ostringstream text;
        for (std::int64_t layer = 0; layer < quantized.original.config().num_hidden_layers; ++layer) {
            const llama_block block = quantized.block(layer);
            for (const linear kind : all_linears) {
                CHECK(values_of(quantized.layer(layer, kind)) == block[kind]);
                CHECK(block.bias(kind).size() == (has_bias(quantized.original.config(), kind) ? block[kind].rows() : 0));
                text << block[kind].sum() << "\n";
            }
            text << block.input_norm.sum() << "\n";
        }
        output_file(folder / "model.own").commit(text.str());
    };
    format_settings settings;
    settings.output.format = &own;
    for (const int effort : {1, 2}) {
        settings.how.method = method::automatic;
        settings.how.effort = effort;
        const scratch_folder whole, interrupted;
        const std::vector<llama_block> blocks = run(stored.get(), whole.path(), settings);
        std::ostringstream expected;
        for (const llama_block& block : blocks) {
            for (const linear kind : all_linears) expected << block[kind].sum() << "\n";
            expected << block.input_norm.sum() << "\n";
        }
        CHECK(whole.read("model.own") == expected.str());
        const auto contents = folder_contents(whole.path());
        CHECK(contents.size() == 1 + 3 * 3 + 1);  // quantization.json, codes, rests and records of blocks, and the format's own
        CHECK_FALSE(contents.contains("config.json"));
        CHECK_THROWS_AS(run(stored.get(), interrupted.path(), settings, 2), stopped_early);
        run(stored.get(), interrupted.path(), settings);
        CHECK(folder_contents(interrupted.path()) == contents);
    }
}

TEST_CASE("output_format: GGUF and ONNX files come from a run, and from one that was interrupted", "[examples][output_format][gguf]") {
    const llama_model model = tiny::model(even_config());
    const tiny::model_in_folder stored(model);
    const scratch_folder scratch;
    const auto base = scratch.write("base.gguf", tiny::gguf(tiny::gguf_metadata(model.config, "llama"), tiny::gguf_tensors(model)));

    format_settings gguf;
    gguf.output.format = &format_of("gguf");
    gguf.output.gguf_base = base.string();
    gguf.how.method = method::automatic;
    gguf.how.gguf = gguf_mix::q4_1;
    for (const format_settings& settings : {gguf, settings_for("onnx")}) {
        const scratch_folder whole, interrupted;
        const std::vector<llama_block> blocks = run(stored.get(), whole.path(), settings);
        const auto contents = folder_contents(whole.path());
        CHECK_THROWS_AS(run(stored.get(), interrupted.path(), settings, 2), stopped_early);
        run(stored.get(), interrupted.path(), settings);
        CHECK(folder_contents(interrupted.path()) == contents);
        if (settings.how.gguf) {
            const gguf_file file(whole.path() / "model.gguf");
            const gguf_tensor_info& info = file.tensor("blk.2.ffn_up.weight");
            magr::gguf_tensor packed{static_cast<magr::ggml_type>(info.type), 96, 64, {}};
            for (const std::byte b : file.bytes(info.name)) packed.data.push_back(static_cast<std::uint8_t>(b));
            const magr::matrix<float> values = magr::unpack_gguf(packed).dequantize();
            CHECK(packed.type == magr::ggml_type::q4_1);
            CHECK(std::equal(values.data(), values.data() + 96 * 64, blocks[2][linear::up_proj].data()));
        } else {
            CHECK(contents.contains("onnx/model.layers.2.mlp.up_proj.onnx"));
            CHECK(std::count_if(contents.begin(), contents.end(), [](const auto& file) { return file.first.starts_with("onnx/"); }) == 21);
        }
    }

    const scratch_folder empty;
    gguf.output.gguf_base = (scratch.path() / "none.gguf").string();
    CHECK_THAT(refusal([&] { return run(stored.get(), empty.path(), gguf); }), mentions("none.gguf"));
    CHECK(folder_contents(empty.path()).empty());
    format_settings eight = settings_for("onnx", 8);
    eight.how.zero_point = magr::zero_point::real;
    CHECK_THAT(refusal([&] { return require_format(even_config(), eight.how, eight.output), 0; }),
               mentions("8 bits with real zero points"));
}
