// SPDX-License-Identifier: MIT
#include "quantize_llama/tokens.hpp"

#include <algorithm>

#include "reading.hpp"

namespace {

constexpr std::int64_t everything = std::int64_t{1} << 40;

/// The result must be sequences that the model can compute, and with a limit the beginning of the same.
void read_all(const std::filesystem::path& path) {
    examples::llama_config config;
    config.vocab_size = 300;
    config.max_position_embeddings = 5;
    const auto checked = [&](std::int64_t limit) {
        const std::vector<examples::sequence> sequences = examples::read_sequences(path, config, limit);
        require(!sequences.empty() && examples::count_tokens(sequences) <= limit);
        for (const examples::sequence& s : sequences) {
            require(!s.empty() && std::ssize(s) <= config.max_position_embeddings);
            for (const examples::token id : s) require(id < config.vocab_size);
        }
        return sequences;
    };
    // in this order, because a limit may end the reading before the part that is refused
    for (const std::int64_t limit : {std::int64_t{1}, std::int64_t{7}}) static_cast<void>(checked(limit));
    const auto all = checked(everything);
    const auto some = checked(7);
    require(some.size() <= all.size());
    for (std::size_t i = 0; i < some.size(); ++i)
        require(some[i].size() <= all[i].size() && std::equal(some[i].begin(), some[i].end(), all[i].begin()));

    std::size_t next = 0;
    for (const examples::chunk& c : examples::split_into_chunks(all, 6)) {
        require(c.first == next && c.count >= 1);
        next += c.count;
    }
    require(next == all.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    read_or_refuse("ids.u16", text_of(data, size), read_all);
    read_or_refuse("ids.u32", text_of(data, size), read_all);
    return 0;
}
