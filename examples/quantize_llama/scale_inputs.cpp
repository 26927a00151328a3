// SPDX-License-Identifier: MIT
#include "quantize_llama/scale_inputs.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <magr/matrix/eigen.hpp>
#include <magr/transform/aqas.hpp>
#include <magr/transform/fuse_scaling.hpp>
#include <span>
#include <utility>
#include <vector>

#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

/// Inputs of the four sites, of up to 512 tokens that are spread over the first chunk of the text.
std::array<matrix_f, site_count> sample_inputs(const llama_block& block, const text_states& text) {
    constexpr Eigen::Index most_tokens = 512;
    std::array<matrix_f, site_count> samples;
    matrix_f hidden = text.hidden(0);
    forward_block(text.config(), block, text.rope(), text.sequences(0), hidden, [&](site where, const matrix_f& x) {
        const Eigen::Index count = std::min(most_tokens, x.rows());
        matrix_f& sample = samples[static_cast<std::size_t>(where)];
        sample.resize(count, x.cols());
        for (Eigen::Index t = 0; t < count; ++t) sample.row(t) = x.row(t * x.rows() / count);
    });
    return samples;
}

template <class Vector>
std::span<float> numbers(Vector& v) {
    return {v.data(), static_cast<std::size_t>(v.size())};
}

/// Divides what a layer puts out.
void divide_outputs(llama_block& block, linear kind, const magr::column_scaling& scaling) {
    magr::divide_outputs(block[kind], numbers(block.bias(kind)), scaling);
}

}  // namespace

llama_block scale_inputs(const llama_block& block, const text_states& text, const quantization& how, magr::thread_pool& pool) {
    const llama_config& config = text.config();
    const std::array<matrix_f, site_count> samples = sample_inputs(block, text);
    llama_block result = block;
    const magr::grid_options grid{.bits = how.bits,
                                  .zero_point = how.zero_point,
                                  .group_size = how.group_size,
                                  .storage = how.storage,
                                  .range_factor = how.beta};  // the search takes no range that follows the output error
    const auto search = [&](site where, std::vector<magr::index_t> tie = {}) {
        magr::aqas_options options{.tie = std::move(tie)};
        options.activations.reset();
        if (how.activation_bits) options.activations = magr::activation_options{.bits = *how.activation_bits};
        std::vector<matrix_f> layers;
        for (const linear kind : all_linears)
            if (input_of(kind) == where) layers.push_back(result[kind]);
        magr::column_scaling found = magr::aqas_search(layers, samples[static_cast<std::size_t>(where)], grid, options, pool).scaling;
        for (const linear kind : all_linears)
            if (input_of(kind) == where) found.weights(magr::as_view(result[kind]));
        return found;
    };
    // Rows of up_proj and v_proj change first, because their columns are scaled afterwards.
    const magr::column_scaling mlp_hidden = search(site::mlp_hidden);
    divide_outputs(result, linear::up_proj, mlp_hidden);

    // query heads that read the same values share the scales of their inputs to o_proj
    const std::vector<magr::index_t> shared =
        magr::shared_value_channels(block[linear::o_proj].cols(), config.num_attention_heads, config.num_key_value_heads);
    const magr::column_scaling attended = search(site::attention_output, shared);
    divide_outputs(result, linear::v_proj, magr::shared_scaling(attended, shared));

    const magr::column_scaling attention = search(site::attention_input);
    magr::divide_norm(numbers(result.input_norm), {}, attention);
    const magr::column_scaling mlp = search(site::mlp_input);
    magr::divide_norm(numbers(result.post_attention_norm), {}, mlp);
    return result;
}

}  // namespace examples
