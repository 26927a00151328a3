// SPDX-License-Identifier: MIT
#include "quantize_llama/codes_file.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <magr/grid/require_quantized.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/error.hpp"
#include "common/json.hpp"
#include "quantize_llama/choices.hpp"

namespace examples {
namespace {

using nlohmann::ordered_json;
using quantized = magr::quantized_matrix<float>;

template <class T>
tensor_to_write tensor_of(std::string name, const char* dtype, const magr::matrix<T>& m) {
    return {std::move(name),
            dtype,
            {static_cast<std::uint64_t>(m.rows()), static_cast<std::uint64_t>(m.cols())},
            std::as_bytes(std::span(m.data(), static_cast<std::size_t>(m.rows() * m.cols())))};
}

template <class T>
magr::matrix<T> matrix_of(const safetensors_file& file, const std::string& name, const char* dtype) {
    const std::span<const std::byte> bytes = file.bytes(name);
    const tensor_info& info = file.tensors().at(name);
    const auto is_too_large = [](std::uint64_t size) { return size > std::numeric_limits<std::uint32_t>::max(); };  // beside one of 0
    if (info.dtype != dtype || info.shape.size() != 2 || std::any_of(info.shape.begin(), info.shape.end(), is_too_large))
        refuse(file.path().string(), ": tensor ", name, ": is no matrix of ", dtype);
    magr::matrix<T> m(static_cast<magr::index_t>(info.shape[0]), static_cast<magr::index_t>(info.shape[1]));
    if (!bytes.empty()) std::memcpy(m.data(), bytes.data(), bytes.size());
    return m;
}

template <class Enum, std::size_t count>
Enum named(const json& name, const std::array<Enum, count>& choices, const std::string& file) {
    const auto found = std::find_if(choices.begin(), choices.end(), [&](Enum choice) { return name == to_string(choice); });
    if (found == choices.end()) refuse(file, ": metadata: unknown ", name.dump());
    return *found;
}

/// A whole number from 0 to `largest`.
std::int32_t count_of(const json& value, std::int32_t largest, const std::string& what) {
    if (!value.is_number_integer() || value < 0 || value > largest) refuse(what, ": ", value.dump(), " is no number from 0 to ", largest);
    return value.get<std::int32_t>();
}

/// Refuses factors of scales that are not those of as many groups.
void require_shared(const quantized& q, const std::string& what) {
    const auto& shared = q.shared;
    const magr::index_t blocks = q.scales.cols() / shared.groups;
    const auto has_shape = [&](const auto& m, magr::index_t cols) { return m.rows() == q.rows() && m.cols() == cols; };
    const bool has_offsets = q.zero_point == magr::zero_point::offset;
    if (q.scales.cols() % shared.groups != 0 || !has_shape(shared.scales, blocks) || !has_shape(shared.scale_codes, q.scales.cols()) ||
        (has_offsets && (!has_shape(shared.offsets, blocks) || !has_shape(shared.offset_codes, q.scales.cols()))))
        refuse(what, ": the factors of its scales are not those of ", q.rows(), " rows with ", q.scales.cols(), " groups");
}

constexpr std::array stored_types{magr::storage_type::native, magr::storage_type::f32, magr::storage_type::f16, magr::storage_type::bf16};

}  // namespace

file_digest write_codes(const std::filesystem::path& file, std::int64_t block,
                        const std::array<quantized_layer, all_linears.size()>& layers) {
    std::vector<tensor_to_write> tensors;
    std::array<std::vector<std::int32_t>, all_linears.size()> groups;
    ordered_json grids = ordered_json::object();
    for (const linear kind : all_linears) {
        const auto at = static_cast<std::size_t>(kind);
        const std::string name = block_prefix(block) + name_of(kind);
        const quantized& q = layers[at].quantized.value();
        tensors.push_back(tensor_of(name + ".qweight", "U8", q.codes));
        tensors.push_back(tensor_of(name + ".scales", "F32", q.scales));
        tensors.push_back(tensor_of(name + ".zeros", "F32", q.zeros));
        groups[at].assign(q.group_of_column.begin(), q.group_of_column.end());
        tensors.push_back({name + ".group_index", "I32", {groups[at].size()}, std::as_bytes(std::span(groups[at]))});
        if (q.shared.groups > 0) {
            tensors.push_back(tensor_of(name + ".shared_scales", "F32", q.shared.scales));
            tensors.push_back(tensor_of(name + ".scale_codes", "I8", q.shared.scale_codes));
            tensors.push_back(tensor_of(name + ".shared_offsets", "F32", q.shared.offsets));
            tensors.push_back(tensor_of(name + ".offset_codes", "U8", q.shared.offset_codes));
        }
        grids[name_of(kind)] = {{"bits", q.bits},
                                {"weight", q.zero_point == magr::zero_point::offset ? "scale * code + zero" : "scale * (code - zero)"},
                                {"zero_point", to_string(q.zero_point)},
                                {"storage", to_string(q.storage)},
                                {"group_size", q.group_size},
                                {"shared_groups", q.shared.groups}};
    }
    return write_safetensors(file, std::move(tensors), {{"weight_grids", grids.dump()}});
}

quantized read_codes(const safetensors_file& file, std::int64_t block, linear kind) {
    const std::string name = block_prefix(block) + name_of(kind), path = file.path().string();
    const auto grids = file.metadata().find("weight_grids");
    if (grids == file.metadata().end()) refuse(path, ": metadata: weight_grids is missing");
    const json all = parse_json_object(grids->second, path + ": metadata: weight_grids");
    constexpr std::int32_t largest = std::numeric_limits<std::int32_t>::max();
    quantized q;
    try {
        const json& grid = all.at(name_of(kind));
        q.bits = count_of(grid.at("bits"), 8, path + ": metadata: bits");
        q.zero_point = named(grid.at("zero_point"), zero_points, path);
        q.storage = named(grid.at("storage"), stored_types, path);
        q.group_size = count_of(grid.at("group_size"), largest, path + ": metadata: group_size");
        q.shared.groups = count_of(grid.at("shared_groups"), largest, path + ": metadata: shared_groups");
    } catch (const json::exception&) {
        refuse(path, ": metadata: weight_grids: ", name_of(kind), " is not as it was written");
    }
    q.codes = matrix_of<std::uint8_t>(file, name + ".qweight", "U8");
    q.scales = matrix_of<float>(file, name + ".scales", "F32");
    q.zeros = matrix_of<float>(file, name + ".zeros", "F32");
    const std::span<const std::byte> groups = file.bytes(name + ".group_index");
    const tensor_info& group_index = file.tensors().at(name + ".group_index");
    if (group_index.dtype != "I32" || group_index.shape.size() != 1) refuse(path, ": tensor ", name, ".group_index: is no vector of I32");
    std::vector<std::int32_t> index(groups.size() / sizeof(std::int32_t));
    if (!groups.empty()) std::memcpy(index.data(), groups.data(), groups.size());
    q.group_of_column.assign(index.begin(), index.end());
    if (q.shared.groups > 0) {
        q.shared.scales = matrix_of<float>(file, name + ".shared_scales", "F32");
        q.shared.scale_codes = matrix_of<std::int8_t>(file, name + ".scale_codes", "I8");
        q.shared.offsets = matrix_of<float>(file, name + ".shared_offsets", "F32");
        q.shared.offset_codes = matrix_of<std::uint8_t>(file, name + ".offset_codes", "U8");
        require_shared(q, path + ": " + name);
    }
    try {
        magr::require_quantized(name.c_str(), q, q.codes.rows(), q.codes.cols());
    } catch (const std::logic_error& error) {
        refuse(path, ": ", error.what());
    }
    return q;
}

}  // namespace examples
