// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <magr/gguf/gguf_block.hpp>
#include <magr/grid/grid.hpp>
#include <string>

#include "quantize_llama/config.hpp"
#include "quantize_llama/model.hpp"

namespace examples {

/// Which types of ggml the matrices of a model have, by the names of llama.cpp. Most of those without a letter at the end
/// have one type for all linear layers; the others give some layers more bits: small ones (s), medium ones (m), large ones (l).
enum class gguf_mix { q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m, q6_k };

struct gguf_mix_traits {
    gguf_mix value;
    const char* name;
    magr::ggml_type type;     ///< of most linear layers
    std::uint32_t file_type;  ///< general.file_type in files
};
inline constexpr std::array gguf_mixes{gguf_mix_traits{gguf_mix::q4_0, "q4_0", magr::ggml_type::q4_0, 2},
                                       gguf_mix_traits{gguf_mix::q4_1, "q4_1", magr::ggml_type::q4_1, 3},
                                       gguf_mix_traits{gguf_mix::q5_0, "q5_0", magr::ggml_type::q5_0, 8},
                                       gguf_mix_traits{gguf_mix::q5_1, "q5_1", magr::ggml_type::q5_1, 9},
                                       gguf_mix_traits{gguf_mix::q8_0, "q8_0", magr::ggml_type::q8_0, 7},
                                       gguf_mix_traits{gguf_mix::q2_k, "q2_k", magr::ggml_type::q2_k, 10},
                                       gguf_mix_traits{gguf_mix::q3_k_s, "q3_k_s", magr::ggml_type::q3_k, 11},
                                       gguf_mix_traits{gguf_mix::q3_k_m, "q3_k_m", magr::ggml_type::q3_k, 12},
                                       gguf_mix_traits{gguf_mix::q3_k_l, "q3_k_l", magr::ggml_type::q3_k, 13},
                                       gguf_mix_traits{gguf_mix::q4_k_s, "q4_k_s", magr::ggml_type::q4_k, 14},
                                       gguf_mix_traits{gguf_mix::q4_k_m, "q4_k_m", magr::ggml_type::q4_k, 15},
                                       gguf_mix_traits{gguf_mix::q5_k_s, "q5_k_s", magr::ggml_type::q5_k, 16},
                                       gguf_mix_traits{gguf_mix::q5_k_m, "q5_k_m", magr::ggml_type::q5_k, 17},
                                       gguf_mix_traits{gguf_mix::q6_k, "q6_k", magr::ggml_type::q6_k, 18}};

[[nodiscard]] constexpr const gguf_mix_traits& traits_of(gguf_mix mix) { return gguf_mixes[static_cast<std::size_t>(mix)]; }
[[nodiscard]] constexpr const char* to_string(gguf_mix mix) { return traits_of(mix).name; }

/// Weights that a block of this type holds, and its bytes.
struct ggml_block {
    std::uint64_t weights, bytes;
};
[[nodiscard]] ggml_block block_of(magr::ggml_type type);

/// The grids of a type; those of k-quants are `magr::fit_k_quant_grids`', of which this has the bits and group size.
[[nodiscard]] magr::grid_options grid_options_of(magr::ggml_type type);

/// Whether grids of this type are products of shared scales, those of `magr::fit_k_quant_grids`.
[[nodiscard]] constexpr bool is_k_quant(magr::ggml_type type) { return type >= magr::ggml_type::q2_k && type <= magr::ggml_type::q6_k; }

/// The type of a matrix, and the one in whose place it is taken because its rows are no multiple of 256.
struct chosen_type {
    magr::ggml_type type, wanted;

    /// What a report says about a substitute; empty if it is none.
    [[nodiscard]] std::string remark(std::int64_t inputs) const;

    friend bool operator==(const chosen_type&, const chosen_type&) = default;
};

/// This type, or for a k-quant and rows that are no multiple of 256 the type that llama.cpp takes then.
[[nodiscard]] chosen_type type_for_rows(magr::ggml_type wanted, std::int64_t inputs);

/// The type of a linear layer, as llama.cpp's own program chooses it; for q4_0 and q5_0 with an importance matrix, which gives the first
/// eighth of the down projections offsets, and for the others without one.
[[nodiscard]] chosen_type type_in_mix(gguf_mix mix, const llama_config& config, std::int64_t layer, linear kind);

/// The types that llama.cpp's own program takes for the embedding, and for the head or the one matrix that is both.
[[nodiscard]] magr::ggml_type embedding_type_in_mix(gguf_mix mix, const llama_config& config);
[[nodiscard]] magr::ggml_type head_type_in_mix(gguf_mix mix, const llama_config& config);

/// Refuses a model with rows that fill no blocks of any type.
/// @throws input_error  naming the layer
void require_rows_of_blocks(gguf_mix mix, const llama_config& config);

}  // namespace examples
