// SPDX-License-Identifier: MIT
#include "library.hpp"

namespace record {
namespace {

void add(results& out, const std::string& key, const magr::stored_matrix& m) {
    out.add(key, m.bytes);
    out.add(key + ".type", to_string(m.type));
}

void add_unpacked(results& out, const magr::quantized_matrix<float>& q) {
    out.add("unpacked.zero_point", to_string(q.zero_point));
    out.add("unpacked.scales", q.scales);
    out.add("unpacked.zeros", q.zeros);
    out.add("unpacked.group_of_column", std::vector<std::int64_t>(q.group_of_column.begin(), q.group_of_column.end()));
    out.add("unpacked.codes", q.codes);
    out.add("unpacked.weights", q.dequantize());
}

void add_packed(results& out, const magr::gptq_tensors& p) {
    out.add("qweight", p.qweight);
    out.add("qzeros", p.qzeros);
    out.add("scales", p.scales);
    out.add("g_idx", p.g_idx);
    add_unpacked(out, magr::unpack_gptq(p));
}
void add_packed(results& out, const magr::awq_tensors& p) {
    out.add("qweight", p.qweight);
    out.add("qzeros", p.qzeros);
    out.add("scales", p.scales);
    add_unpacked(out, magr::unpack_awq(p));
}
void add_packed(results& out, const magr::compressed_tensors_weight& p) {
    out.add("weight_packed", p.weight_packed);
    add(out, "weight_scale", p.weight_scale);
    out.add("weight_zero_point", p.weight_zero_point);
    out.add("weight_g_idx", p.weight_g_idx);
    add_unpacked(out, magr::unpack_compressed_tensors(p));
}
void add_packed(results& out, const magr::matmul_nbits_tensors& p) {
    out.add("block_size", p.block_size);
    out.add("B", p.B);
    add(out, "scales", p.scales);
    out.add("zero_points", p.zero_points);
    add(out, "real_zero_points", p.real_zero_points);
    add_unpacked(out, magr::unpack_matmul_nbits(p));
}
void add_packed(results& out, const magr::mlx_tensors& p) {
    out.add("weight", p.weight);
    add(out, "scales", p.scales);
    add(out, "biases", p.biases);
    add_unpacked(out, magr::unpack_mlx(p));
}
void add_packed(results& out, const magr::gguf_tensor& p) {
    out.add("data", p.data);
    add_unpacked(out, magr::unpack_gguf(p));
}

}  // namespace

void formats_that_take(recorder& out, const std::string& of, const std::string& text) {
    run_case(out, "formats_that_take", of, text, [](settings& s, results& found, const layer& l) {
        const magr::grid_options grid = grid_options_of(s);
        for (const magr::packed_format format : magr::packed_formats) {
            const magr::grid_options usual = magr::grid_options_for(format);
            found.add(to_string(format), magr::problems({l.W.rows, l.W.cols}, grid, format).empty());
            found.add(std::string(to_string(format)) + ".usual", std::to_string(usual.bits) + "," + to_string(usual.zero_point) + "," +
                                                                     std::to_string(*usual.group_size) + "," + to_string(usual.storage));
        }
    });
}

/// Puts codes into every format that can hold them: those of OPTQ, because `order by_activation, groups live` is the hardest case for
/// formats, or with `optq no` codes rounded to nearest. Formats that refuse them say so in their own line.
void pack_all(recorder& out, const std::string& of, const std::string& text) {
    using namespace magr;
    const auto pack_as = [&](const std::string& format, auto&& pack) {
        run_with_gram(out, "pack " + format, of, text, [&](settings& s, results& found, const layer&, auto W, auto H, auto& pool) {
            if constexpr (sizeof(typename decltype(W)::value_type) != 2 && sizeof(typename decltype(H)::value_type) == 8) {
                const grid_options grid = grid_options_of(s);
                optq_options options = optq_options_of(s);
                options.measure_error = false;
                const auto q = s.yes("optq", true) ? quantize_optq(W, H, grid, options, pool).quantized : quantize_rtn(W, grid);
                add_packed(found, pack(q));
            }
        });
    };
    pack_as("gptq_v1", [](const auto& q) { return pack_gptq(q, gptq_version::v1); });
    pack_as("gptq_v2", [](const auto& q) { return pack_gptq(q, gptq_version::v2); });
    pack_as("awq", [](const auto& q) { return pack_awq(q); });
    pack_as("compressed_tensors", [](const auto& q) { return pack_compressed_tensors(q); });
    pack_as("matmul_nbits", [](const auto& q) { return pack_matmul_nbits(q); });
    pack_as("mlx", [](const auto& q) { return pack_mlx(q); });
    for (const auto& [name, type] :
         {std::pair{"gguf_q4_0", ggml_type::q4_0}, std::pair{"gguf_q4_1", ggml_type::q4_1}, std::pair{"gguf_q5_0", ggml_type::q5_0},
          std::pair{"gguf_q5_1", ggml_type::q5_1}, std::pair{"gguf_q8_0", ggml_type::q8_0}, std::pair{"gguf_q2_0", ggml_type::q2_0}})
        pack_as(name, [kind = type](const auto& q) { return pack_gguf(q, kind); });
}

}  // namespace record
