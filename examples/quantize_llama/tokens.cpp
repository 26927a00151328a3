// SPDX-License-Identifier: MIT
#include "quantize_llama/tokens.hpp"

#include <algorithm>
#include <string>

#include "common/error.hpp"
#include "common/file_kind.hpp"
#include "common/files.hpp"

namespace examples {

std::vector<sequence> read_sequences(const std::filesystem::path& file, const llama_config& config, std::int64_t limit) {
    const std::string name = file.string();
    const std::string extension = file.extension().string();
    if (extension != ".u16" && extension != ".u32") refuse(name, ": a file of token ids must be named *.u16 or *.u32");
    const std::size_t width = extension == ".u16" ? 2 : 4;
    const token separator = width == 2 ? 0xFFFFu : 0xFFFFFFFFu;
    constexpr std::uint64_t longest_file = std::uint64_t{1} << 34;
    const std::string bytes = read_file(file, longest_file);
    if (bytes.empty()) refuse(name, ": the file is empty");
    if (const auto kind = mistaken_kind(bytes); !kind.empty()) refuse(name, ": is ", kind);
    if (bytes.size() % width != 0) refuse(name, ": ", bytes.size(), " bytes are not a whole number of ", width, "-byte ids");

    std::vector<sequence> sequences;
    std::int64_t kept = 0;
    for (std::size_t i = 0; i < bytes.size() / width && kept < limit; ++i) {
        token id = 0;
        for (std::size_t b = 0; b < width; ++b) id |= static_cast<token>(static_cast<unsigned char>(bytes[i * width + b])) << (8 * b);
        if (id == separator) {
            if (!sequences.empty() && sequences.back().empty()) refuse(name, ": the sequence before position ", i, " is empty");
            sequences.emplace_back();
            continue;
        }
        if (sequences.empty()) refuse(name, ": must begin with the separator ", separator, ", it begins with ", id);
        if (id >= static_cast<std::uint64_t>(config.vocab_size))
            refuse(name, ": id ", id, " at position ", i, " is not below the vocabulary size ", config.vocab_size);
        if (std::ssize(sequences.back()) == config.max_position_embeddings) continue;
        sequences.back().push_back(id);
        ++kept;
    }
    if (sequences.back().empty()) refuse(name, ": the last sequence is empty");
    return sequences;
}

std::int64_t count_tokens(std::span<const sequence> sequences) {
    std::int64_t total = 0;
    for (const sequence& s : sequences) total += std::ssize(s);
    return total;
}

std::vector<chunk> split_into_chunks(std::span<const sequence> sequences, std::int64_t tokens) {
    std::vector<chunk> chunks;
    std::int64_t filled = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        const std::int64_t length = std::ssize(sequences[i]);
        if (chunks.empty() || filled + length > tokens) {
            chunks.push_back({i, 0});
            filled = 0;
        }
        ++chunks.back().count;
        filled += length;
    }
    return chunks;
}

}  // namespace examples
