// SPDX-License-Identifier: MIT
#include "quantize_llama/output_folder.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iomanip>
#include <magr/version.hpp>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "common/content_hash.hpp"
#include "common/error.hpp"
#include "common/json.hpp"
#include "quantize_llama/choices.hpp"
#include "quantize_llama/safetensors.hpp"

namespace examples {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* manifest_name = "quantization.json";
constexpr const char* index_name = "model.safetensors.index.json";
constexpr std::uint64_t longest_json = 1 << 30;

/// Makes the folder if it is not there.
const fs::path& made(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (!fs::is_directory(folder)) refuse(folder.string(), ": cannot be made: ", error.message());
    return folder;
}

std::string five_digits(std::int64_t number) {
    std::ostringstream text;
    text << std::setfill('0') << std::setw(5) << number;
    return text.str();
}

const char* dtype_of(magr::storage_type type) {
    return type == magr::storage_type::f16 ? "F16" : type == magr::storage_type::bf16 ? "BF16" : "F32";
}

void write_text(const fs::path& file, const std::string& text) { output_file(file).commit(text); }

std::string text_of(const ordered_json& value) { return value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n"; }

/// Everything that decides the bits of the result. An unset option is null.
ordered_json options_of(const quantization& how, magr::storage_type weights) {
    // All members, so that a new one cannot be forgotten.
    const auto& [method, bits, group_size, alpha, beta, damping, solver, order, zero_point, storage, range, target, refinement_rounds,
                 drift] = how;
    const auto optional = [](const auto& value) { return value ? ordered_json(*value) : ordered_json(); };
    return {{"method", name_of(method)},
            {"bits", bits},
            {"group_size", optional(group_size)},
            {"alpha", optional(alpha)},
            {"beta", beta},
            {"damping", optional(damping)},
            {"solver", name_in(solvers, solver)},
            {"order", name_in(column_orders, order)},
            {"zero_point", name_in(zero_points, zero_point)},
            {"storage", name_in(storage_types, storage)},
            {"range", range ? name_in(range_searches, *range) : "default"},
            {"target", name_in(rounding_targets, target)},
            {"refinement_rounds", refinement_rounds},
            {"drift", drift},
            {"out_dtype", name_in(storage_types, weights)}};
}

std::string program_name() {
#define MAGR_TEXT_OF(x) #x
#define MAGR_EXPANDED_TEXT_OF(x) MAGR_TEXT_OF(x)
    return "magr " MAGR_EXPANDED_TEXT_OF(MAGR_VERSION_MAJOR) "." MAGR_EXPANDED_TEXT_OF(MAGR_VERSION_MINOR) "." MAGR_EXPANDED_TEXT_OF(
        MAGR_VERSION_PATCH) " " MAGR_EXPANDED_TEXT_OF(MAGR_ISA_NAMESPACE);
#undef MAGR_EXPANDED_TEXT_OF
#undef MAGR_TEXT_OF
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
        constexpr std::size_t part = std::size_t{1} << 24;  // so that little is in memory at once
        const std::span<const std::byte> bytes = file.bytes(name);
        for (std::size_t begin = 0; begin < bytes.size(); begin += part) {
            const auto some = bytes.subspan(begin, std::min(part, bytes.size() - begin));
            hash.add(some);
            file.release(some);
        }
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
    const json options = before.value("options", json::object());
    for (const auto& [key, value] : now.at("options").items()) require(key, options.value(key, json()), value);
}

ordered_json json_of(const layer_record& record) {
    const auto& [name, output_error, alpha, largest_before, largest_after] = record;  // all members, as above
    return {{"name", name},
            {"output_error", output_error},
            {"alpha", alpha},
            {"largest_before", largest_before},
            {"largest_after", largest_after}};
}

layer_record record_of(const json& value) {
    return {.name = value.at("name"),
            .output_error = value.at("output_error"),
            .alpha = value.at("alpha"),
            .largest_before = value.at("largest_before"),
            .largest_after = value.at("largest_after")};
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

output_folder::output_folder(const fs::path& folder) : path_(folder), claim_(made(folder)) {
    if (fs::exists(path_ / manifest_name)) return;
    const std::string unfinished = std::string(manifest_name) + ".part";
    for (const auto& entry : fs::directory_iterator(path_))
        if (entry.path().filename() != unfinished) refuse(path_.string(), ": is not empty and holds no run of this program");
}

void output_folder::begin(const model_folder& model, std::span<const sequence> calibration, const quantization& how,
                          magr::storage_type weights) {
    model_ = &model;
    weights_ = weights;
    const ordered_json manifest{{"program", program_name()},
                                {"model", hash_of(model)},
                                {"calibration", hash_of(calibration)},
                                {"options", options_of(how, weights)}};
    const fs::path file = path_ / manifest_name;
    if (fs::exists(file))
        require_same_run(parse_json_object(read_file(file, longest_json), file.string()), json(manifest), path_.string());
    else
        write_text(file, text_of(manifest));
    made(path_ / "codes");
    copy_model_files();
    while (finished_ < model.config().num_hidden_layers && fs::exists(block_file(finished_, ".json"))) ++finished_;
}

finished_block output_folder::read(std::int64_t layer) const {
    finished_block result{read_block(model_tensors::of_file(weights_file(layer + 1)), model_->config(), layer), {}};
    const fs::path file = block_file(layer, ".json");
    const json object = parse_json_object(read_file(file, longest_json), file.string());
    try {
        for (const json& record : object.at("layers")) result.layers.push_back(record_of(record));
    } catch (const json::exception& error) {
        refuse(file.string(), ": ", error.what());
    }
    if (result.layers.size() != all_linears.size()) refuse(file.string(), ": has ", result.layers.size(), " layers");
    return result;
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
        const magr::quantized_matrix<float>& q = block.layers[at].quantized;
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
    for (const std::string& name : model_->tensors().names())
        if (name.starts_with(prefix) && !is_quantized(name)) weights.push_back(as_it_was(model_->tensors().file_of(name), name));

    const magr::quantized_matrix<float>& any = block.layers.front().quantized;
    const char* const weight_is = any.zero_point == magr::zero_point::offset ? "scale * code + zero" : "scale * (code - zero)";
    write_safetensors(weights_file(layer + 1), std::move(weights));
    write_safetensors(block_file(layer, ".safetensors"), std::move(codes), {{"bits", std::to_string(any.bits)}, {"weight", weight_is}});
    write_text(block_file(layer, ".json"), text_of({{"layers", records}}));
    finished_ = layer + 1;
}

void output_folder::complete() const {
    const fs::path file = path_ / index_name;
    if (fs::exists(file)) return;
    ordered_json places = ordered_json::object();
    std::uint64_t size = 0;
    for (std::int64_t part = 0; part <= model_->config().num_hidden_layers; ++part) {
        const safetensors_file written(weights_file(part));
        for (const auto& [name, info] : written.tensors()) {
            places[name] = written.path().filename().string();
            size += info.end - info.begin;
        }
    }
    write_text(file, text_of({{"metadata", {{"total_size", size}}}, {"weight_map", places}}));
}

fs::path output_folder::weights_file(std::int64_t part) const {
    return path_ / ("model-" + five_digits(part + 1) + "-of-" + five_digits(model_->config().num_hidden_layers + 1) + ".safetensors");
}

fs::path output_folder::block_file(std::int64_t layer, const char* extension) const {
    return path_ / "codes" / ("block-" + five_digits(layer) + extension);
}

/// What is not in blocks: configuration, tokenizer, and the tensors that stay as they are.
void output_folder::copy_model_files() const {
    if (!fs::exists(path_ / "config.json")) {
        ordered_json config = ordered_json::parse(read_file(model_->path() / "config.json", longest_json));
        const char* const type = weights_ == magr::storage_type::f16    ? "float16"
                                 : weights_ == magr::storage_type::bf16 ? "bfloat16"
                                                                        : "float32";
        for (const char* key : {"torch_dtype", "dtype"})  // in which engines keep the weights: a coarser type would round them once more
            if (config.contains(key)) config[key] = type;
        write_text(path_ / "config.json", text_of(config));
    }
    for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                             "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"})
        if (fs::exists(model_->path() / name) && !fs::exists(path_ / name))
            write_text(path_ / name, read_file(model_->path() / name, longest_json));
    if (fs::exists(weights_file(0))) return;
    std::vector<tensor_to_write> rest;
    const model_tensors& tensors = model_->tensors();
    for (const std::string& name : tensors.names())
        if (!name.starts_with("model.layers.")) rest.push_back(as_it_was(tensors.file_of(name), name));
    write_safetensors(weights_file(0), rest);
    for (const tensor_to_write& tensor : rest) tensors.file_of(tensor.name).release(tensor.bytes);
}

}  // namespace examples
