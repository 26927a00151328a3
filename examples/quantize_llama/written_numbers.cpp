// SPDX-License-Identifier: MIT
#include "quantize_llama/written_numbers.hpp"

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace examples {
namespace {

/// Rounds numbers to a type, and puts their bytes in that type into `memory`.
template <class T>
void round_to(std::span<float> values, const std::string& name, std::vector<std::byte>& memory) {
    memory.resize(values.size() * sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const T value = static_cast<T>(values[i]);
        values[i] = static_cast<float>(value);
        if (!std::isfinite(values[i]))
            throw std::runtime_error(name + " has a weight that is too large for the type given with --out-dtype");
        std::memcpy(memory.data() + i * sizeof(T), &value, sizeof(T));
    }
}

}  // namespace

const char* dtype_of(magr::storage_type type) {
    return type == magr::storage_type::f16 ? "F16" : type == magr::storage_type::bf16 ? "BF16" : "F32";
}

float rounded_to(float value, magr::storage_type type) {
    if (type == magr::storage_type::f16) return static_cast<float>(static_cast<Eigen::half>(value));
    if (type == magr::storage_type::bf16) return static_cast<float>(static_cast<Eigen::bfloat16>(value));
    return value;
}

std::span<const std::byte> stored_bytes(std::span<float> values, const std::string& name, magr::storage_type type,
                                        std::vector<std::byte>& memory) {
    if (type == magr::storage_type::f16)
        round_to<Eigen::half>(values, name, memory);
    else if (type == magr::storage_type::bf16)
        round_to<Eigen::bfloat16>(values, name, memory);
    else
        return std::as_bytes(values);
    return memory;
}

}  // namespace examples
