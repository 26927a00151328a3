// SPDX-License-Identifier: MIT
#include "common/content_hash.hpp"

#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

using examples::content_hash;

namespace {

std::string hash(const std::vector<std::string>& parts) {
    content_hash h;
    for (const std::string& part : parts) h.add(part);
    return h.text();
}

}  // namespace

TEST_CASE("content_hash: every bit, every length and every boundary matters", "[examples][content_hash]") {
    std::set<std::string> seen;
    std::size_t count = 0;
    const auto add = [&](const std::vector<std::string>& parts) {
        seen.insert(hash(parts));
        ++count;
    };
    for (std::size_t length = 0; length < 40; ++length) add({std::string(length, '\0')});
    const std::string text = "some text of 27 characters.";
    for (std::size_t i = 0; i < text.size(); ++i)
        for (int bit = 0; bit < 8; ++bit) {
            std::string changed = text;
            changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
            add({changed});
        }
    for (std::size_t i = 0; i <= text.size(); ++i) add({text.substr(0, i), text.substr(i)});
    add({text});
    // the highest bits of two words, which a product by an odd number alone leaves in place
    std::string highest(16, '\0');
    highest[7] = highest[15] = '\x80';
    add({highest});
    CHECK(seen.size() == count);
    CHECK(hash({text}) == hash({text}));
    CHECK(hash({text}).size() == 16);
}
