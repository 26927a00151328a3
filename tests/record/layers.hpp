// SPDX-License-Identifier: MIT
// The layers of the record. All numbers are integers times powers of two and all sums over tokens are exact. So the layers have the same
// bits for every compiler and instruction set, and differences in a record come from the library alone.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace record {

/// A row-major matrix that needs nothing from the library.
struct table {
    std::ptrdiff_t rows = 0, cols = 0;
    std::vector<double> values = {};

    table() = default;
    table(std::ptrdiff_t m, std::ptrdiff_t n) : rows(m), cols(n), values(static_cast<std::size_t>(m * n)) {}
    double& operator()(std::ptrdiff_t i, std::ptrdiff_t j) { return values[static_cast<std::size_t>(i * cols + j)]; }
    double operator()(std::ptrdiff_t i, std::ptrdiff_t j) const { return values[static_cast<std::size_t>(i * cols + j)]; }
};

struct layer {
    std::string name;
    table W;           ///< out x in
    table X;           ///< inputs, tokens x in
    table drifted;     ///< the same tokens after layers that were quantized
    table H;           ///< X^T X
    table validation;  ///< X^T X of other tokens
};

/// The layer of this name; made once. See layers.cpp for the names.
[[nodiscard]] const layer& layer_of(const std::string& name);

/// All layers that are small enough for every method, in a fixed order.
[[nodiscard]] const std::vector<std::string>& small_layers();

}  // namespace record
