// SPDX-License-Identifier: MIT
#include "quantize_llama/scaled_block.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <magr/matrix/eigen.hpp>
#include <magr/transform/aqas.hpp>
#include <span>
#include <utility>
#include <vector>

#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

/// Inputs of the four sites, of tokens that are spread over the first texts.
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

/// Divides rows of a layer, and what its bias adds to them.
void divide_rows(llama_block& block, linear kind, std::span<const double> scales) {
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const auto row = static_cast<Eigen::Index>(i);
        block[kind].row(row) /= static_cast<float>(scales[i]);
        if (block.bias(kind).size() != 0) block.bias(kind)[row] /= static_cast<float>(scales[i]);
    }
}

void divide(row_f& norm, std::span<const double> scales) {
    for (std::size_t j = 0; j < scales.size(); ++j) norm[static_cast<Eigen::Index>(j)] /= static_cast<float>(scales[j]);
}

}  // namespace

llama_block scale_inputs(const llama_block& block, const text_states& text, const quantization& how, magr::thread_pool& pool) {
    const llama_config& config = text.config();
    const std::array<matrix_f, site_count> samples = sample_inputs(block, text);
    llama_block result = block;
    const magr::grid_options grid{.bits = how.bits, .zero_point = how.zero_point, .group_size = how.group_size, .storage = how.storage};
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
    divide_rows(result, linear::up_proj, mlp_hidden.scales());

    // query heads that read the same values share the scales of their inputs to o_proj
    const auto d = static_cast<magr::index_t>(config.head_dim);
    const auto shared_by = static_cast<magr::index_t>(config.num_attention_heads / config.num_key_value_heads);
    std::vector<magr::index_t> channel;
    for (magr::index_t j = 0; j < block[linear::o_proj].cols(); ++j) channel.push_back(j / d / shared_by * d + j % d);
    const magr::column_scaling attended = search(site::attention_output, channel);
    std::vector<double> of_values(static_cast<std::size_t>(block[linear::v_proj].rows()));
    for (std::size_t j = 0; j < channel.size(); ++j) of_values[static_cast<std::size_t>(channel[j])] = attended.scales()[j];
    divide_rows(result, linear::v_proj, of_values);

    const magr::column_scaling attention = search(site::attention_input);
    divide(result.input_norm, attention.scales());
    const magr::column_scaling mlp = search(site::mlp_input);
    divide(result.post_attention_norm, mlp.scales());
    return result;
}

}  // namespace examples
