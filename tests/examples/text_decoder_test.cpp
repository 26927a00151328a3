// SPDX-License-Identifier: MIT
#include "quantize_llama/text_decoder.hpp"

#include "refusal.hpp"
#include "scratch_folder.hpp"
#include "support/catch.hpp"

using namespace examples;

namespace {

llama_config config_of(std::int64_t vocab_size) {
    llama_config c;
    c.vocab_size = vocab_size;
    return c;
}

}  // namespace

TEST_CASE("text_decoder: 256 ids are bytes", "[examples][text_decoder]") {
    const scratch_folder folder;
    llama_config config = config_of(256);
    config.bos_token_id = 0;
    const text_decoder decoder(folder.path(), config);
    CHECK(decoder.text(std::vector<token>{0, 'H', 'i', '\n', 0xC3, 0xA4}) == "Hi\n\xC3\xA4");
    CHECK(decoder.text(std::vector<token>{'a', 0xFF, 7, 'b'}) ==
          "a\xEF\xBF\xBD\xEF\xBF\xBD"
          "b");
}

TEST_CASE("text_decoder: without a vocabulary ids are numbers", "[examples][text_decoder]") {
    const scratch_folder folder;
    CHECK(text_decoder(folder.path(), config_of(300)).text(std::vector<token>{1, 299}) == "1 299 ");
}

TEST_CASE("text_decoder: sentencepiece's spaces and bytes", "[examples][text_decoder]") {
    const scratch_folder folder;
    folder.write("tokenizer.json", R"({"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":5,"content":"<x>","special":false}],
        "model":{"type":"BPE","vocab":{"<s>":0,"▁a":1,"b▁▁c":2,"<0xC3>":3,"<0xA4>":4,"<0xZZ>":6,"far":999}}})");
    const text_decoder decoder(folder.path(), config_of(8));
    CHECK(decoder.text(std::vector<token>{0, 1, 2, 3, 4, 5, 6, 7}) == " ab  c\xC3\xA4<x><0xZZ>");
}

TEST_CASE("text_decoder: a unigram vocabulary is a list", "[examples][text_decoder]") {
    const scratch_folder folder;
    folder.write("tokenizer.json", R"({"model":{"type":"Unigram","vocab":[["<unk>",0.0],["▁x",-1.5]]}})");
    CHECK(text_decoder(folder.path(), config_of(2)).text(std::vector<token>{1, 1}) == " x x");
}

TEST_CASE("text_decoder: GPT-2's alphabet of bytes", "[examples][text_decoder]") {
    const scratch_folder folder;
    // "Ġ" is a space, "Ċ" a newline, "Ã¤" the two bytes of an a with two dots, which may also be split over two tokens.
    folder.write("tokenizer.json", R"({"model":{"type":"BPE","vocab":{"Ġthe":0,"Ċ":1,"Ã¤":2,"Ã":3,"¤":4}}})");
    CHECK(text_decoder(folder.path(), config_of(5)).text(std::vector<token>{0, 1, 2, 3, 4}) == " the\n\xC3\xA4\xC3\xA4");
}

TEST_CASE("text_decoder: the more frequent way to write a space decides", "[examples][text_decoder]") {
    const scratch_folder folder;
    folder.write("tokenizer.json", R"({"model":{"type":"BPE","vocab":{"▁a":0,"▁b":1,"Ġ":2}}})");
    CHECK(text_decoder(folder.path(), config_of(3)).text(std::vector<token>{0, 1, 2}) == " a b\xC4\xA0");
    folder.write("tokenizer.json", R"({"model":{"type":"BPE","vocab":{"Ġa":0,"Ġb":1,"▁":2}}})");
    CHECK(text_decoder(folder.path(), config_of(3)).text(std::vector<token>{0, 1, 2}) == " a b\xE2\x96\x81");
}

TEST_CASE("text_decoder: a tokenizer of another form is refused", "[examples][text_decoder]") {
    const scratch_folder folder;
    for (const char* text : {"{}", R"({"model":{}})", R"({"model":{"vocab":{"a":"b"}}})", R"({"model":{"vocab":[3]}})",
                             R"({"model":{"vocab":null}})", R"({"model":{"vocab":"a"}})", "["}) {
        const auto path = folder.write("tokenizer.json", text);
        CHECK_THAT(refusal([&] { return text_decoder(folder.path(), config_of(8)); }), mentions(path.string()));
    }
}

TEST_CASE("printable: keeps UTF-8, replaces the rest", "[examples][text_decoder]") {
    const std::string good = "a\n\xC2\xA0\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
    CHECK(printable(good) == good);
    const std::string r = "\xEF\xBF\xBD";
    CHECK(printable("\x1B[2J\t\x7F") == r + "[2J" + r + r);
    CHECK(printable("\xC2\x9B") == r);                      // a control character of two bytes
    CHECK(printable("\xC0\x80") == r + r);                  // overlong
    CHECK(printable("\xED\xA0\x80") == r + r + r);          // a surrogate
    CHECK(printable("\xF4\x90\x80\x80") == r + r + r + r);  // beyond U+10FFFF
    CHECK(printable("\xE2\x96") == r + r);                  // cut off
}
