// SPDX-License-Identifier: MIT
#include <magr/pack/format.hpp>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <magr/pack.hpp>
#include <magr/validate.hpp>

#include "pack/samples.hpp"
#include "support/catch.hpp"
#include "support/names.hpp"

using magr::grid_options;
using magr::index_t;
using magr::packed_format;
using magr::storage_type;
using magr::zero_point;

namespace {

/// Packs in any format, and returns the weights that the packed bytes represent.
magr::matrix<float> packed_weights(packed_format format, const magr::quantized_matrix<float>& q) {
    using magr::ggml_type;
    const auto gguf = [&](ggml_type type) { return magr::unpack_gguf(magr::pack_gguf(q, type)).dequantize(); };
    switch (format) {
        case packed_format::gptq_v1: return magr::unpack_gptq(magr::pack_gptq(q, magr::gptq_version::v1)).dequantize();
        case packed_format::gptq_v2: return magr::unpack_gptq(magr::pack_gptq(q, magr::gptq_version::v2)).dequantize();
        case packed_format::awq: return magr::unpack_awq(magr::pack_awq(q)).dequantize();
        case packed_format::compressed_tensors: return magr::unpack_compressed_tensors(magr::pack_compressed_tensors(q)).dequantize();
        case packed_format::matmul_nbits: return magr::unpack_matmul_nbits(magr::pack_matmul_nbits(q)).dequantize();
        case packed_format::mlx: return magr::unpack_mlx(magr::pack_mlx(q)).dequantize();
        case packed_format::gguf_q4_0: return gguf(ggml_type::q4_0);
        case packed_format::gguf_q4_1: return gguf(ggml_type::q4_1);
        case packed_format::gguf_q5_0: return gguf(ggml_type::q5_0);
        case packed_format::gguf_q5_1: return gguf(ggml_type::q5_1);
        case packed_format::gguf_q8_0: return gguf(ggml_type::q8_0);
        case packed_format::gguf_q2_0: return gguf(ggml_type::q2_0);
        case packed_format::gguf_q2_k: return gguf(ggml_type::q2_k);
        case packed_format::gguf_q3_k: return gguf(ggml_type::q3_k);
        case packed_format::gguf_q4_k: return gguf(ggml_type::q4_k);
        case packed_format::gguf_q5_k: return gguf(ggml_type::q5_k);
        case packed_format::gguf_q6_k: return gguf(ggml_type::q6_k);
    }
    return {};
}

bool has_two_levels(packed_format format) { return format >= packed_format::gguf_q2_k; }

magr::ggml_type k_type(packed_format format) {
    constexpr magr::ggml_type types[] = {magr::ggml_type::q2_k, magr::ggml_type::q3_k, magr::ggml_type::q4_k, magr::ggml_type::q5_k,
                                         magr::ggml_type::q6_k};
    return types[static_cast<int>(format) - static_cast<int>(packed_format::gguf_q2_k)];
}

magr::matrix<float> random_weights(index_t rows, index_t cols) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    magr::matrix<float> W(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = normal(random);
    return W;
}

/// One reason why something cannot be packed.
struct violation {
    std::string format;  ///< its name, or a prefix of it
    std::string reason;  ///< the words by which the problem names it
    std::function<void(index_t& rows, index_t& cols, grid_options& options)> cause;
};

const violation violations[] = {
    {"gptq", "rows", [](index_t& rows, index_t&, grid_options&) { rows = 40; }},
    {"gptq", "columns", [](index_t&, index_t& cols, grid_options&) { cols = 776; }},
    {"gptq", "bits", [](index_t&, index_t&, grid_options& o) { o.bits = 5; }},
    {"gptq", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::real; }},
    {"gptq", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::offset; }},
    {"gptq", "storage", [](index_t&, index_t&, grid_options& o) { o.storage = storage_type::bf16; }},
    {"gptq", "storage", [](index_t&, index_t&, grid_options& o) { o.storage = storage_type::native; }},
    {"awq", "rows", [](index_t& rows, index_t&, grid_options&) { rows = 12; }},
    {"awq", "bits", [](index_t&, index_t&, grid_options& o) { o.bits = 3; }},
    {"awq", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::offset; }},
    {"awq", "storage", [](index_t&, index_t&, grid_options& o) { o.storage = storage_type::f32; }},
    {"awq", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 100; }},
    {"compressed_tensors", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::real; }},
    {"compressed_tensors", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 100; }},
    {"matmul_nbits", "bits", [](index_t&, index_t&, grid_options& o) { o.bits = 3; }},
    {"matmul_nbits", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::offset; }},
    {"matmul_nbits", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 48; }},
    {"matmul_nbits", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 8; }},
    {"matmul_nbits", "group_size", [](index_t&, index_t& cols, grid_options& o) { cols = 1024, o.group_size = 512; }},
    {"matmul_nbits", "group_size", [](index_t&, index_t& cols, grid_options& o) { cols = 4096, o.group_size.reset(); }},
    {"mlx", "columns", [](index_t&, index_t& cols, grid_options& o) { o.group_size = 32, cols = 784; }},
    {"mlx", "bits", [](index_t&, index_t&, grid_options& o) { o.bits = 7; }},
    {"mlx", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::real; }},
    {"mlx", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 16; }},
    {"mlx", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = std::nullopt; }},
    {"gguf_", "columns", [](index_t&, index_t& cols, grid_options&) { cols = 784; }},
    {"gguf_", "bits", [](index_t&, index_t&, grid_options& o) { o.bits = 7; }},
    {"gguf_", "zero_point", [](index_t&, index_t&, grid_options& o) { o.zero_point = zero_point::real; }},
    {"gguf_", "storage", [](index_t&, index_t&, grid_options& o) { o.storage = storage_type::bf16; }},
    {"gguf_", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 8; }},
    {"gguf_", "group_size", [](index_t&, index_t&, grid_options& o) { o.group_size = 48; }},
    {"", "levels",
     [](index_t&, index_t&, grid_options& o) {
         o.levels = {-1, 0, 1, 2};
     }},
    {"", "rows", [](index_t& rows, index_t&, grid_options&) { rows = 0; }},
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("grid_options_for: fits its format, whose packer takes what is quantized with it", "[pack][format][property]") {
    const auto W = random_weights(32, 768);
    for (const auto format : magr::packed_formats) {
        const grid_options options = magr::grid_options_for(format);
        CAPTURE(to_string(format));
        CHECK(problems({W.rows(), W.cols()}, options, format).empty());
        CHECK(problems(options).empty());
        const auto q =
            has_two_levels(format) ? magr::quantize_rtn(W, magr::fit_k_quant_grids(W, k_type(format))) : magr::quantize_rtn(W, options);
        CHECK(q.bits == options.bits);
        CHECK(q.group_size == options.group_size);
        CHECK(q.zero_point == options.zero_point);
        CHECK(packed_weights(format, q) == q.dequantize());
    }
}

TEST_CASE("packers: what they take of huge doubles can be unpacked", "[pack][format][edge]") {
    int taken = 0, refused = 0;
    for (const auto format : {packed_format::compressed_tensors, packed_format::matmul_nbits, packed_format::mlx})
        for (const double size : {1.0, 1e20, 1e37, 3e38, 1e40, 1e100, 1e300}) {
            const magr::matrix<float> small = random_weights(4, 64);
            magr::matrix<double> W(4, 64);
            for (index_t i = 0; i < 4; ++i)
                for (index_t j = 0; j < 64; ++j) W(i, j) = size * static_cast<double>(small(i, j));
            grid_options options = magr::grid_options_for(format, 64);
            options.storage = magr::storage_type::f32;
            const auto q = magr::quantize_rtn(W, options);
            CAPTURE(to_string(format), size);
            magr::matrix<float> back;
            try {
                back = format == packed_format::mlx ? magr::unpack_mlx(magr::pack_mlx(q)).dequantize()
                       : format == packed_format::matmul_nbits
                           ? magr::unpack_matmul_nbits(magr::pack_matmul_nbits(q)).dequantize()
                           : magr::unpack_compressed_tensors(magr::pack_compressed_tensors(q)).dequantize();
            } catch (const magr::value_error& error) {
                CHECK(std::string(error.what()).find("must be finite in float32") != std::string::npos);
                CHECK(size > 1e37);
                ++refused;
                continue;
            }
            CHECK(std::isfinite(back(3, 5)));
            ++taken;
        }
    CHECK(taken >= 9);
    CHECK(refused >= 6);
}

TEST_CASE("grid_options_for: another group size", "[pack][format]") {
    CHECK(magr::grid_options_for(packed_format::gptq_v2, 32).group_size == 32);
    CHECK(problems({4, 256}, magr::grid_options_for(packed_format::gguf_q4_0, 128), packed_format::gguf_q4_0).empty());
}

TEST_CASE("problems: each is reported, and the packer refuses for the same reason", "[pack][format][edge]") {
    std::mt19937 random(2);
    for (const auto format : magr::packed_formats)
        for (const auto& v : violations) {
            if (std::string(to_string(format)).rfind(v.format, 0) != 0) continue;
            index_t rows = 32, cols = 768;
            grid_options options = magr::grid_options_for(format);
            v.cause(rows, cols, options);
            const auto found = problems({rows, cols}, options, format);
            CAPTURE(to_string(format), v.reason, found);
            REQUIRE_FALSE(found.empty());
            CHECK(contains(found.front(), std::string(to_string(format)) + ": " + v.reason + " must be "));
            // only the columns, or levels without a zero point, lead to further problems
            if (v.reason != "columns" && v.reason != "levels") CHECK(found.size() == 1);

            if (v.reason == "storage" && has_two_levels(format)) continue;  // packers look at the scales, not at their type
            auto q = samples::quantized(rows, cols, options, random, 1);
            if (v.reason == "levels") q.levels = {-1, 0, 1, 2};
            // a number that only a larger type can hold
            if (v.reason == "storage") q.scales(0, 0) = 1 + 0x1p-7F + 0x1p-12F, q.scales(1, 0) = 1e30F;
            std::string message;
            try {
                packed_weights(format, q);
            } catch (const std::logic_error& error) {
                message = error.what();
            }
            CAPTURE(message);
            if (v.reason == "storage")
                CHECK(contains(message, "must be a number of type f16"));
            else if (rows == 0)
                CHECK(contains(message, "must not be empty"));
            else
                CHECK(contains(message, v.reason + " must be "));
        }
}

TEST_CASE("problems: all of them at once", "[pack][format][edge]") {
    const auto found =
        problems({33, 100}, {.bits = 7, .zero_point = zero_point::offset, .group_size = 0, .storage = storage_type::f32, .levels = {0, 1}},
                 packed_format::gptq_v1);
    const std::vector<std::string> expected = {"gptq_v1: rows must be a multiple of 32, there are 33",
                                               "gptq_v1: columns must be a multiple of 32, there are 100",
                                               "gptq_v1: bits must be 2, 3, 4 or 8, it is 7",
                                               "gptq_v1: zero_point must be none or integer, it is offset",
                                               "gptq_v1: storage must be f16, it is f32",
                                               "gptq_v1: levels must be empty, it is not",
                                               "gptq_v1: group_size must be at least 1, it is 0"};
    CHECK(found == expected);

    std::mt19937 random(3);
    const auto q = samples::quantized(5, 100, {.bits = 3, .group_size = 30, .storage = storage_type::f16}, random);
    CHECK_THROWS_AS(magr::pack_awq(q), magr::shape_error);
    CHECK_THROWS_WITH(magr::pack_awq(q),
                      "pack_awq: rows must be a multiple of 8, there are 5; pack_awq: bits must be 4, it is 3; pack_awq: "
                      "group_size must be a divisor of the columns, 100, it is 30");
}

TEST_CASE("problems: shapes that just fit have none", "[pack][format][edge]") {
    for (const auto format : magr::packed_formats) {
        const index_t rows = to_string(format)[0] == 'g' && to_string(format)[1] == 'p' ? 32 : format == packed_format::awq ? 8 : 1;
        const index_t cols = has_two_levels(format) ? 256 : format == packed_format::mlx || format == packed_format::gguf_q2_0 ? 64 : 32;
        CAPTURE(to_string(format));
        CHECK(problems({rows, cols}, magr::grid_options_for(format), format).empty());
    }
    // the last block of a row may be short, and so may the last group of GPTQ
    CHECK(problems({3, 33}, magr::grid_options_for(packed_format::matmul_nbits), packed_format::matmul_nbits).empty());
    CHECK(problems({32, 160}, magr::grid_options_for(packed_format::gptq_v2), packed_format::gptq_v2).empty());
}

TEST_CASE("packed formats: every enumerator has its name", "[pack][format]") {
    check_names<packed_format>({"gptq_v1", "gptq_v2", "awq", "compressed_tensors", "matmul_nbits", "mlx", "gguf_q4_0", "gguf_q4_1",
                                "gguf_q5_0", "gguf_q5_1", "gguf_q8_0", "gguf_q2_0", "gguf_q2_k", "gguf_q3_k", "gguf_q4_k", "gguf_q5_k",
                                "gguf_q6_k"});
    check_names<magr::gptq_version>({"v1", "v2"});
    const std::vector<std::string> types = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q2_0"};
    std::vector<std::string> known;
    for (unsigned number = 0; number < 64; ++number)
        if (to_string(static_cast<magr::ggml_type>(number)) != std::string("unknown"))
            known.emplace_back(to_string(static_cast<magr::ggml_type>(number)));
    CHECK(known == types);
    CHECK(to_string(magr::ggml_type::q2_0) == std::string("q2_0"));
}

TEST_CASE("packed formats: values that are no enumerators are refused", "[pack][format][edge]") {
    const auto nowhere = static_cast<packed_format>(17);
    const std::vector<std::string> found = problems({32, 32}, magr::grid_options{}, nowhere);
    REQUIRE(found.size() == 1);
    CHECK(contains(found.front(), "packed_format must be gptq_v1, gptq_v2, "));
    CHECK(contains(found.front(), " or gguf_q6_k, it is 17"));
    CHECK(problems({32, 32}, magr::layer_options{}, nowhere) == found);

    std::mt19937 random(4);
    const auto q = samples::quantized(32, 32, {.storage = storage_type::f16}, random, 1);
    CHECK_THROWS_WITH(magr::pack_gptq(q, static_cast<magr::gptq_version>(2)), "pack_gptq: version must be v1 or v2, it is 2");
    auto gptq = magr::pack_gptq(q, magr::gptq_version::v2);
    gptq.version = static_cast<magr::gptq_version>(-1);
    CHECK_THROWS_WITH(magr::unpack_gptq(gptq), "unpack_gptq: version must be v1 or v2, it is -1");
    auto onnx = magr::pack_matmul_nbits(q);
    onnx.scales.type = static_cast<storage_type>(4);
    CHECK_THROWS_AS(magr::unpack_matmul_nbits(onnx), magr::option_error);
}
