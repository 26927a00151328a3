// SPDX-License-Identifier: MIT
#include "quantize_llama/head_metrics.hpp"

#include <algorithm>
#include <cstddef>
#include <magr/attention/row_hessian.hpp>
#include <span>

#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

/// The rotation of the text's positions, each as often as it occurs.
magr::rope_means mean_rotation(const text_states& text) {
    const matrix_f& cosines = text.rope().cosines();
    std::vector<double> tokens(static_cast<std::size_t>(cosines.rows()), 0);
    for (std::size_t c = 0; c < text.chunks(); ++c)
        for (const sequence& s : text.sequences(c))
            for (std::size_t t = 0; t < s.size(); ++t) ++tokens[t];
    return {cosines, text.rope().sines(), magr::rope_layout::halves, tokens};
}

void add(std::vector<magr::matrix<double>>& sums, std::size_t head, const magr::matrix<double>& part) {
    if (sums[head].empty()) sums[head] = magr::matrix<double>(part.rows(), part.cols());
    std::transform(part.data(), part.data() + part.rows() * part.cols(), sums[head].data(), sums[head].data(), std::plus<>{});
}

}  // namespace

head_metrics collect_head_metrics(const llama_block& block, const text_states& text, magr::thread_pool& pool) {
    const llama_config& config = text.config();
    const magr::rope_means rotation = mean_rotation(text);
    const Eigen::Index d = config.head_dim, shared_by = config.num_attention_heads / config.num_key_value_heads;
    const auto heads = static_cast<std::size_t>(config.num_key_value_heads);
    std::vector<head_metrics> parts(text.chunks(), {std::vector<magr::matrix<double>>(heads), std::vector<magr::matrix<double>>(heads)});
    pool.parallel_for(std::ssize(parts), [&](magr::index_t task, magr::index_t) {
        const auto c = static_cast<std::size_t>(task);
        matrix_f hidden = text.hidden(c);
        const matrix_f x = site_input(block, config.rms_norm_eps, site::attention_input, hidden, {}, {});
        matrix_f queries = apply(block, linear::q_proj, x), keys = apply(block, linear::k_proj, x);
        Eigen::Index row = 0;
        for (const sequence& s : text.sequences(c))
            for (std::int64_t position = 0; position < std::ssize(s); ++position, ++row) {
                text.rope().rotate(queries.row(row), position);
                text.rope().rotate(keys.row(row), position);
            }
        for (std::size_t h = 0; h < heads; ++h) {
            const auto first = static_cast<Eigen::Index>(h);
            parts[c].queries[h] = magr::row_hessian_from_keys(matrix_f(keys.middleCols(first * d, d)), rotation);
            parts[c].keys[h] = magr::row_hessian_from_queries(matrix_f(queries.middleCols(first * shared_by * d, shared_by * d)),
                                                              static_cast<magr::index_t>(shared_by), rotation);
        }
    });
    head_metrics sums{std::vector<magr::matrix<double>>(heads), std::vector<magr::matrix<double>>(heads)};
    for (const head_metrics& part : parts)
        for (std::size_t h = 0; h < heads; ++h) {
            add(sums.queries, h, part.queries[h]);
            add(sums.keys, h, part.keys[h]);
        }
    return sums;
}

}  // namespace examples
