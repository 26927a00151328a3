// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include <magr/config.hpp>
#include <magr/gguf/gguf.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/pack/named_tensors.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// The one tensor of a layer in a GGUF file. Its type there is the number `packed.type`, and its dimensions come in the opposite order:
/// {cols, rows}.
[[nodiscard]] inline std::vector<named_tensor> named_tensors(const gguf_tensor& packed) {
    return {detail::tensor_of<std::uint8_t>("weight", to_string(packed.type), {packed.rows, packed.cols}, packed.data)};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
