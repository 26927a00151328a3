// SPDX-License-Identifier: MIT
#include "quantize_llama/text_decoder.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/json.hpp"

namespace examples {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";          // U+FFFD
constexpr std::string_view sentencepiece_space = "\xE2\x96\x81";  // U+2581
constexpr std::string_view alphabet_space = "\xC4\xA0";           // U+0120, how GPT-2's alphabet writes a space

void append_utf8(std::string& text, std::uint32_t code) {
    const auto byte = [&](std::uint32_t value) { text.push_back(static_cast<char>(value)); };
    if (code < 0x80) {
        byte(code);
    } else if (code < 0x800) {
        byte(0xC0 | code >> 6);
        byte(0x80 | (code & 0x3F));
    } else {
        byte(0xE0 | code >> 12);
        byte(0x80 | (code >> 6 & 0x3F));
        byte(0x80 | (code & 0x3F));
    }
}

/// Length of the valid UTF-8 sequence that begins at `at`, 0 if there is none.
std::size_t utf8_length(std::string_view bytes, std::size_t at) {
    const auto byte = [&](std::size_t i) { return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u; };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xC2 && first < 0xE0   ? 2
                               : first >= 0xE0 && first < 0xF0 ? 3
                               : first >= 0xF0 && first < 0xF5 ? 4
                                                               : 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    const bool out_of_range = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0) ||
                              (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) >= 0x90);
    return out_of_range ? 0 : length;
}

/// GPT-2's alphabet: each byte as a printable character. Bytes that are printable in Latin-1 stand for themselves, the others follow
/// from U+0100 on.
std::map<std::string, char> byte_alphabet() {
    std::map<std::string, char> alphabet;
    std::uint32_t next = 0x100;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        std::string character;
        append_utf8(character, itself ? byte : next++);
        alphabet.emplace(character, static_cast<char>(byte));
    }
    return alphabet;
}

/// A piece written in the alphabet of bytes.
std::string decode_alphabet(std::string_view piece, const std::map<std::string, char>& alphabet) {
    std::string bytes;
    for (std::size_t i = 0; i < piece.size();) {
        const std::size_t length = std::max<std::size_t>(utf8_length(piece, i), 1);
        const auto character = alphabet.find(std::string(piece.substr(i, length)));
        bytes += character == alphabet.end() ? std::string(piece.substr(i, length)) : std::string(1, character->second);
        i += length;
    }
    return bytes;
}

/// The byte that a piece <0xNN> stands for.
std::optional<char> decode_byte_fallback(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || !piece.ends_with('>')) return {};
    int value = 0;
    for (const char digit : piece.substr(3, 2)) {
        const int nibble = digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
        if (nibble < 0) return {};
        value = 16 * value + nibble;
    }
    return static_cast<char>(value);
}

std::string decode_sentencepiece(std::string_view piece) {
    if (const auto byte = decode_byte_fallback(piece)) return {*byte};
    std::string text;
    for (std::size_t at; (at = piece.find(sentencepiece_space)) != std::string_view::npos;
         piece.remove_prefix(at + sentencepiece_space.size())) {
        text += piece.substr(0, at);
        text += ' ';
    }
    text += piece;
    return text;
}

}  // namespace

text_decoder::text_decoder(const std::filesystem::path& folder, const llama_config& config) {
    constexpr std::int64_t bytes = 256;
    const std::filesystem::path tokenizer = folder / "tokenizer.json";
    if (std::filesystem::exists(tokenizer)) {
        pieces_.resize(static_cast<std::size_t>(config.vocab_size));
        read_tokenizer(tokenizer);
        return;
    }
    if (config.vocab_size != bytes) return;
    for (int byte = 0; byte < bytes; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
    if (config.bos_token_id) pieces_[*config.bos_token_id].clear();
    for (const token id : config.eos_token_ids) pieces_[id].clear();
}

void text_decoder::read_tokenizer(const std::filesystem::path& file) {
    constexpr std::uint64_t longest_file = 256 << 20;
    const std::string name = file.string();
    const auto set = [&](const json& id, const std::string& piece) {
        if (!id.is_number_unsigned()) refuse(name, ": a token id is not a number");
        if (const auto i = id.get<std::uint64_t>(); i < pieces_.size()) pieces_[static_cast<std::size_t>(i)] = piece;
    };
    try {
        const json tokenizer = parse_json_object(read_file(file, longest_file), name);
        const json& vocabulary = tokenizer.at("model").at("vocab");
        if (!vocabulary.is_structured()) refuse(name, ": model.vocab must be an object or an array");
        if (vocabulary.is_object())
            for (const auto& [piece, id] : vocabulary.items()) set(id, piece);
        else  // a unigram model: [piece, score] in the order of the ids
            for (std::size_t i = 0; i < vocabulary.size(); ++i) set(i, vocabulary.at(i).at(0).get<std::string>());

        // How a space is written tells the two forms apart; a large vocabulary has the other's sign too, as a character.
        const auto beginning_with = [&](std::string_view space) {
            return std::count_if(pieces_.begin(), pieces_.end(), [&](const std::string& piece) { return piece.starts_with(space); });
        };
        const bool alphabet_used = beginning_with(alphabet_space) > beginning_with(sentencepiece_space);
        const auto alphabet = byte_alphabet();
        for (std::string& piece : pieces_) piece = alphabet_used ? decode_alphabet(piece, alphabet) : decode_sentencepiece(piece);

        for (const json& added : tokenizer.value("added_tokens", json::array()))
            set(added.at("id"), added.value("special", false) ? "" : added.at("content").get<std::string>());
    } catch (const json::exception& error) {
        refuse(name, ": not a tokenizer that can be read: ", error.what());
    }
}

std::string text_decoder::text(std::span<const token> ids) const {
    std::string bytes;
    for (const token id : ids) bytes += pieces_.empty() ? std::to_string(id) + " " : pieces_[id];
    return printable(bytes);
}

std::string printable(std::string_view bytes) {
    std::string text;
    for (std::size_t i = 0; i < bytes.size();) {
        const std::size_t length = utf8_length(bytes, i);
        const auto first = static_cast<unsigned char>(bytes[i]);
        const bool control = length == 1 ? (first < 0x20 && first != '\n') || first == 0x7F
                                         : length == 2 && first == 0xC2 && static_cast<unsigned char>(bytes[i + 1]) < 0xA0;
        if (length == 0 || control)
            text += replacement;
        else
            text += bytes.substr(i, length);
        i += std::max<std::size_t>(length, 1);
    }
    return text;
}

}  // namespace examples
