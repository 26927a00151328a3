// SPDX-License-Identifier: MIT
#include "quantize_llama/safetensors.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>

#include "common/content_hash.hpp"
#include "common/decode_floats.hpp"
#include "common/error.hpp"
#include "common/file_kind.hpp"
#include "common/json.hpp"
#include "common/output_file.hpp"
#include "common/text_stream.hpp"

namespace examples {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are used as they lie in the file");

constexpr std::uint64_t longest_header = 100'000'000;  // the limit of the reference implementation

/// The format's element types. Of these, only F32, F16 and BF16 can be read.
struct dtype_size {
    std::string_view name;
    std::uint64_t bits;
};
constexpr std::array<dtype_size, 22> dtypes{
    {{"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8},
     {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},    {"U32", 32},    {"F32", 32},        {"C64", 64},
     {"F64", 64}, {"I64", 64}, {"U64", 64}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}}};

std::string shape_text(const std::vector<std::uint64_t>& shape) {
    text_stream text;
    text << '[';
    for (std::size_t i = 0; i < shape.size(); ++i) text << (i ? ", " : "") << shape[i];
    text << ']';
    return text.str();
}

/// a * b, or refuses with `what`.
std::uint64_t checked_product(std::uint64_t a, std::uint64_t b, const std::string& what) {
    if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) refuse(what, ": the number of elements overflows");
    return a * b;
}

std::uint64_t size_value(const json& value, const std::string& what) {
    if (!value.is_number_unsigned()) refuse(what, " must be a non-negative integer");
    return value.get<std::uint64_t>();
}

/// null is taken for none, as the reference implementation does.
std::map<std::string, std::string> parse_metadata(const json& metadata, const std::string& file) {
    if (metadata.is_null()) return {};
    if (!metadata.is_object()) refuse(file, ": __metadata__ is not an object");
    std::map<std::string, std::string> texts;
    for (const auto& entry : metadata.items()) {
        if (!entry.value().is_string()) refuse(file, ": __metadata__: a value is not a string");
        texts.emplace(entry.key(), entry.value().get<std::string>());
    }
    return texts;
}

/// One entry of the header; offsets become absolute.
tensor_info parse_entry(const json& entry, std::uint64_t data_begin, const std::string& what) {
    if (!entry.is_object()) refuse(what, ": not an object");
    for (const char* key : {"dtype", "shape", "data_offsets"})
        if (!entry.contains(key)) refuse(what, ": ", key, " is missing");

    tensor_info info{};
    const json& dtype = entry.at("dtype");
    if (!dtype.is_string()) refuse(what, ": dtype is not a string");
    info.dtype = dtype.get<std::string>();
    const auto size = std::find_if(dtypes.begin(), dtypes.end(), [&](const dtype_size& d) { return d.name == info.dtype; });
    if (size == dtypes.end()) refuse(what, ": unknown dtype ", dtype.dump(-1, ' ', true));

    if (!entry.at("shape").is_array()) refuse(what, ": shape is not an array");
    std::uint64_t bits = 1;
    for (const json& dimension : entry.at("shape")) {
        info.shape.push_back(size_value(dimension, what + ": shape"));
        bits = checked_product(bits, info.shape.back(), what);
    }
    bits = checked_product(bits, size->bits, what);
    if (bits % 8 != 0) refuse(what, ": ", bits, " bits do not fill whole bytes");

    const json& offsets = entry.at("data_offsets");
    if (!offsets.is_array() || offsets.size() != 2) refuse(what, ": data_offsets must be two integers");
    const std::uint64_t begin = size_value(offsets[0], what + ": data_offsets");
    const std::uint64_t end = size_value(offsets[1], what + ": data_offsets");
    if (end < begin) refuse(what, ": data_offsets end before they begin (", begin, ", ", end, ")");
    if (end > std::numeric_limits<std::uint64_t>::max() - data_begin) refuse(what, ": data_offsets overflow");
    if (end - begin != bits / 8)
        refuse(what, ": data_offsets span ", end - begin, " bytes, shape ", shape_text(info.shape), " of ", info.dtype, " needs ",
               bits / 8);
    info.begin = data_begin + begin;
    info.end = data_begin + end;
    return info;
}

/// Refuses gaps, overlaps and bytes that belong to no tensor.
void check_coverage(const std::map<std::string, tensor_info>& tensors, std::uint64_t data_begin, std::uint64_t file_size,
                    const std::string& file) {
    std::vector<const std::pair<const std::string, tensor_info>*> by_offset;
    for (const auto& entry : tensors) by_offset.push_back(&entry);
    std::sort(by_offset.begin(), by_offset.end(), [](const auto* a, const auto* b) {
        return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    std::uint64_t covered = data_begin;
    for (const auto* entry : by_offset) {
        const auto& [name, info] = *entry;
        if (info.begin != covered)
            refuse(file, ": tensor ", name, ": begins at offset ", info.begin - data_begin, ", where ", covered - data_begin,
                   " was expected (", info.begin < covered ? "an overlap" : "a hole", ")");
        covered = info.end;
    }
    if (covered != file_size) refuse(file, ": has ", file_size, " bytes, the tensors end at ", covered);
}

std::uint64_t bits_of(std::string_view dtype) {
    return std::find_if(dtypes.begin(), dtypes.end(), [&](const dtype_size& d) { return d.name == dtype; })->bits;
}

/// Bytes of an element.
std::size_t width_of(const tensor_info& info) { return static_cast<std::size_t>(bits_of(info.dtype) / 8); }

/// Refuses a tensor that cannot be read as float.
void require_weights(const tensor_info& info, const std::string& what) {
    if (info.dtype != "F32" && info.dtype != "F16" && info.dtype != "BF16")
        refuse(what, ": the type must be F32, F16 or BF16, it is ", info.dtype);
}

}  // namespace

safetensors_file::safetensors_file(const std::filesystem::path& path) : file_(path) {
    const std::string name = path.string();
    constexpr std::uint64_t length_size = 8;
    const std::span<const std::byte> file = file_.bytes();
    if (file.size() < length_size) refuse(name, ": too short for a safetensors file (", file.size(), " bytes)");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), length_size);
    if (length > file.size() - length_size) {
        const std::string_view text(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 64));
        if (const auto kind = mistaken_kind(text); !kind.empty()) refuse(name, ": is ", kind);
        if (std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }))
            refuse(name, ": is no safetensors file but a text: ", text);
    }
    if (length > longest_header) refuse(name, ": a header of ", length, " bytes is longer than the ", longest_header, " that are allowed");
    if (length > file.size() - length_size) refuse(name, ": a header of ", length, " bytes does not fit into the file's ", file.size());
    const std::string_view header(reinterpret_cast<const char*>(file.data() + length_size), static_cast<std::size_t>(length));
    if (!header.starts_with('{')) refuse(name, ": the header does not begin with '{'");

    const std::uint64_t data_begin = length_size + length;
    const json entries = parse_json_object(header, name);
    for (const auto& [key, entry] : entries.items()) {
        if (key == "__metadata__")
            metadata_ = parse_metadata(entry, name);
        else
            tensors_.emplace(key, parse_entry(entry, data_begin, name + ": tensor " + key));
    }
    check_coverage(tensors_, data_begin, file.size(), name);
}

std::span<const std::byte> safetensors_file::bytes(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) refuse(path().string(), ": tensor ", name, ": missing");
    const tensor_info& info = found->second;
    return file_.bytes().subspan(static_cast<std::size_t>(info.begin), static_cast<std::size_t>(info.end - info.begin));
}

void safetensors_file::read(const std::string& name, std::span<float> values) const {
    const std::span<const std::byte> source = bytes(name);
    const tensor_info& info = tensors_.at(name);
    require_weights(info, path().string() + ": tensor " + name);
    const std::size_t width = width_of(info);
    constexpr std::size_t part = std::size_t{1} << 20;  // elements, so that not all of the bytes and the values are in memory at once
    for (std::size_t first = 0; first < values.size(); first += part) {
        const std::span<float> some = values.subspan(first, std::min(part, values.size() - first));
        const std::span<const std::byte> from = source.subspan(first * width, some.size() * width);
        const std::size_t bad = info.dtype == "F32"   ? decode_floats<float>(from, some)
                                : info.dtype == "F16" ? decode_floats<Eigen::half>(from, some)
                                                      : decode_floats<Eigen::bfloat16>(from, some);
        release(from);
        if (bad != some.size())
            refuse(path().string(), ": tensor ", name, ": element ", first + bad, " of shape ", shape_text(info.shape), " is not finite");
    }
}

file_digest safetensors_file::digest() const {
    std::vector<const tensor_info*> in_order;
    for (const auto& entry : tensors_) in_order.push_back(&entry.second);
    std::sort(in_order.begin(), in_order.end(),
              [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
    const std::span<const std::byte> file = file_.bytes();
    content_hash hash;
    hash.add(file.first(static_cast<std::size_t>(in_order.empty() ? file.size() : in_order.front()->begin)));
    for (const tensor_info* info : in_order)
        hash.add_in_parts(file.subspan(static_cast<std::size_t>(info->begin), static_cast<std::size_t>(info->end - info->begin)),
                          [&](std::span<const std::byte> part) { release(part); });
    return {file.size(), hash.text()};
}

std::vector<float> safetensors_file::read(const std::string& name) const {
    const std::size_t size = bytes(name).size();
    const tensor_info& info = tensors_.at(name);
    require_weights(info, path().string() + ": tensor " + name);
    std::vector<float> values(size / width_of(info));
    read(name, values);
    return values;
}

model_tensors::model_tensors(const std::filesystem::path& folder) {
    const std::filesystem::path single = folder / "model.safetensors";
    const std::filesystem::path index = folder / "model.safetensors.index.json";
    if (std::filesystem::exists(single)) {
        add_all(single);
        return;
    }
    if (!std::filesystem::exists(index)) refuse(folder.string(), ": has neither model.safetensors nor model.safetensors.index.json");

    index_ = index;
    const std::string name = index.string();
    const json object = parse_json_object(read_file(index, longest_header), name);
    const auto map = object.find("weight_map");
    if (map == object.end() || !map->is_object()) refuse(name, ": weight_map is not an object");
    std::map<std::string, std::size_t> opened;
    for (const auto& [tensor, place] : map->items()) {
        if (!place.is_string()) refuse(name, ": weight_map: the file of ", tensor, " is not a string");
        const std::filesystem::path file = place.get<std::string>();
        if (file.empty() || file != file.filename() || file == "." || file == "..")
            refuse(name, ": weight_map: ", place.dump(-1, ' ', true), " is not the name of a file in the same folder");
        const auto [known, is_new] = opened.emplace(file.string(), files_.size());
        if (is_new) add(folder / file);
        if (!files_[known->second]->tensors().contains(tensor))
            refuse((folder / file).string(), ": tensor ", tensor, " of the index is missing");
        places_.emplace(tensor, known->second);
    }
    for (std::size_t f = 0; f < files_.size(); ++f)
        for (const auto& entry : files_[f]->tensors()) {
            const auto place = places_.find(entry.first);
            if (place == places_.end() || place->second != f)
                refuse(files_[f]->path().string(), ": tensor ", entry.first, " is not assigned to this file by the index");
        }
}

model_tensors model_tensors::of_file(const std::filesystem::path& file) {
    model_tensors tensors;
    tensors.add_all(file);
    return tensors;
}

std::vector<std::string> model_tensors::names() const {
    std::vector<std::string> all;
    for (const auto& entry : places_) all.push_back(entry.first);
    return all;
}

std::vector<std::filesystem::path> model_tensors::files() const {
    std::vector<std::filesystem::path> all;
    for (const auto& file : files_) all.push_back(file->path());
    if (!index_.empty()) all.push_back(index_);
    return all;
}

const safetensors_file& model_tensors::file_of(const std::string& name) const {
    const auto place = places_.find(name);
    if (place == places_.end()) refuse(files_.empty() ? "model" : files_.front()->path().string(), ": tensor ", name, " is missing");
    return *files_[place->second];
}

void model_tensors::require(const std::string& name, const std::vector<std::uint64_t>& shape) const {
    const safetensors_file& file = file_of(name);
    const tensor_info& info = file.tensors().at(name);
    if (info.shape != shape)
        refuse(file.path().string(), ": tensor ", name, " has shape ", shape_text(info.shape), ", config.json asks for ",
               shape_text(shape));
    require_weights(info, file.path().string() + ": tensor " + name);
}

void model_tensors::read(const std::string& name, const std::vector<std::uint64_t>& shape, std::span<float> values) const {
    require(name, shape);
    file_of(name).read(name, values);
}

void model_tensors::add(const std::filesystem::path& path) { files_.push_back(std::make_unique<safetensors_file>(path)); }

void model_tensors::add_all(const std::filesystem::path& path) {
    add(path);
    for (const auto& entry : files_.back()->tensors()) places_.emplace(entry.first, files_.size() - 1);
}

namespace {

/// Hands the bytes of a file of these tensors to `sink`, from the first to the last, and digests them.
template <class Sink>
file_digest emit(std::vector<tensor_to_write> tensors, const std::map<std::string, std::string>& metadata, const Sink& sink) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const tensor_to_write& a, const tensor_to_write& b) {
        return std::pair(bits_of(b.dtype), std::string_view(a.name)) < std::pair(bits_of(a.dtype), std::string_view(b.name));
    });
    nlohmann::ordered_json header;
    header["__metadata__"] = metadata;
    header["__metadata__"]["format"] = "pt";
    std::uint64_t end = 0;
    for (const tensor_to_write& tensor : tensors) {
        const std::uint64_t begin = std::exchange(end, end + tensor.bytes.size());
        header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = text.size();
    text.insert(0, reinterpret_cast<const char*>(&length), sizeof length);

    content_hash hash;
    hash.add(text);
    sink(std::as_bytes(std::span(text)));
    for (const tensor_to_write& tensor : tensors) hash.add_in_parts(tensor.bytes, sink);
    return {text.size() + end, hash.text()};
}

}  // namespace

file_digest write_safetensors(const std::filesystem::path& path, std::vector<tensor_to_write> tensors,
                              const std::map<std::string, std::string>& metadata) {
    output_file file(path);
    const file_digest digest = emit(std::move(tensors), metadata, [&](std::span<const std::byte> bytes) { file.append(bytes); });
    file.commit();
    return digest;
}

file_digest digest_of(std::vector<tensor_to_write> tensors) {
    return emit(std::move(tensors), {}, [](std::span<const std::byte>) {});
}

}  // namespace examples
