// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

/// A message of Protocol Buffers in the making: the bytes of its fields, in the order in which they are added. Large contents are not
/// copied before they are written.
class protobuf_message {
public:
    /// int32, int64 or an enum.
    void add(int field, std::int64_t value) {
        add_key(field, 0);
        add_varint(static_cast<std::uint64_t>(value));
    }

    /// A string.
    void add(int field, std::string_view text) {
        add_length(field, text.size());
        last_text() += text;
        size_ += text.size();
    }

    /// bytes, which must exist until the message is written.
    void add(int field, std::span<const std::byte> contents) {
        add_length(field, contents.size());
        pieces_.push_back({{}, contents});
        size_ += contents.size();
    }

    /// A message within this one.
    void add(int field, protobuf_message message) {
        add_length(field, message.size_);
        for (piece& p : message.pieces_) pieces_.push_back(std::move(p));
        size_ += message.size_;
    }

    /// Hands all bytes to `sink`, from the first to the last.
    template <class Sink>
    void write(const Sink& sink) const {
        for (const piece& p : pieces_) {
            sink(std::as_bytes(std::span(p.text)));
            sink(p.contents);
        }
    }

private:
    struct piece {
        std::string text;
        std::span<const std::byte> contents;  // they follow the text
    };

    std::string& last_text() {
        if (pieces_.empty() || !pieces_.back().contents.empty()) pieces_.emplace_back();
        return pieces_.back().text;
    }

    /// Seven bits in each byte, the lowest first. The eighth bit says that more follow.
    void add_varint(std::uint64_t value) {
        std::string& text = last_text();
        const std::size_t before = text.size();
        for (; value > 127; value >>= 7) text += static_cast<char>((value & 127) | 128);
        text += static_cast<char>(value);
        size_ += text.size() - before;
    }

    void add_key(int field, unsigned wire_type) { add_varint(static_cast<std::uint64_t>(field) << 3 | wire_type); }

    void add_length(int field, std::size_t length) {
        add_key(field, 2);
        add_varint(length);
    }

    std::vector<piece> pieces_;
    std::size_t size_ = 0;
};

}  // namespace examples
