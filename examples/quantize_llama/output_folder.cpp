// SPDX-License-Identifier: MIT
#include "quantize_llama/output_folder.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <limits>
#include <magr/version.hpp>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/content_hash.hpp"
#include "common/error.hpp"
#include "common/file_kind.hpp"
#include "common/json.hpp"
#include "common/output_file.hpp"
#include "common/text_stream.hpp"
#include "quantize_llama/safetensors.hpp"

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

const char* dtype_of(magr::storage_type type) {
    return type == magr::storage_type::f16 ? "F16" : type == magr::storage_type::bf16 ? "BF16" : "F32";
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
    return name == manifest_name || name == index_name || name == "config.json" || is_companion(name) ||
           (name.starts_with("model") && name.ends_with(".safetensors"));
}

std::string text_of(const ordered_json& value) { return value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n"; }

/// Everything that decides the bits of the result. An unset option is null.
ordered_json options_of(const quantization& how, magr::storage_type weights) {
    // All members, so that a new one cannot be forgotten.
    const auto& [method, bits, group_size, alpha, beta, damping, solver, order, zero_point, storage, range, target, refinement_rounds,
                 drift, effort, activation_bits] = how;
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
            {"out_dtype", to_string(weights)}};
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
            const float stored = type == magr::storage_type::f16 ? static_cast<float>(static_cast<Eigen::half>(largest))
                                                                 : static_cast<float>(static_cast<Eigen::bfloat16>(largest));
            if (!std::isfinite(stored))
                refuse("--out-dtype ", to_string(type), ": ", block_prefix(layer), name_of(kind), " has a weight of ", largest,
                       ", which is too large for it");
        }
    }
}

/// Rounds W to a type, and puts its bytes in that type into `memory`.
template <class T>
void round_to(matrix_f& W, const std::string& name, std::vector<std::byte>& memory) {
    memory.resize(static_cast<std::size_t>(W.size()) * sizeof(T));
    for (Eigen::Index i = 0; i < W.size(); ++i) {
        const T value = static_cast<T>(W.data()[i]);
        W.data()[i] = static_cast<float>(value);
        if (!std::isfinite(W.data()[i]))
            throw std::runtime_error(name + " has a weight that is too large for the type given with --out-dtype");
        std::memcpy(memory.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
    }
}

/// The bytes of W in a type, to which W is rounded. Where they are not those of W itself, they are in `memory`.
std::span<const std::byte> stored(matrix_f& W, const std::string& name, magr::storage_type type, std::vector<std::byte>& memory) {
    if (type == magr::storage_type::f16)
        round_to<Eigen::half>(W, name, memory);
    else if (type == magr::storage_type::bf16)
        round_to<Eigen::bfloat16>(W, name, memory);
    else
        return std::as_bytes(std::span(W.data(), static_cast<std::size_t>(W.size())));
    return memory;
}

template <class T>
tensor_to_write tensor_of(std::string name, const char* dtype, const magr::matrix<T>& m) {
    return {std::move(name),
            dtype,
            {static_cast<std::uint64_t>(m.rows()), static_cast<std::uint64_t>(m.cols())},
            std::as_bytes(std::span(m.data(), static_cast<std::size_t>(m.rows() * m.cols())))};
}

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
                          magr::storage_type weights) {
    model_ = &model;
    weights_ = weights;
    is_tuned_ = how.method == method::automatic && how.effort > 1;
    const ordered_json manifest{{"program", program_name()},
                                {"model", hash_of(model)},
                                {"calibration", hash_of(calibration)},
                                {"options", options_of(how, weights)}};
    const fs::path file = path_ / manifest_name;
    look_around();
    if (fs::exists(file)) {
        require_same_run(parse_json_object(read_file(file, longest_json), file.string()), json(manifest), path_.string());
        const fs::path other = path_ / "model.safetensors";  // which readers prefer to the files of a run
        if (fs::exists(other)) refuse(other.string(), ": is not a file of the run in this folder");
        write_again(file, text_of(manifest));  // the same run, but maybe not the same bytes
    } else {
        require_range(model, weights);
        write_text(file, text_of(manifest));
    }
    made(path_ / "codes");
    copy_model_files();
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
        result.block = read_block(model_tensors::of_file(weights), model_->config(), layer);
        return result;
    } catch (const input_error&) {
    } catch (const json::exception&) {
    }
    report(file, changed_contents);
    return {};
}

void output_folder::write(std::int64_t layer, quantized_block& block) {
    const std::string prefix = block_prefix(layer);
    std::vector<tensor_to_write> weights, codes;
    std::array<std::vector<std::byte>, all_linears.size()> memory;
    std::array<std::vector<std::int32_t>, all_linears.size()> groups;
    ordered_json records = ordered_json::array();
    for (const linear kind : all_linears) {
        const std::string name = prefix + name_of(kind);
        const auto at = static_cast<std::size_t>(kind);
        const magr::quantized_matrix<float>& q = block.layers[at].quantized.value();
        weights.push_back({name + ".weight",
                           dtype_of(weights_),
                           {static_cast<std::uint64_t>(q.codes.rows()), static_cast<std::uint64_t>(q.codes.cols())},
                           stored(block.block[kind], name, weights_, memory[at])});
        codes.push_back(tensor_of(name + ".qweight", "U8", q.codes));
        codes.push_back(tensor_of(name + ".scales", "F32", q.scales));
        codes.push_back(tensor_of(name + ".zeros", "F32", q.zeros));
        groups[at].assign(q.group_of_column.begin(), q.group_of_column.end());
        codes.push_back({name + ".group_index", "I32", {groups[at].size()}, std::as_bytes(std::span(groups[at]))});
        records.push_back(json_of(block.layers[at].record));
    }
    const auto is_quantized = [&](const std::string& name) {
        return std::any_of(weights.begin(), weights.begin() + std::ssize(all_linears),
                           [&](const auto& tensor) { return tensor.name == name; });
    };
    const auto tuned_norm = [&](const std::string& name) -> const row_f* {
        if (!is_tuned_ || !name.starts_with(prefix)) return nullptr;
        if (name == prefix + "input_layernorm.weight") return &block.block.input_norm;
        return name == prefix + "post_attention_layernorm.weight" ? &block.block.post_attention_norm : nullptr;
    };
    for (const std::string& name : model_->tensors().names()) {
        if (const row_f* const norm = tuned_norm(name))
            weights.push_back({name,
                               "F32",
                               {static_cast<std::uint64_t>(norm->size())},
                               std::as_bytes(std::span<const float>(norm->data(), static_cast<std::size_t>(norm->size())))});
        else if (name.starts_with(prefix) && !is_quantized(name))
            weights.push_back(as_it_was(model_->tensors().file_of(name), name));
    }

    const magr::quantized_matrix<float>& any = block.layers.front().quantized.value();
    const char* const weight_is = any.zero_point == magr::zero_point::offset ? "scale * code + zero" : "scale * (code - zero)";
    for (const fs::path& file : {weights_file(layer + 1), block_file(layer, ".safetensors"), block_file(layer, ".json")})
        prepare_to_replace(file);
    ordered_json record{{"layers", records}};
    record["weights"] = json_of(write_safetensors(weights_file(layer + 1), std::move(weights)));
    record["codes"] = json_of(write_safetensors(block_file(layer, ".safetensors"), std::move(codes),
                                                {{"bits", std::to_string(any.bits)}, {"weight", weight_is}}));
    record["hash"] = hash_of_record(record);
    write_text(block_file(layer, ".json"), text_of(record));
}

void output_folder::complete() const {
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

fs::path output_folder::weights_file(std::int64_t part) const {
    return path_ / ("model-" + five_digits(part + 1) + "-of-" + five_digits(model_->config().num_hidden_layers + 1) + ".safetensors");
}

fs::path output_folder::block_file(std::int64_t layer, const char* extension) const {
    return path_ / "codes" / ("block-" + five_digits(layer) + extension);
}

/// What is not in blocks: configuration, tokenizer, and the tensors that stay as they are.
void output_folder::copy_model_files() const {
    ordered_json config = ordered_json::parse(read_file(model_->path() / "config.json", longest_json));
    const char* const type = weights_ == magr::storage_type::f16    ? "float16"
                             : weights_ == magr::storage_type::bf16 ? "bfloat16"
                                                                    : "float32";
    for (const char* key : {"torch_dtype", "dtype"})  // in which engines keep the weights: a coarser type would round them once more
        if (config.contains(key)) config[key] = type;
    write_again(path_ / "config.json", text_of(config));
    for (const fs::path& name : companions(model_->path())) {
        const fs::path file = model_->path() / name;
        const std::string contents = read_file(file, longest_json);
        if (const auto kind = mistaken_kind(contents); !kind.empty()) refuse(file.string(), ": is ", kind);
        if (name.has_parent_path()) made(path_ / name.parent_path());
        write_again(path_ / name, contents);
    }

    std::vector<tensor_to_write> rest;
    const model_tensors& tensors = model_->tensors();
    for (const std::string& name : tensors.names())
        if (!name.starts_with("model.layers.")) rest.push_back(as_it_was(tensors.file_of(name), name));
    const bool was_begun = is_there(weights_file(0)) || blocks_before_ > 0;
    if (!was_begun || !is_as_written(weights_file(0), digest_of(rest))) {
        prepare_to_replace(weights_file(0));
        write_safetensors(weights_file(0), rest);
    }
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
