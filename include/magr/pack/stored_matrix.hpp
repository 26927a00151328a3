// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include <magr/grid/storage_type.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Matrix of numbers in their storage type, as the bytes of a file.
struct stored_matrix {
    storage_type type = storage_type::f32;  ///< f32, f16 or bf16
    index_t rows = 0;
    index_t cols = 0;
    std::vector<std::uint8_t> bytes;  ///< row-major, little-endian

    [[nodiscard]] bool empty() const noexcept { return bytes.empty(); }
    friend bool operator==(const stored_matrix&, const stored_matrix&) = default;
};

}  // namespace magr
