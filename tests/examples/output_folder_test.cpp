// SPDX-License-Identifier: MIT
#include "quantize_llama/output_folder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "common/content_hash.hpp"
#include "common/json.hpp"
#include "folder_contents.hpp"
#include "refusal.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

/// A model of four blocks in its own folder.
class source {
public:
    explicit source(const llama_model& m = tiny::model(config())) : model(m), stored_(m) {}

    static llama_config config() {
        llama_config c = tiny::config();
        c.num_hidden_layers = 4;
        c.tie_word_embeddings = false;
        return c;
    }

    [[nodiscard]] const model_folder& folder() const { return stored_.get(); }

    llama_model model;

private:
    tiny::model_in_folder stored_;
};

struct run_settings {
    quantization how{.method = method::magr_optq, .bits = 3, .group_size = 8, .order = magr::column_order::act_order};
    output_settings output = {};
    std::uint32_t text_seed = 17;
};

struct stopped {};
constexpr std::size_t all_blocks = std::numeric_limits<std::size_t>::max();

/// Quantizes into a folder and returns the blocks as the caller sees them. Throws an error after `most` of them.
/// @param lines  out: the messages about lost or damaged files
std::vector<llama_block> run(const source& from, const std::filesystem::path& to, const run_settings& settings = {},
                             std::size_t most = all_blocks, std::vector<std::string>* lines = nullptr) {
    std::ostringstream ignored;
    progress quiet(ignored, false);
    magr::thread_pool pool(2);
    const auto texts = tiny::texts(from.model.config, std::vector<std::size_t>(20, 60), settings.text_seed);
    output_folder out(to, {}, [&](const std::string& line) {
        if (lines) lines->push_back(line);
    });
    out.begin(from.folder(), texts, settings.how, settings.output);
    std::vector<llama_block> blocks;
    const auto finished = [&](const llama_block& block) {
        blocks.push_back(block);
        if (blocks.size() == most) throw stopped();
    };
    static_cast<void>(quantize_model(from.folder(), texts, settings.how, pool, quiet, finished, &out));
    return blocks;
}

}  // namespace

TEST_CASE("output_folder: holds the model that the run went through, bit for bit", "[examples][output_folder]") {
    const source from;
    for (const auto type : {magr::storage_type::f32, magr::storage_type::f16, magr::storage_type::bf16}) {
        const scratch_folder scratch;
        const auto to = scratch.path() / "new" / "out";
        run_settings settings;
        settings.output.weights = type;
        const std::vector<llama_block> blocks = run(from, to, settings);
        const llama_model written = load_model(to);
        CHECK(written.embedding == from.model.embedding);
        CHECK(written.own_head == from.model.own_head);
        CHECK(written.final_norm == from.model.final_norm);
        REQUIRE(written.blocks.size() == 4);
        for (std::size_t layer = 0; layer < 4; ++layer) {
            CHECK(written.blocks[layer].weights == blocks[layer].weights);
            CHECK(written.blocks[layer].weights != from.model.blocks[layer].weights);
            CHECK(written.blocks[layer].input_norm == from.model.blocks[layer].input_norm);
            CHECK(written.blocks[layer].post_attention_norm == from.model.blocks[layer].post_attention_norm);
        }
        const model_folder again(to);
        const tensor_info& info =
            again.tensors().file_of("model.layers.1.mlp.up_proj.weight").tensors().at("model.layers.1.mlp.up_proj.weight");
        CHECK(info.dtype == (type == magr::storage_type::f32 ? "F32" : type == magr::storage_type::f16 ? "F16" : "BF16"));
    }
}

TEST_CASE("output_folder: a tuned model is written with its norms, and made again with the same bits if a block is lost",
          "[examples][output_folder][tune]") {
    const source from;
    const scratch_folder scratch;
    run_settings settings;
    settings.how = {.method = method::automatic, .bits = 3, .effort = 2};
    const std::vector<llama_block> blocks = run(from, scratch.path(), settings);
    const auto check = [&] {
        const llama_model written = load_model(scratch.path());
        REQUIRE(written.blocks.size() == 4);
        for (std::size_t layer = 0; layer < 4; ++layer) {
            CHECK(written.blocks[layer].weights == blocks[layer].weights);
            CHECK(written.blocks[layer].input_norm == blocks[layer].input_norm);
            CHECK(written.blocks[layer].post_attention_norm == blocks[layer].post_attention_norm);
            CHECK(written.blocks[layer].input_norm != from.model.blocks[layer].input_norm);
        }
    };
    check();
    const std::vector<llama_block> taken = run(from, scratch.path(), settings);  // finds all blocks
    for (std::size_t layer = 0; layer < 4; ++layer) CHECK(taken[layer].weights == blocks[layer].weights);
    std::filesystem::remove(scratch.path() / "codes" / "block-00002.json");
    std::vector<std::string> lines;
    static_cast<void>(run(from, scratch.path(), settings, all_blocks, &lines));
    CHECK(lines.size() >= 1);
    check();
}

TEST_CASE("output_folder: the codes and grids give the weights", "[examples][output_folder]") {
    const source from;
    for (const auto zero_point : {magr::zero_point::integer, magr::zero_point::offset}) {
        const scratch_folder scratch;
        run_settings settings;
        settings.how.zero_point = zero_point;
        const std::vector<llama_block> blocks = run(from, scratch.path(), settings);
        const safetensors_file codes(scratch.path() / "codes" / "block-00002.safetensors");
        CHECK(codes.tensors().size() == 4 * all_linears.size());
        for (const linear kind : all_linears) {
            const matrix_f& W = blocks[2][kind];
            const std::string name = "model.layers.2." + std::string(name_of(kind));
            const std::vector<float> scales = codes.read(name + ".scales"), zeros = codes.read(name + ".zeros");
            const auto bytes = codes.bytes(name + ".qweight");
            const auto group_bytes = codes.bytes(name + ".group_index");
            const auto groups = static_cast<Eigen::Index>(scales.size()) / W.rows();
            CHECK(groups == (W.cols() + 7) / 8);
            REQUIRE(bytes.size() == static_cast<std::size_t>(W.size()));
            REQUIRE(group_bytes.size() == 4 * static_cast<std::size_t>(W.cols()));
            double largest_error = 0;
            for (Eigen::Index i = 0; i < W.rows(); ++i)
                for (Eigen::Index j = 0; j < W.cols(); ++j) {
                    std::int32_t group = 0;
                    std::memcpy(&group, group_bytes.data() + 4 * j, 4);
                    const auto at = static_cast<std::size_t>(i * groups + group);
                    const auto code = static_cast<double>(bytes[static_cast<std::size_t>(i * W.cols() + j)]);
                    CHECK(code < 8);
                    const double scale = static_cast<double>(scales[at]), zero = static_cast<double>(zeros[at]);
                    const double weight = zero_point == magr::zero_point::offset ? scale * code + zero : scale * (code - zero);
                    // one rounding, or two with offsets, of numbers up to 8 scales plus the offset
                    largest_error = std::max(largest_error, std::abs(weight - static_cast<double>(W(i, j))) / (8 * scale + std::abs(zero)));
                }
            CHECK(largest_error <= 0x1p-23);
        }
        const std::string header = scratch.read("codes/block-00002.safetensors").substr(0, 200);
        CHECK_THAT(header, mentions(R"(\"bits\":3)"));
        CHECK_THAT(header, mentions(zero_point == magr::zero_point::offset ? "scale * code + zero" : "scale * (code - zero)"));
    }
}

TEST_CASE("output_folder: the configuration names the type of the weights, the tokenizer is copied", "[examples][output_folder]") {
    const llama_config config = source::config();
    std::string text = tiny::config_text(config);
    text.insert(1, R"("torch_dtype":"bfloat16","id2label":[1.5],)");
    const scratch_folder model, to;
    tiny::write_model(model, tiny::model(config));
    model.write("config.json", text);
    model.write("tokenizer.json", "{\"any\": 1}");
    const model_folder from(model.path());
    output_folder(to.path()).begin(from, tiny::texts(config, {9}), {}, {.weights = magr::storage_type::f16});
    const json copied = json::parse(to.read("config.json"));
    CHECK(copied.at("torch_dtype") == "float16");
    CHECK(copied.at("id2label") == json{1.5});
    CHECK(copied.size() == json::parse(text).size());
    CHECK(to.read("tokenizer.json") == "{\"any\": 1}");
}

TEST_CASE("output_folder: a run that was interrupted anywhere ends with the same files", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    const auto whole = scratch.path() / "whole";
    const std::vector<llama_block> blocks = run(from, whole);
    const auto expected = folder_contents(whole);
    CHECK(expected.size() == 2 + 1 + 4 + 2 * 4 + 1);  // quantization.json, config.json, model files, codes and records, index

    for (std::size_t most = 1; most <= 4; ++most) {
        const auto to = scratch.path() / ("stopped" + std::to_string(most));
        CHECK_THROWS_AS(run(from, to, {}, most), stopped);
        CHECK(refusal([&] { return model_folder(to).path(); }).empty() == false);
        // as if writing the next file had been cut off, or as if it were complete but the rest of its block were missing
        std::ofstream(to / "model-00005-of-00005.safetensors.part", std::ios::binary) << "cut";
        if (most < 4) std::ofstream(to / "model-00005-of-00005.safetensors", std::ios::binary) << "old";
        const std::vector<llama_block> all = run(from, to);
        CHECK(all.size() == 4);
        for (std::size_t layer = 0; layer < all.size(); ++layer) CHECK(all[layer].weights == blocks[layer].weights);
        auto contents = folder_contents(to);
        if (most == 4) contents.erase("model-00005-of-00005.safetensors.part");  // that file was already there
        CHECK(contents == expected);
    }
    const auto began = scratch.path() / "began";
    std::filesystem::create_directory(began);
    std::ofstream(began / "quantization.json.part") << "{";
    run(from, began);
    CHECK(folder_contents(began) == expected);
    run(from, began);  // nothing is left to do
    CHECK(folder_contents(began) == expected);
}

TEST_CASE("output_folder: another run and another program's folder are refused", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    const auto to = scratch.path() / "out";
    CHECK_THROWS_AS(run(from, to, {}, 2), stopped);
    const auto before = folder_contents(to);
    const auto refused = [&](const source& model, const run_settings& settings) {
        const std::string message = refusal([&] { return run(model, to, settings); });
        CHECK(message.starts_with(to.string()));
        CHECK(folder_contents(to) == before);
        return message;
    };
    run_settings other;
    other.how.bits = 4;
    CHECK_THAT(refused(from, other), mentions("bits is 3 there and 4 here"));
    other = {};
    other.how.alpha = 0.5;
    CHECK_THAT(refused(from, other), mentions("alpha is null there and 0.5 here"));
    other = {};
    other.how.order = magr::column_order::natural;
    CHECK_THAT(refused(from, other), mentions(R"(order is "act_order" there and "natural" here)"));
    other = {};
    other.output.weights = magr::storage_type::bf16;
    CHECK_THAT(refused(from, other), mentions(R"(out_dtype is "f32" there and "bf16" here)"));
    other = {};
    other.text_seed = 18;
    CHECK_THAT(refused(from, other), mentions("holds another run: calibration is "));
    llama_model changed = from.model;
    changed.blocks[3][linear::down_proj](0, 0) += 1e-6f;
    CHECK_THAT(refused(source(changed), {}), mentions("holds another run: model is "));

    {
        const output_folder in_use(to);
        CHECK_THAT(refused(from, {}), mentions("another run is using this folder"));
    }
    std::filesystem::copy_file(from.folder().path() / "model.safetensors", to / "model.safetensors");
    CHECK_THAT(refusal([&] { return run(from, to); }), mentions("model.safetensors: is not a file of the run"));

    const scratch_folder foreign;
    foreign.write("thesis.txt", "years of work");
    CHECK_THAT(refusal([&] { return run(from, foreign.path()); }), mentions("is not empty and holds no run of this program"));
    CHECK_THAT(refusal([&] { return run(from, foreign.path() / "thesis.txt"); }), mentions("cannot be made"));
    CHECK(folder_contents(foreign.path()).size() == 1);
}

TEST_CASE("output_folder: whatever file is lost or damaged is named and made again", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    const auto to = scratch.path() / "out";
    run(from, to);
    const auto expected = folder_contents(to);
    // The run must end with the same files, and with a line about this one alone.
    const auto repaired = [&](const std::string& name) {
        std::vector<std::string> lines;
        run(from, to, {}, all_blocks, &lines);
        CHECK(folder_contents(to) == expected);
        CHECK(lines.size() == 1);
        const std::string line = lines.empty() ? "" : lines[0];
        CHECK(line.starts_with((to / name).string() + ": "));
        CHECK(line.ends_with("; it is made again"));
        return line;
    };
    for (const auto& [name, bytes] : expected) {
        if (name == "quantization.json") continue;  // it says what the run is: without it there is no run
        INFO(name);
        const auto write = [&, &file = name](const std::string& damaged) { std::ofstream(to / file, std::ios::binary) << damaged; };
        const auto size = [&, &whole = bytes](std::size_t now) {
            return "has " + std::to_string(now) + " bytes in place of " + std::to_string(whole.size());
        };
        const bool sizes_are_known =
            !name.starts_with("codes/") || name.ends_with(".safetensors");  // files that record their own kind have no known size
        const auto resized = [&, &file = name](const std::string& damaged) {
            write(damaged);
            const std::string line = repaired(file);
            if (sizes_are_known && file != "model.safetensors.index.json") CHECK_THAT(line, mentions(size(damaged.size())));
        };
        for (const std::size_t at : {bytes.size() / 2, bytes.size() - 1}) {
            std::string changed = bytes;
            changed[at] = static_cast<char>(changed[at] ^ 0x04);
            write(changed);
            const std::string line = repaired(name);
            if (name.ends_with(".safetensors")) CHECK_THAT(line, mentions("has other contents than were written"));
        }
        resized(bytes.substr(0, bytes.size() / 2));
        resized("");
        resized(bytes + "x");
        std::filesystem::remove(to / name);
        if (name != "model.safetensors.index.json") CHECK_THAT(repaired(name), mentions("is missing"));
    }
    // Without the index, the folder looks like that of a run that was killed just before its end.
    std::vector<std::string> lines;
    run(from, to, {}, all_blocks, &lines);
    CHECK(lines.empty());
    CHECK(folder_contents(to) == expected);

    std::ofstream(to / "quantization.json", std::ios::app) << "\n";
    repaired("quantization.json");
}

TEST_CASE("output_folder: a record or a manifest of the wrong kind is damage, and no other error", "[examples][output_folder][edge]") {
    const source from;
    const scratch_folder scratch;
    run(from, scratch.path());
    const auto texts = tiny::texts(from.model.config, std::vector<std::size_t>(20, 60), 17);
    const std::string record = scratch.read("codes/block-00001.json"), manifest = scratch.read("quantization.json");
    const run_settings settings;
    const auto is_taken = [&](json changed) {
        changed.erase("hash");
        content_hash hash;
        hash.add(changed.dump());
        changed["hash"] = hash.text();  // as if it had been written like this
        scratch.write("codes/block-00001.json", changed.dump());
        std::vector<std::string> lines;
        output_folder out(scratch.path(), {}, [&](const std::string& line) { lines.push_back(line); });
        out.begin(from.folder(), texts, settings.how, settings.output);
        const bool taken = out.read(1).has_value();
        CHECK(lines.size() == (taken ? 0 : 1));
        return taken;
    };
    const auto with = [&](const json::json_pointer& place, const json& value) {
        json changed = json::parse(record);
        changed[place] = value;
        return changed;
    };
    CHECK(is_taken(json::parse(record)));
    for (const json& value :
         {json(1.5), json(-1), json(1e300), json(18446744073709551615u), json("1"), json(), json::array(), json(true)}) {
        CAPTURE(value.dump());
        CHECK_FALSE(is_taken(with(json::json_pointer("/layers/0/weights"), value)));
        if (!value.is_number_unsigned()) CHECK_FALSE(is_taken(with(json::json_pointer("/codes/bytes"), value)));
        CHECK_FALSE(is_taken(with(json::json_pointer("/layers/3"), value)));
        CHECK_FALSE(is_taken(with(json::json_pointer("/layers"), value)));
        CHECK_FALSE(is_taken(with(json::json_pointer("/weights"), value)));
    }
    scratch.write("codes/block-00001.json", record);
    for (const json& value : {json(5), json("optq"), json(), json::array(), json::object()}) {
        json changed = json::parse(manifest);
        changed["options"] = value;
        scratch.write("quantization.json", changed.dump());
        CHECK_THAT(refusal([&] { return run(from, scratch.path()); }), mentions("holds another run: "));
    }
}

TEST_CASE("output_folder: of several damaged files each is named, of an interrupted run none", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    const auto to = scratch.path() / "out";
    const auto said = [&](std::size_t most = all_blocks) {
        std::vector<std::string> lines;
        try {
            run(from, to, {}, most, &lines);
        } catch (const stopped&) {
        }
        std::string all;
        for (const std::string& line : lines) all += line + "\n";
        return all;
    };
    for (const std::size_t most : {std::size_t{1}, std::size_t{2}, std::size_t{4}}) CHECK(said(most).empty());
    CHECK(said().empty());
    const auto expected = folder_contents(to);

    scratch.write("out/model-00002-of-00005.safetensors", "abc");
    scratch.write("out/codes/block-00000.safetensors", "");
    std::filesystem::remove(to / "codes/block-00003.json");
    scratch.write("out/config.json", "{}");
    scratch.write("out/model.safetensors.index.json", "{");
    const std::string lines = said();
    CHECK(std::count(lines.begin(), lines.end(), '\n') == 5);
    for (const char* name : {"model-00002-of-00005.safetensors: has 3 bytes", "block-00000.safetensors: has 0 bytes",
                             "block-00003.json: is missing", "config.json: has 2 bytes", "index.json: has other contents"})
        CHECK_THAT(lines, mentions(name));
    CHECK(folder_contents(to) == expected);

    // An interrupted run has lost a block before the last one, but not the blocks that it has not reached yet.
    for (const char* name : {"codes/block-00001.json", "codes/block-00003.json", "model.safetensors.index.json"})
        std::filesystem::remove(to / name);
    const std::string lost = said();
    CHECK_THAT(lost, mentions("block-00001.json: is missing"));
    CHECK(std::count(lost.begin(), lost.end(), '\n') == 1);
    CHECK(folder_contents(to) == expected);
}

TEST_CASE("output_folder: while a damaged block is made again, no reader takes the folder for a model", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    run(from, scratch.path());
    REQUIRE(std::filesystem::exists(scratch.path() / "model.safetensors.index.json"));
    scratch.write("codes/block-00002.safetensors", "");
    CHECK_THROWS_AS(run(from, scratch.path(), {}, 3), stopped);
    CHECK_FALSE(std::filesystem::exists(scratch.path() / "model.safetensors.index.json"));
}

TEST_CASE("output_folder: an error that is infinite or no number is read as it was written", "[examples][output_folder]") {
    const source from;
    const scratch_folder to;
    const auto texts = tiny::texts(from.model.config, std::vector<std::size_t>(20, 60), 17);
    run(from, to.path());
    output_folder out(to.path());
    const run_settings settings;
    out.begin(from.folder(), texts, settings.how, settings.output);
    const finished_block before = out.read(1).value();
    quantized_block block{before.block, {}};
    for (std::size_t i = 0; i < block.layers.size(); ++i) {
        const matrix_f& W = block.block.weights[i];
        block.layers[i].quantized.emplace().codes = magr::matrix<std::uint8_t>(W.rows(), W.cols());
        block.layers[i].record = before.layers[i];
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    block.layers[0].record.output_error = infinity;
    block.layers[1].record.output_error = -infinity;
    block.layers[2].record.output_error = std::numeric_limits<double>::quiet_NaN();
    out.write(1, block);
    const std::optional<finished_block> after = out.read(1);
    REQUIRE(after.has_value());
    CHECK(after->layers[0].output_error == infinity);
    CHECK(after->layers[1].output_error == -infinity);
    CHECK(std::isnan(after->layers[2].output_error));
    CHECK(after->layers[3].output_error == before.layers[3].output_error);
    CHECK(after->layers[3].largest_before == before.layers[3].largest_before);
}

TEST_CASE("output_folder: results of the run may lie in it, under names of their own", "[examples][output_folder]") {
    const scratch_folder scratch;
    const auto to = scratch.path() / "out";
    const std::vector<std::filesystem::path> beside{to / "r.json"};
    { const output_folder made(to, beside); }
    scratch.write("out/r.json.part", "left behind");
    { const output_folder again(to, beside); }
    CHECK_THAT(refusal([&] { return output_folder(to), 0; }), mentions("is not empty"));
    for (const char* name : {"config.json", "quantization.json", "model-00001-of-00003.safetensors", "model.safetensors.index.json",
                             "model.safetensors", "tokenizer.json", "codes", "codes/r.json", "additional_chat_templates/r.jinja"}) {
        const std::vector<std::filesystem::path> taken{to / name};
        CHECK_THAT(refusal([&] { return output_folder(to, taken), 0; }), mentions("is the name of a file of the model"));
    }
}

TEST_CASE("output_folder: what belongs to the tokenizer is copied, and a pointer to it is not", "[examples][output_folder]") {
    const scratch_folder model, to;
    tiny::write_model(model, tiny::model(source::config()));
    std::filesystem::create_directory(model.path() / "additional_chat_templates");
    std::filesystem::create_directory(model.path() / "a_folder.model");
    const std::vector<std::string> names{"added_tokens.json",
                                         "additional_chat_templates/tool_use.jinja",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "generation_config.json",
                                         "merges.txt",
                                         "preprocessor_config.json",
                                         "processor_config.json",
                                         "sentencepiece.bpe.model",
                                         "special_tokens_map.json",
                                         "spiece.model",
                                         "tekken.json",
                                         "tokenization_own.py",
                                         "tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer.model.v3",
                                         "tokenizer_config.json",
                                         "vocab.json",
                                         "vocab.txt"};
    for (const std::string& name : names) model.write(name, "of " + name);
    for (const char* other : {"README.md", "train.py", "additional_chat_templates/README.md", "pytorch_model.bin", "tokenizer.model.part"})
        model.write(other, "not needed");
    const std::vector<std::filesystem::path> found = companions(model.path());
    CHECK(std::vector<std::string>(found.begin(), found.end()) == names);
    const model_folder from(model.path());
    const auto texts = tiny::texts(from.config(), {9});
    output_folder(to.path()).begin(from, texts, {}, {});
    for (const std::string& name : names) CHECK(to.read(name) == "of " + name);
    CHECK(folder_contents(to.path()).size() == names.size() + 3);  // plus quantization.json, config.json, the first weights
    std::filesystem::create_symlink("nothing", model.path() / "vocab.model");
    CHECK_THAT(refusal([&] { return output_folder(to.path()).begin(from, texts, {}, {}), 0; }), mentions("vocab.model: no such file"));
    std::filesystem::remove(model.path() / "vocab.model");
    model.write("tokenizer.model", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    CHECK_THAT(refusal([&] { return output_folder(to.path()).begin(from, texts, {}, {}), 0; }),
               mentions("tokenizer.model: is a pointer of Git LFS"));
}

TEST_CASE("output_folder: what a link in place of a file leads to is not overwritten", "[examples][output_folder]") {
    const source from;
    const scratch_folder scratch;
    const auto to = scratch.path() / "out";
    run(from, to);
    const auto expected = folder_contents(to);
    scratch.write("of another", "thesis");
    for (const auto& [name, bytes] : expected) {
        if (name == "quantization.json") continue;
        INFO(name);
        std::filesystem::remove(to / name);
        std::filesystem::create_symlink(scratch.path() / "of another", to / name);
        run(from, to);
        CHECK(scratch.read("of another") == "thesis");
        CHECK_FALSE(std::filesystem::is_symlink(to / name));
        CHECK(folder_contents(to) == expected);
    }
    // A link to the output, perhaps on a larger disk, may stay.
    const auto moved = scratch.path() / "moved";
    std::filesystem::rename(to / "model-00002-of-00005.safetensors", moved);
    std::filesystem::create_symlink(moved, to / "model-00002-of-00005.safetensors");
    run(from, to);
    CHECK(std::filesystem::is_symlink(to / "model-00002-of-00005.safetensors"));
}

TEST_CASE("output_folder: weights that a type cannot hold are told before the work", "[examples][output_folder]") {
    llama_model large = tiny::model(source::config());
    large.blocks[1][linear::o_proj] *= 1e6f;
    const source from(large);
    const scratch_folder to;
    run_settings settings;
    settings.output.weights = magr::storage_type::f16;
    CHECK_THAT(refusal([&] { return run(from, to.path(), settings); }),
               mentions("--out-dtype f16: model.layers.1.self_attn.o_proj has a weight of"));
    CHECK(folder_contents(to.path()).empty());
    settings.output.weights = magr::storage_type::bf16;
    CHECK(run(from, to.path(), settings).size() == 4);
}
