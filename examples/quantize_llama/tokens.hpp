// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "quantize_llama/config.hpp"

namespace examples {

/// The ids of one text. Each sequence is computed and scored on its own, from its first id on.
using sequence = std::vector<token>;

/// Reads a file of token ids: little-endian uint16 (`.u16`) or uint32 (`.u32`), where 0xFFFF or 0xFFFFFFFF begins each sequence.
///
/// Of a sequence longer than `config.max_position_embeddings` ids the rest is left out: the model has not learned later positions.
/// Reading stops after `limit` ids, of which there is at least one.
/// @throws input_error  naming file and position: an id outside of the vocabulary, an empty sequence, a file of another kind
[[nodiscard]] std::vector<sequence> read_sequences(const std::filesystem::path& file, const llama_config& config, std::int64_t limit);

/// All ids of all sequences.
[[nodiscard]] std::int64_t count_tokens(std::span<const sequence> sequences);

/// Consecutive sequences that are computed together.
struct chunk {
    std::size_t first = 0;
    std::size_t count = 0;
};

/// Splits sequences into chunks of at most `tokens` ids, or of one sequence that alone is longer. The chunks depend on nothing else, in
/// particular not on the number of threads; this is what makes results reproducible.
[[nodiscard]] std::vector<chunk> split_into_chunks(std::span<const sequence> sequences, std::int64_t tokens = 1024);

}  // namespace examples
