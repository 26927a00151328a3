// SPDX-License-Identifier: MIT
#include "quantize_llama/output_folder.hpp"

#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "common/content_hash.hpp"
#include "common/json.hpp"
#include "examples/folder_contents.hpp"
#include "examples/tiny_llama.hpp"
#include "reading.hpp"

namespace {

using examples::json;

constexpr const char* record_name = "codes/block-00000.json";

/// A model of one block, and the folder of a run that has quantized it.
class finished_run {
public:
    finished_run() : model_(tiny::model(config())), texts_(tiny::texts(config(), {9, 7})) {
        std::ostringstream ignored;
        examples::progress quiet(ignored, false);
        magr::thread_pool pool(1);
        examples::output_folder out(scratch_.path());
        out.begin(model_.get(), texts_, how_, {});
        static_cast<void>(examples::quantize_model(
            model_.get(), texts_, how_, pool, quiet, [](const examples::llama_block&) {}, &out));
        contents_ = folder_contents(scratch_.path());
    }

    [[nodiscard]] const std::filesystem::path& path() const { return scratch_.path(); }
    [[nodiscard]] const std::string& contents(const std::string& name) const { return contents_.at(name); }
    void write(const std::string& name, const std::string& contents) const { scratch_.write(name, contents); }
    void restore() const {
        for (const auto& [name, contents] : contents_) write(name, contents);
    }

    /// Takes up the run, and reads its block.
    [[nodiscard]] std::optional<examples::finished_block> read() const {
        examples::output_folder out(scratch_.path());
        out.begin(model_.get(), texts_, how_, {});
        return out.read(0);
    }

    static examples::llama_config config() {
        examples::llama_config c = tiny::config();
        c.num_hidden_layers = 1;
        c.vocab_size = 8;
        return c;
    }

private:
    tiny::model_in_folder model_;
    std::vector<examples::sequence> texts_;
    examples::quantization how_{.method = examples::method::rtn, .bits = 3};
    scratch_folder scratch_;
    std::map<std::string, std::string> contents_;
};

/// Gives a record the hash that it has to have.
void sign(json& record) {
    record.erase("hash");
    examples::content_hash hash;
    hash.add(record.dump());
    record["hash"] = hash.text();
}

/// Writes a file of the block, and a record that says that these are its contents.
void write_recorded(const finished_run& run, const std::string& name, const char* kind, const std::string& contents) {
    run.write(name, contents);
    json record = json::parse(run.contents(record_name));
    try {
        const examples::file_digest digest = examples::safetensors_file(run.path() / name).digest();
        record[kind] = {{"bytes", digest.bytes}, {"hash", digest.hash}};
    } catch (const examples::input_error&) {  // no such file has a digest
        record[kind]["bytes"] = contents.size();
    }
    sign(record);
    run.write(record_name, record.dump());
}

/// The header of a file of this length, in 8 bytes, and the file.
std::string prefixed(const std::string& header, const std::string& rest) {
    return tiny::bytes_of(std::uint64_t{header.size()}) + header + rest;
}

/// A block that is taken must be one of the model, with all of its layers.
void check(const std::optional<examples::finished_block>& block) {
    if (!block) return;
    require(block->layers.size() == examples::all_linears.size());
    for (const examples::linear kind : examples::all_linears) {
        const auto [rows, cols] = examples::shape_of(finished_run::config(), kind);
        require(block->block[kind].rows() == rows && block->block[kind].cols() == cols && block->block[kind].allFinite());
    }
}

}  // namespace

/// The first byte says which file of a finished run the others replace.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const finished_run run;
    if (size == 0) return 0;
    const std::string text(text_of(data + 1, size - 1));
    constexpr const char* weights = "model-00002-of-00002.safetensors";
    constexpr const char* codes = "codes/block-00000.safetensors";
    switch (data[0]) {
        case 'm': run.write("quantization.json", text); break;
        case 'o':  // other options of the same run
            if (const json options = json::parse(text, nullptr, false); !options.is_discarded()) {
                json manifest = json::parse(run.contents("quantization.json"));
                manifest["options"] = options;
                run.write("quantization.json", manifest.dump());
            }
            break;
        case 'i': run.write("model.safetensors.index.json", text); break;
        case 'r': run.write(record_name, text); break;
        case 's':  // a record with the right hash
            if (json record = json::parse(text, nullptr, false); record.is_object()) {
                sign(record);
                run.write(record_name, record.dump());
            }
            break;
        case 'w':
            split_after_header(text, [](const std::string& header, const std::string& rest) {
                write_recorded(run, weights, "weights", prefixed(header, rest));
            });
            break;
        case 'c':
            split_after_header(text, [](const std::string& header, const std::string& rest) {
                write_recorded(run, codes, "codes", prefixed(header, rest));
            });
            break;
        default: return 0;
    }
    try {
        check(run.read());
    } catch (const examples::input_error& error) {
        const std::string_view message = error.what();
        require(message.starts_with(run.path().string()));
        for (const char c : message) require(static_cast<unsigned char>(c) >= ' ' && c != '\x7f');
    }
    run.restore();
    return 0;
}
