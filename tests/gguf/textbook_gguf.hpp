// SPDX-License-Identifier: MIT
// Reads weights from blocks of ggml one by one, each by the definition of its type. Written to be read, without the tables that pack them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <magr/gguf/gguf.hpp>

#include "pack/samples.hpp"

namespace textbook {

/// Weight j of a block.
inline double weight_in_block(magr::ggml_type type, const std::uint8_t* b, std::size_t j) {
    using enum magr::ggml_type;
    const auto nibble = [](unsigned byte, bool high) { return high ? byte >> 4 : byte & 15; };
    const std::size_t chunk = j / 128, plane = j % 128 / 32, l = j % 32;  // of the types with 256 weights
    switch (type) {
        case q4_0: return half_at(b) * (static_cast<double>(nibble(b[2 + j % 16], j >= 16)) - 8);
        case q4_1: return half_at(b) * nibble(b[4 + j % 16], j >= 16) + half_at(b + 2);
        case q5_0: return half_at(b) * (static_cast<double>(nibble(b[6 + j % 16], j >= 16) + 16U * (b[2 + j / 8] >> j % 8 & 1U)) - 16);
        case q5_1: return half_at(b) * (nibble(b[8 + j % 16], j >= 16) + 16U * (b[4 + j / 8] >> j % 8 & 1U)) + half_at(b + 2);
        case q8_0: return half_at(b) * static_cast<std::int8_t>(b[2 + j]);
        case q2_0: return half_at(b) * ((b[2 + j / 4] >> 2 * (j % 4) & 3) - 1);
        case q2_k: {
            const unsigned pair = b[j / 16];
            const int code = b[16 + 32 * chunk + l] >> 2 * plane & 3;
            return half_at(b + 80) * (pair & 15) * code - half_at(b + 82) * (pair >> 4);
        }
        case q3_k: {
            const std::size_t g = j / 16;
            const unsigned low = nibble(b[96 + g % 8], g >= 8), high = b[104 + g % 4] >> 2 * (g / 4) & 3U;
            const int scale = static_cast<int>(low + 16 * high) - 32;
            const bool has_high_bit = (b[l] >> (4 * chunk + plane) & 1) != 0;
            const int code = (b[32 + 32 * chunk + l] >> 2 * plane & 3) - (has_high_bit ? 0 : 4);
            return half_at(b + 108) * scale * code;
        }
        case q4_k:
        case q5_k: {
            const std::size_t g = j / 32;
            const auto s = [b](std::size_t at) { return unsigned{b[4 + at]}; };
            const unsigned scale = g < 4 ? s(g) & 63 : (s(g + 4) & 15) | (s(g - 4) >> 6) << 4;
            const unsigned offset = g < 4 ? s(g + 4) & 63 : (s(g + 4) >> 4) | (s(g) >> 6) << 4;
            unsigned code = nibble(b[(type == q4_k ? 16 : 48) + 32 * (j / 64) + l], j % 64 >= 32);
            if (type == q5_k) code += 16U * (b[16 + l] >> g & 1U);
            return half_at(b) * scale * code - half_at(b + 2) * offset;
        }
        case q6_k: {
            const unsigned low = nibble(b[64 * chunk + j % 64], plane >= 2);
            const unsigned high = b[128 + 32 * chunk + l] >> 2 * plane & 3U;
            return half_at(b + 208) * static_cast<std::int8_t>(b[192 + j / 16]) * (static_cast<int>(low + 16 * high) - 32);
        }
    }
    return NAN;
}

/// All weights, from blocks with this many weights and bytes.
inline magr::matrix<float> gguf_weights(const magr::gguf_tensor& t, magr::index_t weights, magr::index_t bytes) {
    magr::matrix<float> out(t.rows, t.cols);
    for (magr::index_t i = 0; i < t.rows; ++i)
        for (magr::index_t j = 0; j < t.cols; ++j) {
            const std::uint8_t* block = t.data.data() + (i * (t.cols / weights) + j / weights) * bytes;
            out(i, j) = static_cast<float>(weight_in_block(t.type, block, static_cast<std::size_t>(j % weights)));
        }
    return out;
}

}  // namespace textbook
