// SPDX-License-Identifier: MIT
#include "quantize_llama/output_folder.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <limits>
#include <magr/version.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "common/content_hash.hpp"
#include "common/error.hpp"
#include "common/file_kind.hpp"
#include "common/json.hpp"
#include "common/output_file.hpp"
#include "common/text_stream.hpp"
#include "quantize_llama/codes_file.hpp"
#include "quantize_llama/safetensors.hpp"
#include "quantize_llama/written_numbers.hpp"

namespace examples {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* manifest_name = "quantization.json";
constexpr const char* more_templates = "additional_chat_templates";  // a folder
constexpr const char* index_name = "model.safetensors.index.json";
constexpr std::array subfolders{"codes", more_templates};
constexpr const char* changed_contents = "has other contents than were written";
constexpr const char* unreadable = "cannot be read";
constexpr std::uint64_t longest_json = 1 << 30;

/// Makes the folder if it is not there.
const fs::path& made(const fs::path& folder) {
    std::error_code error, unknown;
    fs::create_directories(folder, error);
    if (!fs::is_directory(folder, unknown)) refuse(folder.string(), ": cannot be made: ", (error ? error : unknown).message());
    return folder;
}

std::string five_digits(std::int64_t number) {
    text_stream text;
    text << std::setfill('0') << std::setw(5) << number;
    return text.str();
}

void write_text(const fs::path& file, const std::string& text) { output_file(file).commit(text); }

/// Whether a file beside the weights belongs to the tokenizer or says how texts are generated.
bool is_companion(const std::string& name) {
    constexpr std::array names{"generation_config.json",
                               "tokenizer.json",
                               "tokenizer_config.json",
                               "special_tokens_map.json",
                               "added_tokens.json",
                               "vocab.json",
                               "vocab.txt",
                               "merges.txt",
                               "preprocessor_config.json",
                               "processor_config.json"};
    constexpr std::array beginnings{"chat_template.", "tokenizer.model", "tekken."};
    constexpr std::array endings{".model", ".jinja", ".tiktoken", ".spm"};
    if (name.ends_with(".part")) return false;
    return std::find(names.begin(), names.end(), name) != names.end() ||
           std::any_of(beginnings.begin(), beginnings.end(), [&](const char* part) { return name.starts_with(part); }) ||
           std::any_of(endings.begin(), endings.end(), [&](const char* part) { return name.ends_with(part); }) ||
           (name.starts_with("tokenization_") && name.ends_with(".py"));
}

/// Whether a run gives this name to a file in the folder itself.
bool is_of_the_model(const std::string& name) {
    constexpr std::array names{manifest_name, index_name, "config.json", "quantize_config.json"};
    return std::find(names.begin(), names.end(), name) != names.end() || is_companion(name) || name.starts_with("model.") ||
           name.starts_with("model-");
}

std::string text_of(const ordered_json& value) { return value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n"; }

/// Everything that decides the bits of the result. An unset option is null.
ordered_json options_of(const quantization& how, const output_settings& settings) {
    // All members, so that a new one cannot be forgotten.
    const auto& [method, bits, group_size, alpha, beta, damping, solver, order, zero_point, storage, range, target, refinement_rounds,
                 drift, effort, activation_bits, gguf, ggml] = how;  // ggml is set for one layer only
    const auto optional = [](const auto& value) { return value ? ordered_json(*value) : ordered_json(); };
    return {{"method", name_of(method)},
            {"bits", bits},
            {"group_size", optional(group_size)},
            {"alpha", optional(alpha)},
            {"beta", beta},
            {"damping", optional(damping)},
            {"solver", to_string(solver)},
            {"order", to_string(order)},
            {"zero_point", to_string(zero_point)},
            {"storage", to_string(storage)},
            {"range", range ? to_string(*range) : "default"},
            {"target", to_string(target)},
            {"refinement_rounds", refinement_rounds},
            {"drift", drift},
            {"effort", effort},
            {"activation_bits", optional(activation_bits)},
            {"gguf", gguf ? ordered_json(to_string(*gguf)) : ordered_json()},
            {"format", settings.format->name},
            {"gguf_keeps_embedding", settings.gguf_keeps_embedding},
            {"out_dtype", to_string(settings.weights)}};
}

std::string program_name() {
    text_stream name;
    name << "magr " << MAGR_VERSION_MAJOR << "." << MAGR_VERSION_MINOR << "." << MAGR_VERSION_PATCH << " " << magr::instruction_set();
    return name.str();
}

/// The configuration and all tensors.
std::string hash_of(const model_folder& model) {
    content_hash hash;
    hash.add(read_file(model.path() / "config.json", longest_json));
    for (const std::string& name : model.tensors().names()) {
        const safetensors_file& file = model.tensors().file_of(name);
        const tensor_info& info = file.tensors().at(name);
        hash.add(name);
        hash.add(info.dtype);
        hash.add(std::as_bytes(std::span(info.shape)));
        hash.add_in_parts(file.bytes(name), [&](std::span<const std::byte> part) { file.release(part); });
    }
    return hash.text();
}

std::string hash_of(std::span<const sequence> text) {
    content_hash hash;
    for (const sequence& s : text) hash.add(std::as_bytes(std::span(s)));
    return hash.text();
}

/// Refuses to go on with a run that is not this one.
void require_same_run(const json& before, const json& now, const std::string& folder) {
    const auto require = [&](const std::string& key, const json& was, const json& is) {
        if (was != is) refuse(folder, ": holds another run: ", key, " is ", was.dump(), " there and ", is.dump(), " here");
    };
    for (const char* key : {"program", "model", "calibration"}) require(key, before.value(key, json()), now.at(key));
    const json options = before.value("options", json());
    for (const auto& [key, value] : now.at("options").items())
        require(key, options.is_object() ? options.value(key, json()) : json(), value);
}

/// A number that may be infinite or none, which JSON's are not.
ordered_json json_of(double value) {
    if (std::isfinite(value)) return value;
    return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double number_of(const json& value) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
    return value == "inf" ? infinity : value == "-inf" ? -infinity : value.get<double>();
}

template <class Number>
ordered_json json_of(const std::vector<Number>& values) {
    ordered_json all = ordered_json::array();
    for (const Number value : values) all.push_back(json_of(static_cast<double>(value)));
    return all;
}

std::vector<float> numbers_of(const json& values) {
    std::vector<float> all;
    for (const json& value : values) all.push_back(static_cast<float>(number_of(value)));
    return all;
}

ordered_json json_of(const layer_record& record) {
    // all members, as above
    const auto& [name, output_error, alpha, stored_bits, weights, remark, largest_before, largest_after] = record;
    return {{"name", name},
            {"output_error", json_of(output_error)},
            {"alpha", json_of(alpha)},
            {"stored_bits", stored_bits},
            {"weights", weights},
            {"remark", remark},
            {"largest_before", json_of(largest_before)},
            {"largest_after", json_of(largest_after)}};
}

/// A size or a count. JSON's own conversion would cut off a fraction.
template <class Integer>
Integer count_of(const json& value) {
    if (!value.is_number_unsigned() || !std::in_range<Integer>(value.get<std::uint64_t>())) throw input_error("is not a count");
    return value.get<Integer>();
}

layer_record record_of(const json& value) {
    return {.name = value.at("name"),
            .output_error = number_of(value.at("output_error")),
            .alpha = number_of(value.at("alpha")),
            .stored_bits = value.at("stored_bits").get<double>(),
            .weights = count_of<std::int64_t>(value.at("weights")),
            .remark = value.at("remark"),
            .largest_before = numbers_of(value.at("largest_before")),
            .largest_after = numbers_of(value.at("largest_after"))};
}

ordered_json json_of(const file_digest& digest) { return {{"bytes", digest.bytes}, {"hash", digest.hash}}; }

file_digest digest_from(const json& value) { return {count_of<std::uint64_t>(value.at("bytes")), value.at("hash").get<std::string>()}; }

/// Of everything in a record but the hash itself.
std::string hash_of_record(json record) {
    record.erase("hash");
    content_hash hash;
    hash.add(record.dump());
    return hash.text();
}

/// Whether there is anything of this name.
bool is_there(const fs::path& file) {
    std::error_code error;
    return fs::exists(fs::symlink_status(file, error));
}

/// Why a file is not the one that was written; nothing if it is.
/// @param is_same  compares contents of the right size
template <class Compare>
std::optional<std::string> difference(const fs::path& file, std::uint64_t bytes, const Compare& is_same) {
    if (!is_there(file)) return "is missing";
    try {
        const std::uint64_t size = input_file(file).size();
        if (size != bytes) return one_line("has ", size, " bytes in place of ", bytes);
        if (is_same()) return {};
    } catch (const input_error&) {
        return unreadable;
    }
    return changed_contents;
}

std::optional<std::string> difference_from(const fs::path& file, const std::string& text) {
    return difference(file, text.size(), [&] { return read_file(file, longest_json) == text; });
}

std::optional<std::string> difference_from(const fs::path& file, const file_digest& digest) {
    return difference(file, digest.bytes, [&] { return safetensors_file(file).digest() == digest; });
}

/// Refuses a model with weights that a type cannot hold: quantized ones are about as large.
void require_range(const model_folder& model, magr::storage_type type) {
    for (std::int64_t layer = 0; type != magr::storage_type::f32 && layer < model.config().num_hidden_layers; ++layer) {
        const llama_block block = model.block(layer);
        for (const linear kind : all_linears) {
            const float largest = block[kind].cwiseAbs().maxCoeff();
            if (!std::isfinite(rounded_to(largest, type)))
                refuse("--out-dtype ", to_string(type), ": ", block_prefix(layer), name_of(kind), " has a weight of ", largest,
                       ", which is too large for it");
        }
    }
}

/// Whether a tensor is the weight of a linear layer.
bool is_linear_weight(const std::string& name) {
    return name.starts_with("model.layers.") && std::any_of(all_linears.begin(), all_linears.end(), [&](linear kind) {
               return name.ends_with("." + std::string(name_of(kind)) + ".weight");
           });
}

/// Frequencies of RoPE, which are in some old files though every program computes them.
bool is_table(const std::string& name) { return name.ends_with("rotary_emb.inv_freq"); }

/// Refuses a model with tensors that stay numbers and that a type cannot hold.
void require_range_of_the_rest(const model_folder& model, magr::storage_type type) {
    for (const std::string& name : model.tensors().names()) {
        if (type == magr::storage_type::f32 || is_linear_weight(name) || is_table(name)) continue;
        for (const float value : model.tensors().file_of(name).read(name))
            if (!std::isfinite(rounded_to(value, type)))
                refuse("--out-dtype ", to_string(type), ": ", name, " has an element of ", value, ", which is too large for it");
    }
}

std::span<float> numbers(matrix_f& W) { return {W.data(), static_cast<std::size_t>(W.size())}; }
std::span<float> numbers(row_f& v) { return {v.data(), static_cast<std::size_t>(v.size())}; }

tensor_to_write as_it_was(const safetensors_file& file, const std::string& name) {
    const tensor_info& info = file.tensors().at(name);
    return {name, info.dtype, info.shape, file.bytes(name)};
}

}  // namespace

output_folder::output_folder(const fs::path& folder, std::span<const fs::path> beside, damage_observer damaged)
    : path_(folder), claim_(made(folder)), damaged_(std::move(damaged)) {
    std::set<std::string> allowed{std::string(manifest_name) + ".part"};
    for (const fs::path& file : beside) {
        const fs::path target = followed(file);
        const fs::path place = target.has_parent_path() ? target.parent_path() : ".";
        const std::string name = target.filename().string();
        const bool is_in_subfolder = std::any_of(subfolders.begin(), subfolders.end(), [&](const char* subfolder) {
            return lead_to_one_file(place / name, path_ / subfolder) || lead_to_one_file(place, path_ / subfolder);
        });
        if (is_in_subfolder || (is_of_the_model(name) && lead_to_one_file(place, path_)))
            refuse(file.string(), ": is the name of a file of the model that is written to ", path_.string());
        if (!lead_to_one_file(place, path_)) continue;
        allowed.insert(name);
        allowed.insert(name + ".part");
    }
    if (fs::exists(path_ / manifest_name)) return;
    for (const auto& entry : fs::directory_iterator(path_))
        if (!allowed.contains(entry.path().filename().string())) refuse(path_.string(), ": is not empty and holds no run of this program");
}

void output_folder::begin(const model_folder& model, std::span<const sequence> calibration, const quantization& how,
                          const output_settings& settings) {
    model_ = &model;
    how_ = how;
    settings_ = settings;
    is_tuned_ = how.method == method::automatic && how.effort > 1;
    if (settings.format->require) settings.format->require(model, how, settings);
    const ordered_json manifest{{"program", program_name()},
                                {"model", hash_of(model)},
                                {"calibration", hash_of(calibration)},
                                {"options", options_of(how, settings)}};
    const fs::path file = path_ / manifest_name;
    look_around();
    if (fs::exists(file)) {
        require_same_run(parse_json_object(read_file(file, longest_json), file.string()), json(manifest), path_.string());
        const fs::path other = path_ / "model.safetensors";  // which readers prefer to the files of a run
        if (fs::exists(other)) refuse(other.string(), ": is not a file of the run in this folder");
        write_again(file, text_of(manifest));  // the same run, but maybe not the same bytes
    } else {
        if (is_dequantized())
            require_range(model, settings.weights);
        else
            require_range_of_the_rest(model, rest_type());
        write_text(file, text_of(manifest));
    }
    made(path_ / "codes");
    if (!settings.format->write) copy_model_files();
}

std::optional<finished_block> output_folder::read(std::int64_t layer) const {
    const fs::path file = block_file(layer, ".json"), weights = weights_file(layer + 1), codes = block_file(layer, ".safetensors");
    if (!is_there(file)) {
        if (layer < blocks_before_) report(file, "is missing");
        return {};
    }
    std::string text;
    try {
        text = read_file(file, longest_json);
    } catch (const input_error&) {
        report(file, unreadable);
        return {};
    }
    try {
        const json record = parse_json_object(text, file.string());
        if (hash_of_record(record) != record.at("hash")) throw input_error("");
        finished_block result;
        for (const json& one : record.at("layers")) result.layers.push_back(record_of(one));
        const file_digest of_weights = digest_from(record.at("weights")), of_codes = digest_from(record.at("codes"));
        if (result.layers.size() != all_linears.size()) throw input_error("");
        const bool has_weights = is_as_written(weights, of_weights), has_codes = is_as_written(codes, of_codes);
        if (!has_weights || !has_codes) return {};
        result.block = is_dequantized() ? read_block(model_tensors::of_file(weights), model_->config(), layer) : read_packed_block(layer);
        return result;
    } catch (const input_error&) {
    } catch (const json::exception&) {
    }
    report(file, changed_contents);
    return {};
}

void output_folder::round_as_stored(llama_block& block) const {
    std::vector<std::byte> memory;
    const auto round = [&](auto& values, const char* name, magr::storage_type type) {
        static_cast<void>(stored_bytes(numbers(values), name, type, memory));
    };
    for (const linear kind : all_linears) {
        if (is_dequantized())
            round(block[kind], name_of(kind), settings_.weights);
        else
            round(block.bias(kind), name_of(kind), rest_type());
    }
    if (is_dequantized()) return;
    round(block.input_norm, "input_layernorm", rest_type());
    round(block.post_attention_norm, "post_attention_layernorm", rest_type());
}

void output_folder::write(std::int64_t layer, quantized_block& block) {
    for (const fs::path& file : {weights_file(layer + 1), block_file(layer, ".safetensors"), block_file(layer, ".json")})
        prepare_to_replace(file);
    ordered_json record{{"layers", ordered_json::array()}};
    for (const quantized_layer& one : block.layers) record["layers"].push_back(json_of(one.record));
    record["weights"] = json_of(is_dequantized() ? write_dequantized(layer, block) : write_packed(layer, block));
    record["codes"] = json_of(write_codes(block_file(layer, ".safetensors"), layer, block.layers));
    record["hash"] = hash_of_record(record);
    write_text(block_file(layer, ".json"), text_of(record));
}

/// Everything of a block under the names that the model has: its linear layers dequantized, the rest as it was but for tuned norms.
file_digest output_folder::write_dequantized(std::int64_t layer, quantized_block& block) const {
    const std::string prefix = block_prefix(layer);
    std::vector<tensor_to_write> weights;
    std::array<std::vector<std::byte>, all_linears.size()> memory;
    for (const linear kind : all_linears) {
        const std::string name = prefix + name_of(kind);
        matrix_f& W = block.block[kind];
        weights.push_back({name + ".weight",
                           dtype_of(settings_.weights),
                           {static_cast<std::uint64_t>(W.rows()), static_cast<std::uint64_t>(W.cols())},
                           stored_bytes(numbers(W), name, settings_.weights, memory[static_cast<std::size_t>(kind)])});
    }
    const auto tuned_norm = [&](const std::string& name) -> const row_f* {
        if (!is_tuned_) return nullptr;
        if (name == prefix + "input_layernorm.weight") return &block.block.input_norm;
        return name == prefix + "post_attention_layernorm.weight" ? &block.block.post_attention_norm : nullptr;
    };
    for (const std::string& name : model_->tensors().names()) {
        if (!name.starts_with(prefix) || is_linear_weight(name)) continue;
        if (const row_f* const norm = tuned_norm(name))
            weights.push_back({name,
                               "F32",
                               {static_cast<std::uint64_t>(norm->size())},
                               std::as_bytes(std::span<const float>(norm->data(), static_cast<std::size_t>(norm->size())))});
        else
            weights.push_back(as_it_was(model_->tensors().file_of(name), name));
    }
    return write_safetensors(weights_file(layer + 1), std::move(weights));
}

/// The linear layers of a block as the format packs them, if it is one of Hugging Face's, and the rest of the block.
file_digest output_folder::write_packed(std::int64_t layer, quantized_block& block) const {
    const std::string prefix = block_prefix(layer);
    std::vector<packed_tensor> packed;
    const auto add_rest = [&](const std::string& name, row_f& values) {
        std::vector<std::byte> memory;
        const std::span<const std::byte> bytes = stored_bytes(numbers(values), name, rest_type(), memory);
        packed.push_back({name, dtype_of(rest_type()), {static_cast<std::uint64_t>(values.size())}, {bytes.begin(), bytes.end()}});
    };
    add_rest(prefix + "input_layernorm.weight", block.block.input_norm);
    add_rest(prefix + "post_attention_layernorm.weight", block.block.post_attention_norm);
    for (const linear kind : all_linears) {
        const std::string name = prefix + name_of(kind);
        if (has_bias(model_->config(), kind)) add_rest(name + ".bias", block.block.bias(kind));
        if (!settings_.format->pack) continue;
        for (packed_tensor& tensor : settings_.format->pack(name, block.layers[static_cast<std::size_t>(kind)].quantized.value()))
            packed.push_back(std::move(tensor));
    }
    std::vector<tensor_to_write> views;
    for (const packed_tensor& tensor : packed) views.push_back(tensor.view());
    return write_safetensors(weights_file(layer + 1), std::move(views));
}

/// A block that is not stored as such: its linear layers from their codes, the rest from the file of the rest.
llama_block output_folder::read_packed_block(std::int64_t layer) const {
    const safetensors_file codes(block_file(layer, ".safetensors"));
    const model_tensors rest = model_tensors::of_file(weights_file(layer + 1));
    const std::string prefix = block_prefix(layer);
    const auto read = [&](const std::string& name, std::int64_t size) {
        row_f values(size);
        rest.read(prefix + name, {static_cast<std::uint64_t>(size)}, numbers(values));
        return values;
    };
    llama_block block;
    block.input_norm = read("input_layernorm.weight", model_->config().hidden_size);
    block.post_attention_norm = read("post_attention_layernorm.weight", model_->config().hidden_size);
    for (const linear kind : all_linears) {
        const auto [rows, cols] = shape_of(model_->config(), kind);
        const magr::matrix<float> values = read_codes(codes, layer, kind).dequantize();
        if (values.rows() != rows || values.cols() != cols) refuse(codes.path().string(), ": ", name_of(kind), " has another shape");
        block[kind] = Eigen::Map<const matrix_f>(values.data(), rows, cols);
        if (has_bias(model_->config(), kind)) block.bias(kind) = read(name_of(kind) + std::string(".bias"), rows);
    }
    return block;
}

void output_folder::complete() const {
    if (settings_.format->write)
        settings_.format->write({*model_, [this](std::int64_t block) { return read_packed_block(block); },
                                 [this](std::int64_t block, linear kind) {
                                     return read_codes(safetensors_file(block_file(block, ".safetensors")), block, kind);
                                 }},
                                how_, settings_, path_);
    else
        write_index();
}

/// Says which tensor is where, and with that makes the folder a model.
void output_folder::write_index() const {
    ordered_json places = ordered_json::object();
    std::uint64_t size = 0;
    for (std::int64_t part = 0; part <= model_->config().num_hidden_layers; ++part) {
        const safetensors_file written(weights_file(part));
        for (const auto& [name, info] : written.tensors()) {
            places[name] = written.path().filename().string();
            size += info.end - info.begin;
        }
    }
    const fs::path file = path_ / index_name;
    const std::string text = text_of({{"metadata", {{"total_size", size}}}, {"weight_map", places}});
    if (index_ && index_ != text) report(file, changed_contents);
    if (!difference_from(file, text)) return;
    prepare_to_replace(file);
    write_text(file, text);
}

/// Finds out how far an earlier run has come, while all that it has left is there.
void output_folder::look_around() {
    if (is_there(path_ / index_name)) {
        try {
            index_ = read_file(path_ / index_name, longest_json);
        } catch (const input_error&) {
            index_.emplace();  // which is not what was written
        }
        blocks_before_ = model_->config().num_hidden_layers;
    }
    for (std::int64_t layer = model_->config().num_hidden_layers; layer > 0 && blocks_before_ == 0; --layer)
        if (is_there(block_file(layer - 1, ".json"))) blocks_before_ = layer;
}

/// Says that a file of an earlier run is not as it was.
void output_folder::report(const fs::path& file, const std::string& reason) const {
    damaged_(one_line(file.string(), ": ", reason, "; it is made again"));
}

/// Whether a safetensors file is what an earlier run has written. Says so if not.
bool output_folder::is_as_written(const fs::path& file, const file_digest& digest) const {
    const std::optional<std::string> reason = difference_from(file, digest);
    if (reason) report(file, *reason);
    return !reason;
}

/// Takes the index away, so that no reader takes the folder for a model while a file of it is written again.
void output_folder::unfinish() const {
    std::error_code error;
    fs::remove(path_ / index_name, error);
    if (error) refuse((path_ / index_name).string(), ": cannot be removed: ", error.message());
}

/// Before a file is written: while that goes on, the folder is no model, and what a link in its place leads to is not of this run.
void output_folder::prepare_to_replace(const fs::path& file) const {
    unfinish();
    std::error_code error;
    if (fs::is_symlink(file, error)) fs::remove(file, error);
    if (error && error != std::errc::no_such_file_or_directory) refuse(file.string(), ": cannot be replaced: ", error.message());
}

/// Writes a file unless it is there already, as it should be.
void output_folder::write_again(const fs::path& file, const std::string& text) const {
    const std::optional<std::string> difference = difference_from(file, text);
    if (!difference) return;
    if (is_there(file) || blocks_before_ > 0) report(file, *difference);
    prepare_to_replace(file);
    write_text(file, text);
}

bool output_folder::is_dequantized() const { return !settings_.format->pack && !settings_.format->write; }

/// Of what is not packed. The writers of other files decide about the type themselves.
magr::storage_type output_folder::rest_type() const { return settings_.format->write ? magr::storage_type::f32 : settings_.weights; }

/// Of the tensors that are in no block, or of a block: in other formats than those of Hugging Face only what a run needs to go on.
fs::path output_folder::weights_file(std::int64_t part) const {
    if (settings_.format->write) return block_file(part - 1, "-rest.safetensors");
    return path_ / ("model-" + five_digits(part + 1) + "-of-" + five_digits(model_->config().num_hidden_layers + 1) + ".safetensors");
}

fs::path output_folder::block_file(std::int64_t layer, const char* extension) const {
    return path_ / "codes" / ("block-" + five_digits(layer) + extension);
}

/// What is not in blocks: configuration, tokenizer, and the tensors that stay as they are.
void output_folder::copy_model_files() const {
    ordered_json config = ordered_json::parse(read_file(model_->path() / "config.json", longest_json));
    const output_format& format = *settings_.format;
    const char* const type = settings_.weights == magr::storage_type::f16    ? "float16"
                             : settings_.weights == magr::storage_type::bf16 ? "bfloat16"
                                                                             : "float32";
    if (format.pack && !config.contains("dtype")) config["torch_dtype"] = type;
    for (const char* key : {"torch_dtype", "dtype"})  // in which engines keep the weights: a coarser type would round them once more
        if (config.contains(key)) config[key] = type;
    if (format.configure) format.configure(config, how_);
    write_again(path_ / "config.json", text_of(config));
    if (format.configuration_copy) write_again(path_ / format.configuration_copy, text_of(config.at("quantization_config")));
    for (const fs::path& name : companions(model_->path())) {
        const fs::path file = model_->path() / name;
        const std::string contents = read_file(file, longest_json);
        if (const auto kind = mistaken_kind(contents); !kind.empty()) refuse(file.string(), ": is ", kind);
        if (name.has_parent_path()) made(path_ / name.parent_path());
        write_again(path_ / name, contents);
    }

    std::vector<tensor_to_write> rest;
    std::vector<std::vector<std::byte>> memory;
    const model_tensors& tensors = model_->tensors();
    for (const std::string& name : tensors.names()) {
        if (name.starts_with("model.layers.")) continue;
        rest.push_back(as_it_was(tensors.file_of(name), name));
        if (is_dequantized() || is_table(name)) continue;
        std::vector<float> values = tensors.file_of(name).read(name);
        const std::span<const std::byte> bytes = stored_bytes(values, name, rest_type(), memory.emplace_back());
        if (memory.back().empty()) memory.back().assign(bytes.begin(), bytes.end());
        rest.back().dtype = dtype_of(rest_type());
        rest.back().bytes = memory.back();
    }
    const bool was_begun = is_there(weights_file(0)) || blocks_before_ > 0;
    if (!was_begun || !is_as_written(weights_file(0), digest_of(rest))) {
        prepare_to_replace(weights_file(0));
        write_safetensors(weights_file(0), rest);
    }
    if (is_dequantized())
        for (const tensor_to_write& tensor : rest) tensors.file_of(tensor.name).release(tensor.bytes);
}

std::vector<fs::path> companions(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code error;
    const auto collect = [&](const fs::path& below, const auto& is_one) {
        const fs::path place = below.empty() ? folder : folder / below;
        for (fs::directory_iterator entry(place, error), end; !error && entry != end; entry.increment(error)) {
            std::error_code unknown;  // of a link to nothing, which is collected: whoever reads it says so
            if (is_one(entry->path().filename().string()) && !entry->is_directory(unknown))
                found.push_back(below / entry->path().filename());
        }
        if (error) refuse(place.string(), ": cannot be read: ", error.message());
    };
    collect("", is_companion);
    if (fs::is_directory(folder / more_templates, error))
        collect(more_templates, [](const std::string& name) { return name.ends_with(".jinja"); });
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace examples
