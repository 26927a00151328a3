// SPDX-License-Identifier: MIT
#include <magr/pack/format_rules.hpp>
#include <magr/quantize_layer.hpp>
#include <magr/validate.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <magr/pack.hpp>

#include "gguf/textbook_gguf.hpp"
#include "quantize/layers.hpp"
#include "support/catch.hpp"

using magr::layer_options;
using magr::packed_format;
using magr::problems;
using magr::validate;

namespace {

std::string all(const std::vector<std::string>& problems) {
    std::string text;
    for (const auto& problem : problems) text += (text.empty() ? "" : "; ") + problem;
    return text;
}

/// Whether the result of a layer can be packed without an error.
bool packs(const magr::quantized_matrix<float>& q, packed_format format) {
    using enum packed_format;
    switch (format) {
        case gptq_v1: return !magr::pack_gptq(q, magr::gptq_version::v1).qweight.empty();
        case gptq_v2: return !magr::pack_gptq(q, magr::gptq_version::v2).qweight.empty();
        case awq: return !magr::pack_awq(q).qweight.empty();
        case compressed_tensors: return !magr::pack_compressed_tensors(q).weight_packed.empty();
        case matmul_nbits: return !magr::pack_matmul_nbits(q).B.empty();
        case mlx: return !magr::pack_mlx(q).weight.empty();
        case gguf_q4_0: return !magr::pack_gguf(q, magr::ggml_type::q4_0).data.empty();
        case gguf_q4_1: return !magr::pack_gguf(q, magr::ggml_type::q4_1).data.empty();
        case gguf_q5_0: return !magr::pack_gguf(q, magr::ggml_type::q5_0).data.empty();
        case gguf_q5_1: return !magr::pack_gguf(q, magr::ggml_type::q5_1).data.empty();
        case gguf_q8_0: return !magr::pack_gguf(q, magr::ggml_type::q8_0).data.empty();
        case gguf_q2_0: return !magr::pack_gguf(q, magr::ggml_type::q2_0).data.empty();
        default: return false;
    }
}

}  // namespace

TEST_CASE("validate: what it lets pass is quantized, refined and packed", "[layer][validate][property]") {
    const auto [weights, H] = layers::make_layer(32, 256, layers::inputs::neighbours, 1);
    const Eigen::MatrixXf W = 1e-3F * weights.cast<float>();  // makes scales that are subnormal f16 numbers
    for (const packed_format format : magr::packed_formats) {
        layer_options options{.grid = magr::grid_options_for(format), .refinement = {.rounds = 1}};
        CAPTURE(to_string(format));
        if (magr::detail::rules_of(format).two_level) {
            CHECK(all(problems({32, 256}, options, format)).find("fit_k_quant_grids") != std::string::npos);
            continue;
        }
        CHECK(all(problems({32, 256}, options, format)).empty());
        CHECK(packs(magr::quantize_layer(W, H, options).quantized, format));
    }
}

TEST_CASE("validate: k-quants go through OPTQ and refinement on their own grids", "[layer][validate][property]") {
    const auto [weights, H] = layers::make_layer(4, 256, layers::inputs::neighbours, 2);
    const Eigen::MatrixXf W = 0.05F * weights.cast<float>();
    for (const auto type :
         {magr::ggml_type::q2_k, magr::ggml_type::q3_k, magr::ggml_type::q4_k, magr::ggml_type::q5_k, magr::ggml_type::q6_k}) {
        const auto grids = magr::fit_k_quant_grids(W, H, type);
        const auto rtn = magr::quantize_rtn(W, grids);
        auto q = magr::quantize_optq(W, H, grids).quantized;
        const double optq_error = magr::output_error(W, q.dequantize(), H);
        CAPTURE(static_cast<int>(type));
        CHECK(optq_error < magr::output_error(W, rtn.dequantize(), H));
        CHECK(magr::refine_scales(q, W, H).changes > 0);
        magr::refine_codes(q, W, H);
        CHECK(magr::output_error(W, q.dequantize(), H) < optq_error);
        const auto packed = magr::pack_gguf(q, type);
        CHECK(textbook::gguf_weights(packed, 256, static_cast<magr::index_t>(packed.data.size()) / 4) == q.dequantize());
        const auto read = magr::unpack_gguf(packed);
        CHECK(read.codes == q.codes);
        CHECK(read.scales == q.scales);
        CHECK(read.zeros == q.zeros);
    }
}

TEST_CASE("validate: groups that act_order scatters come back from the formats that store them", "[layer][validate][property]") {
    const auto [weights, H] = layers::make_layer(32, 256, layers::inputs::outliers, 3);
    const Eigen::MatrixXf W = weights.cast<float>();
    for (const auto format : {packed_format::gptq_v2, packed_format::compressed_tensors}) {
        const layer_options options{.grid = magr::grid_options_for(format, 32),
                                    .optq = {.order = magr::column_order::act_order, .groups = magr::group_update::live},
                                    .refinement = {.rounds = 1}};
        CHECK(problems({32, 256}, options, format).empty());
        const auto q = magr::quantize_layer(W, H, options).quantized;
        CHECK_FALSE(std::is_sorted(q.group_of_column.begin(), q.group_of_column.end()));
        const auto read = format == packed_format::gptq_v2 ? magr::unpack_gptq(magr::pack_gptq(q, magr::gptq_version::v2))
                                                           : magr::unpack_compressed_tensors(magr::pack_compressed_tensors(q));
        CHECK(read.codes == q.codes);
        CHECK(read.group_of_column == q.group_of_column);
        CHECK(read.dequantize() == q.dequantize());
    }
}

TEST_CASE("validate: reports everything at once", "[layer][validate][edge]") {
    CHECK(problems({3, 5}, {}).empty());
    CHECK(all(problems({0, -1}, {})) == "matrix_shape: rows must be at least 1, it is 0; matrix_shape: cols must be at least 1, it is -1");
    const layer_options bad{.grid = {.bits = 5, .zero_point = magr::zero_point::real, .group_size = 48},
                            .optq = {.damping = -1, .order = magr::column_order::act_order, .groups = magr::group_update::live}};
    const auto found = problems({20, 100}, bad, packed_format::awq);
    const std::vector<std::string> expected{"optq_options: damping", "awq: rows",       "awq: bits",  "awq: zero_point",
                                            "awq: storage",          "awq: group_size", "awq: groups"};
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i].find(expected[i]) == 0);
    CHECK_THROWS_WITH(validate({20, 100}, bad, packed_format::awq), all(found));

    const auto integer = [](packed_format format, magr::zero_point zero) {
        layer_options options{.grid = magr::grid_options_for(format)};
        options.grid.zero_point = zero;
        return all(problems({64, 256}, options, format));
    };
    CHECK(integer(packed_format::gguf_q4_0, magr::zero_point::integer).find("gguf_q4_0: zero_point must be none or middle") == 0);
    CHECK(integer(packed_format::gguf_q4_0, magr::zero_point::none).empty());
    CHECK(integer(packed_format::gguf_q4_0, magr::zero_point::middle).empty());
    CHECK(integer(packed_format::gptq_v2, magr::zero_point::middle).find("gptq_v2: zero_point must be none or integer") == 0);
    CHECK(integer(packed_format::mlx, magr::zero_point::integer).find("mlx: zero_point must be offset") == 0);
    CHECK(integer(packed_format::gptq_v2, magr::zero_point::integer).empty());
    layer_options scattered{.grid = magr::grid_options_for(packed_format::gptq_v2),
                            .optq = {.order = magr::column_order::act_order, .groups = magr::group_update::live}};
    CHECK(problems({64, 256}, scattered, packed_format::gptq_v2).empty());  // this format stores the group of each column
    CHECK(problems({64, 256}, scattered, packed_format::compressed_tensors).empty());
    CHECK(problems({64, 256}, scattered, packed_format::awq).size() == 1);
    scattered.optq.order = magr::column_order::group_aware;
    CHECK(problems({64, 256}, scattered, packed_format::awq).empty());
}
