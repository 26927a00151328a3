// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <magr/grid/storage_type.hpp>
#include <span>
#include <string>
#include <vector>

namespace examples {

/// How a safetensors file calls f32, f16 or bf16.
[[nodiscard]] const char* dtype_of(magr::storage_type type);

/// Rounds a number to f32, f16 or bf16; to an infinity if it is too large.
[[nodiscard]] float rounded_to(float value, magr::storage_type type);

/// The bytes of numbers in a type, to which they are rounded. Where they are not those of the numbers themselves, they are in `memory`.
/// @param name  of the tensor
/// @throws std::runtime_error  if a number is too large for that type
[[nodiscard]] std::span<const std::byte> stored_bytes(std::span<float> values, const std::string& name, magr::storage_type type,
                                                      std::vector<std::byte>& memory);

}  // namespace examples
