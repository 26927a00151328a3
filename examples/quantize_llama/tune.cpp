// SPDX-License-Identifier: MIT
#include "quantize_llama/tune.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <magr/grid/storage.hpp>
#include <numbers>
#include <numeric>
#include <random>
#include <utility>

#include "quantize_llama/backward.hpp"
#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

constexpr std::size_t chunks_per_step = 2;

/// Numbers that are tuned: by what factor they differ from those that they were. The parameters of Adam are relative changes.
class tuned_numbers {
public:
    explicit tuned_numbers(std::size_t count) : change_(count, 0), mean_(count, 0), square_(count, 0) {}

    [[nodiscard]] float factor(std::size_t i) const { return 1.0f + static_cast<float>(change_[i]); }

    /// One step of Adam.
    /// @param step  counts from 1
    void descend(const std::vector<float>& gradient, double rate, int step) {
        constexpr double of_mean = 0.9, of_square = 0.999, smallest = 1e-8;
        const double mean_bias = 1 - std::pow(of_mean, step), square_bias = 1 - std::pow(of_square, step);
        for (std::size_t i = 0; i < change_.size(); ++i) {
            const auto g = static_cast<double>(gradient[i]);
            mean_[i] = of_mean * mean_[i] + (1 - of_mean) * g;
            square_[i] = of_square * square_[i] + (1 - of_square) * g * g;
            change_[i] -= rate * (mean_[i] / mean_bias) / (std::sqrt(square_[i] / square_bias) + smallest);
            change_[i] = std::clamp(change_[i], -0.5, 0.5);  // a scale stays positive
        }
    }

private:
    std::vector<double> change_, mean_, square_;
};

/// The scales of a layer: its weights are scale * points, plus an offset that is not tuned. Groups with a shared scale change together.
class tuned_layer {
public:
    explicit tuned_layer(const quantized_layer& layer)
        : q_(&layer.quantized.value()),
          together_(std::max<magr::index_t>(1, q_->shared.groups)),
          factors_(static_cast<std::size_t>(q_->scales.rows() * factors_per_row())) {
        const magr::matrix<float> values = q_->dequantize();
        points_ = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
        offsets_ = matrix_f::Zero(points_.rows(), points_.cols());
        if (q_->zero_point != magr::zero_point::offset) return;
        for (Eigen::Index i = 0; i < points_.rows(); ++i)
            for (Eigen::Index j = 0; j < points_.cols(); ++j) offsets_(i, j) = q_->zeros(i, group(j));
        points_ -= offsets_;
    }

    /// What the weights are now.
    [[nodiscard]] matrix_f weights() const {
        matrix_f W = points_;
        for (Eigen::Index i = 0; i < W.rows(); ++i)
            for (Eigen::Index j = 0; j < W.cols(); ++j) W(i, j) *= factors_.factor(index(i, j));
        return W + offsets_;
    }

    /// Adds the derivatives of a loss by the factors, from those by the weights.
    void add_gradient(const matrix_f& of_weights, std::vector<float>& gradient) const {
        gradient.resize(static_cast<std::size_t>(q_->scales.rows() * factors_per_row()));
        for (Eigen::Index i = 0; i < of_weights.rows(); ++i)
            for (Eigen::Index j = 0; j < of_weights.cols(); ++j) gradient[index(i, j)] += of_weights(i, j) * points_(i, j);
    }

    void descend(const std::vector<float>& gradient, double rate, int step) { factors_.descend(gradient, rate, step); }

    /// Multiplies the scales, as their type holds them, and computes the layer's weights anew.
    void store(quantized_layer& layer) const {
        magr::quantized_matrix<float>& q = layer.quantized.value();
        const double multiple = magr::largest_multiple(q.bits, q.levels);
        magr::matrix<float>& stored = q.shared.groups > 0 ? q.shared.scales : q.scales;
        const magr::storage_type type = q.shared.groups > 0 ? magr::storage_type::f16 : q.storage;
        for (magr::index_t i = 0; i < stored.rows(); ++i)
            for (magr::index_t k = 0; k < stored.cols(); ++k) {
                const float wanted = stored(i, k) * factors_.factor(static_cast<std::size_t>(i * stored.cols() + k));
                const float size = magr::store_scale<float>(std::abs(static_cast<double>(wanted)), type, multiple);
                if (stored(i, k) != 0) stored(i, k) = std::copysign(size, wanted);
            }
        for (magr::index_t i = 0; q.shared.groups > 0 && i < q.scales.rows(); ++i)
            for (magr::index_t g = 0; g < q.scales.cols(); ++g)
                q.scales(i, g) = stored(i, g / together_) * static_cast<float>(q.shared.scale_codes(i, g));
        const magr::matrix<float> values = q.dequantize();
        layer.values = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
    }

private:
    [[nodiscard]] magr::index_t group(Eigen::Index j) const { return q_->group_of_column[static_cast<std::size_t>(j)]; }
    [[nodiscard]] std::size_t index(Eigen::Index i, Eigen::Index j) const {
        return static_cast<std::size_t>(i * factors_per_row() + group(j) / together_);
    }
    [[nodiscard]] magr::index_t factors_per_row() const { return q_->scales.cols() / together_; }

    const magr::quantized_matrix<float>* q_;
    magr::index_t together_;  ///< groups that change together
    matrix_f points_, offsets_;
    tuned_numbers factors_;
};

/// Everything of a block that is tuned, and its derivatives.
struct block_sums {
    std::array<std::vector<float>, all_linears.size()> layers;
    row_f input_norm, post_attention_norm;
};

struct tuned_block {
    explicit tuned_block(const quantized_block& q)
        : original(q.block),
          now(q.block),
          input_norm(static_cast<std::size_t>(q.block.input_norm.size())),
          post_attention_norm(static_cast<std::size_t>(q.block.post_attention_norm.size())) {
        for (const quantized_layer& layer : q.layers) layers.emplace_back(layer);
        for (const linear kind : all_linears) now[kind] = layers[static_cast<std::size_t>(kind)].weights();
    }

    void descend(const block_sums& gradient, double rate, int step) {
        for (const linear kind : all_linears) {
            const auto at = static_cast<std::size_t>(kind);
            layers[at].descend(gradient.layers[at], rate, step);
            now[kind] = layers[at].weights();
        }
        const auto of_norm = [&](tuned_numbers& norm, const row_f& was, const row_f& slope, row_f& is) {
            std::vector<float> relative(static_cast<std::size_t>(was.size()));
            for (std::size_t j = 0; j < relative.size(); ++j)
                relative[j] = slope[static_cast<Eigen::Index>(j)] * was[static_cast<Eigen::Index>(j)];
            norm.descend(relative, rate, step);
            for (std::size_t j = 0; j < relative.size(); ++j)
                is[static_cast<Eigen::Index>(j)] = was[static_cast<Eigen::Index>(j)] * norm.factor(j);
        };
        of_norm(input_norm, original.input_norm, gradient.input_norm, now.input_norm);
        of_norm(post_attention_norm, original.post_attention_norm, gradient.post_attention_norm, now.post_attention_norm);
    }

    llama_block original, now;
    std::vector<tuned_layer> layers;
    tuned_numbers input_norm, post_attention_norm;
};

/// What all chunks share.
struct setting {
    const llama_config& config;
    const rope_table& rope;
    const matrix_f& embedding;
    const matrix_f& head;
    const row_f& norm;
};

/// Adds to each block's sums the derivatives of the KL divergence from the original model's predictions, summed over the tokens of a chunk.
/// @param reference  the normed output of the original model's last block
void add_derivatives(const setting& at, const std::vector<tuned_block>& blocks, std::span<const sequence> sequences,
                     const matrix_f& reference, std::vector<block_sums>& sums) {
    std::vector<matrix_f> hidden{embed(at.embedding, sequences)};  // in front of each block
    for (const tuned_block& block : blocks) {
        hidden.push_back(hidden.back());
        forward_block(at.config, block.now, at.rope, sequences, hidden.back());
    }
    matrix_f wanted;
    const auto loss = [&](Eigen::Index first, matrix_f& logits) {
        wanted.noalias() = reference.middleRows(first, logits.rows()) * at.head.transpose();
        for (Eigen::Index i = 0; i < logits.rows(); ++i) {
            softmax(logits.row(i));
            softmax(wanted.row(i));
        }
        logits -= wanted;
    };
    matrix_f gradient = backward_head(at.head, at.norm, at.config.rms_norm_eps, hidden.back(), loss);
    for (std::size_t b = blocks.size(); b-- > 0;) {
        matrix_f passing = hidden[b];
        const block_trace trace = trace_block(at.config, blocks[b].now, at.rope, sequences, passing);
        const block_gradients found = backward_block(at.config, blocks[b].now, at.rope, sequences, trace, gradient);
        for (const linear kind : all_linears) {
            const matrix_f of_weights = found[kind].transpose() * trace.inputs[static_cast<std::size_t>(input_of(kind))];
            blocks[b].layers[static_cast<std::size_t>(kind)].add_gradient(of_weights, sums[b].layers[static_cast<std::size_t>(kind)]);
        }
        sums[b].input_norm = found.input_norm;
        sums[b].post_attention_norm = found.post_attention_norm;
    }
}

/// The rate of a step: it rises over the first tenth, and then falls to 0 along a cosine.
double rate_of(int step, int steps) {
    constexpr double highest = 5e-3;
    const int rising = std::max(1, steps / 10);
    if (step <= rising) return highest * step / rising;
    return highest / 2 * (1 + std::cos(std::numbers::pi * (step - rising) / std::max(1, steps - rising)));
}

}  // namespace

void tune_scales(const model_folder& model, std::vector<quantized_block>& blocks, std::span<const sequence> text, magr::thread_pool& pool,
                 progress& progress) {
    const llama_config& config = model.config();
    const rope_table rope = make_rope_table(config, text);
    const matrix_f embedding = model.embedding(), head = model.head();
    const row_f norm = model.final_norm();
    const setting at{config, rope, embedding, head, norm};
    const std::vector<chunk> chunks = split_into_chunks(text);
    const auto sequences = [&](std::size_t c) { return text.subspan(chunks[c].first, chunks[c].count); };

    std::vector<matrix_f> reference(chunks.size());
    pool.parallel_for(std::ssize(chunks), [&](magr::index_t c, magr::index_t) {
        reference[static_cast<std::size_t>(c)] = embed(embedding, sequences(static_cast<std::size_t>(c)));
    });
    for (std::int64_t b = 0; b < config.num_hidden_layers; ++b) {
        const llama_block block = model.block(b);
        pool.parallel_for(std::ssize(chunks), [&](magr::index_t c, magr::index_t) {
            forward_block(config, block, rope, sequences(static_cast<std::size_t>(c)), reference[static_cast<std::size_t>(c)]);
        });
    }
    for (matrix_f& hidden : reference) hidden = rms_norm(hidden, norm, config.rms_norm_eps);

    std::vector<tuned_block> tuned(blocks.begin(), blocks.end());
    std::vector<std::size_t> order(chunks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::mt19937 random(1);
    const auto steps_per_epoch = static_cast<int>((chunks.size() + chunks_per_step - 1) / chunks_per_step);
    for (int step = 1; step <= tuning_epochs * steps_per_epoch; ++step) {
        const std::size_t in_epoch = static_cast<std::size_t>((step - 1) % steps_per_epoch) * chunks_per_step;
        if (in_epoch == 0)
            for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);  // std::shuffle may differ
        const std::span<const std::size_t> taken =
            std::span<const std::size_t>(order).subspan(in_epoch, std::min(chunks_per_step, order.size() - in_epoch));
        std::vector<std::vector<block_sums>> parts(taken.size(), std::vector<block_sums>(tuned.size()));
        pool.parallel_for(std::ssize(taken), [&](magr::index_t task, magr::index_t) {
            const auto k = static_cast<std::size_t>(task);
            add_derivatives(at, tuned, sequences(taken[k]), reference[taken[k]], parts[k]);
            progress.advance(3 * static_cast<double>(count_tokens(sequences(taken[k]))));
        });
        for (std::size_t b = 0; b < tuned.size(); ++b) {
            block_sums& sum = parts[0][b];
            for (std::size_t k = 1; k < parts.size(); ++k) {
                for (std::size_t l = 0; l < sum.layers.size(); ++l)
                    std::transform(sum.layers[l].begin(), sum.layers[l].end(), parts[k][b].layers[l].begin(), sum.layers[l].begin(),
                                   std::plus<>{});
                sum.input_norm += parts[k][b].input_norm;
                sum.post_attention_norm += parts[k][b].post_attention_norm;
            }
            tuned[b].descend(sum, rate_of(step, tuning_epochs * steps_per_epoch), step);
        }
    }
    for (std::size_t b = 0; b < blocks.size(); ++b) {
        for (const linear kind : all_linears) {
            const auto l = static_cast<std::size_t>(kind);
            tuned[b].layers[l].store(blocks[b].layers[l]);
            blocks[b].block[kind] = blocks[b].layers[l].values;
        }
        blocks[b].block.input_norm = tuned[b].now.input_norm;
        blocks[b].block.post_attention_norm = tuned[b].now.post_attention_norm;
    }
}

}  // namespace examples
