// SPDX-License-Identifier: MIT
#include "quantize_llama/codes_file.hpp"

#include <algorithm>
#include <cstring>
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
    if (info.dtype != dtype || info.shape.size() != 2) refuse(file.path().string(), ": tensor ", name, ": is no matrix of ", dtype);
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
                                {"zero_point", to_string(q.zero_point)},
                                {"storage", to_string(q.storage)},
                                {"group_size", q.group_size},
                                {"shared_groups", q.shared.groups}};
    }
    const quantized& any = layers.front().quantized.value();
    const char* const weight_is = any.zero_point == magr::zero_point::offset ? "scale * code + zero" : "scale * (code - zero)";
    return write_safetensors(file, std::move(tensors),
                             {{"bits", std::to_string(any.bits)}, {"weight", weight_is}, {"weight_grids", grids.dump()}});
}

quantized read_codes(const safetensors_file& file, std::int64_t block, linear kind) {
    const std::string name = block_prefix(block) + name_of(kind), path = file.path().string();
    const auto grids = file.metadata().find("weight_grids");
    if (grids == file.metadata().end()) refuse(path, ": metadata: weight_grids is missing");
    const json all = parse_json_object(grids->second, path + ": metadata: weight_grids");
    quantized q;
    try {
        const json& grid = all.at(name_of(kind));
        q.bits = grid.at("bits").get<int>();
        q.zero_point = named(grid.at("zero_point"), zero_points, path);
        q.storage = named(grid.at("storage"), stored_types, path);
        q.group_size = grid.at("group_size").get<magr::index_t>();
        q.shared.groups = grid.at("shared_groups").get<magr::index_t>();
    } catch (const json::exception&) {
        refuse(path, ": metadata: weight_grids: ", name_of(kind), " is not as it was written");
    }
    q.codes = matrix_of<std::uint8_t>(file, name + ".qweight", "U8");
    q.scales = matrix_of<float>(file, name + ".scales", "F32");
    q.zeros = matrix_of<float>(file, name + ".zeros", "F32");
    const std::span<const std::byte> groups = file.bytes(name + ".group_index");
    std::vector<std::int32_t> index(groups.size() / sizeof(std::int32_t));
    if (!groups.empty()) std::memcpy(index.data(), groups.data(), groups.size());
    q.group_of_column.assign(index.begin(), index.end());
    if (q.shared.groups > 0) {
        q.shared.scales = matrix_of<float>(file, name + ".shared_scales", "F32");
        q.shared.scale_codes = matrix_of<std::int8_t>(file, name + ".scale_codes", "I8");
        q.shared.offsets = matrix_of<float>(file, name + ".shared_offsets", "F32");
        q.shared.offset_codes = matrix_of<std::uint8_t>(file, name + ".offset_codes", "U8");
    }
    return q;
}

}  // namespace examples
