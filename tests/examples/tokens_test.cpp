// SPDX-License-Identifier: MIT
#include "quantize_llama/tokens.hpp"

#include <string>

#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"
#include "tiny_llama.hpp"

using namespace examples;

namespace {

constexpr std::int64_t everything = std::int64_t{1} << 40;

template <class Id>
std::string ids(std::initializer_list<Id> values) {
    std::string bytes;
    for (const Id value : values) bytes += tiny::bytes_of(value);
    return bytes;
}

std::string ids16(std::initializer_list<std::uint16_t> values) { return ids(values); }

}  // namespace

TEST_CASE("read_sequences: both widths give the same sequences", "[examples][tokens]") {
    const scratch_folder folder;
    const std::vector<sequence> expected{{1, 5, 39}, {1}, {7, 7}};
    CHECK(read_sequences(folder.write("a.u16", ids16({0xFFFF, 1, 5, 39, 0xFFFF, 1, 0xFFFF, 7, 7})), tiny::config(), everything) ==
          expected);
    CHECK(read_sequences(folder.write("a.u32", ids<std::uint32_t>({~0u, 1, 5, 39, ~0u, 1, ~0u, 7, 7})), tiny::config(), everything) ==
          expected);
}

TEST_CASE("read_sequences: later positions than the model knows are left out, and ids after the limit", "[examples][tokens]") {
    const scratch_folder folder;
    llama_config config = tiny::config();
    config.max_position_embeddings = 3;
    const auto path = folder.write("a.u16", ids16({0xFFFF, 1, 2, 3, 4, 5, 0xFFFF, 6, 7}));
    CHECK(read_sequences(path, config, everything) == std::vector<sequence>{{1, 2, 3}, {6, 7}});
    CHECK(read_sequences(path, config, 4) == std::vector<sequence>{{1, 2, 3}, {6}});
    CHECK(read_sequences(path, config, 3) == std::vector<sequence>{{1, 2, 3}});
    CHECK(read_sequences(path, config, 2) == std::vector<sequence>{{1, 2}});
}

TEST_CASE("read_sequences: a bad file is refused with the position", "[examples][tokens]") {
    const scratch_folder folder;
    const auto refused = [&](const std::string& name, const std::string& contents) {
        const auto path = folder.write(name, contents);
        const std::string message = refusal([&] { return read_sequences(path, tiny::config(), everything); });
        CHECK(message.starts_with(path.string()));
        return message;
    };
    CHECK_THAT(refused("a.txt", ids16({0xFFFF, 1})), mentions("must be named *.u16 or *.u32"));
    CHECK_THAT(refused("a.u16", ""), mentions("empty"));
    CHECK_THAT(refused("a.u16", ids16({0xFFFF, 1}) + "x"), mentions("5 bytes are not a whole number of 2-byte ids"));
    CHECK_THAT(refused("a.u16", ids16({1, 2})), mentions("must begin with the separator"));
    CHECK_THAT(refused("a.u16", ids16({0xFFFF, 1, 40})), mentions("id 40 at position 2 is not below the vocabulary size 40"));
    CHECK_THAT(refused("a.u16", ids16({0xFFFF, 0xFFFF, 1})), mentions("before position 1 is empty"));
    CHECK_THAT(refused("a.u16", ids16({0xFFFF, 1, 0xFFFF})), mentions("the last sequence is empty"));
    CHECK_THAT(refused("a.u32", ids16({0xFFFF, 1})), mentions("must begin with the separator"));
    CHECK_THAT(refusal([&] { return read_sequences(folder.path() / "none.u16", tiny::config(), 1); }), mentions("no such file"));
}

TEST_CASE("split_into_chunks: consecutive whole sequences, together no longer than asked", "[examples][tokens]") {
    const std::vector<sequence> texts = tiny::texts(tiny::config(), {3, 4, 5, 20, 1, 1, 9});
    const std::vector<chunk> chunks = split_into_chunks(texts, 10);
    std::vector<std::size_t> counts;
    std::size_t next = 0;
    for (const chunk& c : chunks) {
        CHECK(c.first == next);
        next += c.count;
        counts.push_back(c.count);
    }
    CHECK(next == texts.size());
    CHECK(counts == std::vector<std::size_t>{2, 1, 1, 2, 1});
    CHECK(count_tokens(texts) == 43);
}
