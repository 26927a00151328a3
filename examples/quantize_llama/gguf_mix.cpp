// SPDX-License-Identifier: MIT
#include "quantize_llama/gguf_mix.hpp"

#include <magr/pack/format.hpp>

#include "common/error.hpp"
#include "quantize_llama/gguf_file.hpp"

namespace examples {
namespace {

using magr::ggml_type;

/// The layers at both ends of a model, and every third between them.
bool gets_more_bits(std::int64_t layer, std::int64_t layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

ggml_type type_of_values(gguf_mix mix, const llama_config& c, std::int64_t layer) {
    const std::int64_t queries_per_key = c.num_attention_heads / c.num_key_value_heads;
    ggml_type type = traits_of(mix).type;
    switch (mix) {
        case gguf_mix::q2_k: type = queries_per_key >= 4 ? ggml_type::q4_k : ggml_type::q3_k; break;
        case gguf_mix::q3_k_m: type = layer < 2 ? ggml_type::q5_k : ggml_type::q4_k; break;
        case gguf_mix::q3_k_l: type = ggml_type::q5_k; break;
        case gguf_mix::q4_k_s:
            if (layer < 4) type = ggml_type::q5_k;
            break;
        case gguf_mix::q4_k_m:
        case gguf_mix::q5_k_m:
            if (gets_more_bits(layer, c.num_hidden_layers)) type = ggml_type::q6_k;
            break;
        default: break;
    }
    // llama.cpp knows models of 70 billion weights by their 80 blocks; their values are small and decide much
    const bool is_70b = c.num_hidden_layers == 80 && queries_per_key > 1;
    return is_70b && (type == ggml_type::q3_k || type == ggml_type::q4_k) ? ggml_type::q5_k : type;
}

ggml_type type_of_down(gguf_mix mix, const llama_config& c, std::int64_t layer) {
    const std::int64_t layers = c.num_hidden_layers;
    switch (mix) {
        case gguf_mix::q4_0: return layer < layers / 8 ? ggml_type::q4_1 : ggml_type::q4_0;
        case gguf_mix::q5_0: return layer < layers / 8 ? ggml_type::q5_1 : ggml_type::q5_0;
        case gguf_mix::q2_k: return ggml_type::q3_k;
        case gguf_mix::q3_k_m: return layer < layers / 16 ? ggml_type::q5_k : ggml_type::q4_k;
        case gguf_mix::q3_k_l: return ggml_type::q5_k;
        case gguf_mix::q4_k_s: return layer < layers / 8 ? ggml_type::q5_k : ggml_type::q4_k;
        case gguf_mix::q4_k_m:
        case gguf_mix::q5_k_m:
            if (gets_more_bits(layer, layers)) return ggml_type::q6_k;
            break;
        default: break;
    }
    return traits_of(mix).type;
}

ggml_type type_of_output_projection(gguf_mix mix) {
    switch (mix) {
        case gguf_mix::q2_k: return ggml_type::q3_k;
        case gguf_mix::q3_k_m: return ggml_type::q4_k;
        case gguf_mix::q3_k_l: return ggml_type::q5_k;
        default: return traits_of(mix).type;
    }
}

ggml_type wanted_type(gguf_mix mix, const llama_config& config, std::int64_t layer, linear kind) {
    switch (kind) {
        case linear::v_proj: return type_of_values(mix, config, layer);
        case linear::o_proj: return type_of_output_projection(mix);
        case linear::down_proj: return type_of_down(mix, config, layer);
        case linear::q_proj:
        case linear::k_proj:
        case linear::gate_proj:
        case linear::up_proj: break;
    }
    return traits_of(mix).type;
}

ggml_type substitute(ggml_type type) {
    switch (type) {
        case ggml_type::q2_k:
        case ggml_type::q3_k: return ggml_type::q4_0;
        case ggml_type::q4_k: return ggml_type::q5_0;
        case ggml_type::q5_k: return ggml_type::q5_1;
        case ggml_type::q6_k: return ggml_type::q8_0;
        default: return type;
    }
}

}  // namespace

ggml_block block_of(ggml_type type) {
    const gguf_type* const known = find_gguf_type(static_cast<std::uint32_t>(type));
    return {known->elements, known->bytes};
}

magr::grid_options grid_options_of(ggml_type type) { return magr::grid_options_for(magr::format_of(type)); }

std::string chosen_type::remark(std::int64_t inputs) const {
    if (type == wanted) return {};
    return one_line("stored as ", to_string(type), ", since rows of ", inputs, " do not fill the blocks of 256 of ", to_string(wanted));
}

chosen_type type_for_rows(ggml_type wanted, std::int64_t inputs) {
    const bool fits = static_cast<std::uint64_t>(inputs) % block_of(wanted).weights == 0;
    return {fits ? wanted : substitute(wanted), wanted};
}

chosen_type type_in_mix(gguf_mix mix, const llama_config& config, std::int64_t layer, linear kind) {
    return type_for_rows(wanted_type(mix, config, layer, kind), shape_of(config, kind).cols);
}

ggml_type head_type_in_mix(gguf_mix mix, const llama_config& config) {
    const ggml_type type = traits_of(mix).type;
    if (type == ggml_type::q8_0 || static_cast<std::uint64_t>(config.hidden_size) % block_of(type).weights != 0) return ggml_type::q8_0;
    return type_for_rows(ggml_type::q6_k, config.hidden_size).type;
}

ggml_type embedding_type_in_mix(gguf_mix mix, const llama_config& config) {
    if (config.tie_word_embeddings) return head_type_in_mix(mix, config);
    return type_for_rows(traits_of(mix).type, config.hidden_size).type;
}

void require_rows_of_blocks(gguf_mix mix, const llama_config& config) {
    for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
        for (const linear kind : all_linears) {
            const std::int64_t inputs = shape_of(config, kind).cols;
            const ggml_type type = type_in_mix(mix, config, layer, kind).type;
            if (static_cast<std::uint64_t>(inputs) % block_of(type).weights != 0)
                refuse(layer_name(layer, kind), ": rows of ", inputs, " weights do not fill the blocks of ", block_of(type).weights, " of ",
                       to_string(type), ", which ", to_string(mix), " needs");
        }
}

}  // namespace examples
