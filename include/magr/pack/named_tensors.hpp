// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <magr/config.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/awq.hpp>
#include <magr/pack/compressed_tensors.hpp>
#include <magr/pack/dint.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/pack/matmul_nbits.hpp>
#include <magr/pack/mlx.hpp>
#include <magr/pack/stored_matrix.hpp>

namespace magr {

/// One tensor of a packed layer, as a file of any container stores it. It refers to the layer's memory, and is valid as long as the layer
/// exists unchanged.
struct named_tensor {
    std::string_view name;             ///< what follows the layer's name in files, without the dot: "qweight"
    std::string_view type;             ///< as safetensors names it, "I32" or "F16"; in a GGUF file as `to_string(ggml_type)` does
    std::vector<index_t> shape;        ///< outermost dimension first
    std::span<const std::byte> bytes;  ///< row-major, little-endian
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// @par Errors    option_error on big-endian machines, unless elements are bytes
template <class T>
[[nodiscard]] named_tensor tensor_of(std::string_view name, std::string_view type, std::vector<index_t> shape,
                                     std::span<const T> elements) {
    if constexpr (std::endian::native != std::endian::little && sizeof(T) > 1)
        raise<option_error>("named_tensors: words must lie in memory as they do in files, this machine is big-endian");
    return {name, type, std::move(shape), std::as_bytes(elements)};
}

template <class T>
[[nodiscard]] named_tensor tensor_of(std::string_view name, std::string_view type, const matrix<T>& m) {
    return tensor_of<T>(name, type, {m.rows(), m.cols()}, {m.data(), static_cast<std::size_t>(m.rows() * m.cols())});
}

[[nodiscard]] inline named_tensor tensor_of(std::string_view name, const stored_matrix& m) {
    const std::string_view type = m.type == storage_type::f16 ? "F16" : m.type == storage_type::bf16 ? "BF16" : "F32";
    return tensor_of<std::uint8_t>(name, type, {m.rows, m.cols}, m.bytes);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// The tensors of a packed layer that its format has, in the order of the members; those that are absent, such as `weight_g_idx` of
/// neighbouring inputs, are left out. For GGUF see `gguf/named_tensors.hpp`.
///
///   for (const auto& [name, type, shape, bytes] : magr::named_tensors(packed)) add(name, type, shape, bytes);
///
/// Numbers that are no tensors, such as bits and group size, belong in the model's configuration.
///
/// @pre           packed is a result of the packer, or passes the unpacker
/// @par Cost      O(1), no bytes are copied
/// @par Errors    option_error on big-endian machines, where words of more than one byte do not lie in memory as files have them
[[nodiscard]] inline std::vector<named_tensor> named_tensors(const gptq_tensors& packed) {
    return {detail::tensor_of("qweight", "I32", packed.qweight), detail::tensor_of("qzeros", "I32", packed.qzeros),
            detail::tensor_of("scales", "F16", packed.scales),
            detail::tensor_of<std::int32_t>("g_idx", "I32", {static_cast<index_t>(packed.g_idx.size())}, packed.g_idx)};
}

[[nodiscard]] inline std::vector<named_tensor> named_tensors(const awq_tensors& packed) {
    return {detail::tensor_of("qweight", "I32", packed.qweight), detail::tensor_of("qzeros", "I32", packed.qzeros),
            detail::tensor_of("scales", "F16", packed.scales)};
}

[[nodiscard]] inline std::vector<named_tensor> named_tensors(const compressed_tensors_weight& packed) {
    std::vector<named_tensor> tensors = {detail::tensor_of("weight_packed", "I32", packed.weight_packed),
                                         detail::tensor_of("weight_scale", packed.weight_scale)};
    if (!packed.weight_zero_point.empty()) tensors.push_back(detail::tensor_of("weight_zero_point", "I32", packed.weight_zero_point));
    tensors.push_back(detail::tensor_of<std::int64_t>("weight_shape", "I64", {2}, packed.weight_shape));
    if (!packed.weight_g_idx.empty())
        tensors.push_back(detail::tensor_of<std::int32_t>("weight_g_idx", "I32", {static_cast<index_t>(packed.weight_g_idx.size())},
                                                          packed.weight_g_idx));
    return tensors;
}

/// Names and shapes are those of the operator's inputs: B is N x blocks * (bytes of a block).
[[nodiscard]] inline std::vector<named_tensor> named_tensors(const matmul_nbits_tensors& packed) {
    named_tensor B = detail::tensor_of("B", "U8", packed.B);
    B.shape = {packed.N, packed.scales.cols, packed.block_size * packed.bits / 8};
    std::vector<named_tensor> tensors = {std::move(B), detail::tensor_of("scales", packed.scales)};
    if (!packed.zero_points.empty()) tensors.push_back(detail::tensor_of("zero_points", "U8", packed.zero_points));
    if (!packed.real_zero_points.empty()) tensors.push_back(detail::tensor_of("zero_points", packed.real_zero_points));
    return tensors;
}

[[nodiscard]] inline std::vector<named_tensor> named_tensors(const mlx_tensors& packed) {
    return {detail::tensor_of("weight", "U32", packed.weight), detail::tensor_of("scales", packed.scales),
            detail::tensor_of("biases", packed.biases)};
}

/// Names are those of the members. A file must also say that the format is `packed.format`.
[[nodiscard]] inline std::vector<named_tensor> named_tensors(const dint_tensors& packed) {
    return {detail::tensor_of("codes", "U8", packed.codes), detail::tensor_of("scales", packed.scales),
            detail::tensor_of("zero_points", "U8", packed.zero_points)};
}

}  // namespace MAGR_ISA_NAMESPACE

/// A temporary is gone before its tensors are used.
template <class Packed>
void named_tensors(const Packed&& packed) = delete;

}  // namespace magr
