// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/matrix.hpp>
#include <numeric>
#include <vector>

#include "quantize_llama/methods.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/quantize_model.hpp"

namespace examples {

/// Numbers that are tuned: by what factor they differ from those that they were. The parameters of Adam are relative changes.
class tuned_numbers {
public:
    tuned_numbers() = default;
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

/// A layer by its scales: its weights are scale * points, plus an offset that is not tuned. Groups with a shared scale change together.
class tuned_layer {
public:
    explicit tuned_layer(const quantized_layer& layer)
        : q_(&layer.quantized.value()), together_(std::max<magr::index_t>(1, q_->shared.groups)) {
        const magr::matrix<float> values = q_->dequantize();
        points_ = Eigen::Map<const matrix_f>(values.data(), values.rows(), values.cols());
        offsets_ = matrix_f::Zero(points_.rows(), points_.cols());
        if (q_->zero_point != magr::zero_point::offset) return;
        for (Eigen::Index i = 0; i < points_.rows(); ++i)
            for (Eigen::Index j = 0; j < points_.cols(); ++j) offsets_(i, j) = q_->zeros(i, group(j));
        points_ -= offsets_;
    }

    /// How many numbers are tuned.
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(q_->scales.rows() * factors_per_row()); }

    [[nodiscard]] matrix_f weights(const tuned_numbers& scales) const {
        matrix_f W = points_;
        for (Eigen::Index i = 0; i < W.rows(); ++i)
            for (Eigen::Index j = 0; j < W.cols(); ++j) W(i, j) *= scales.factor(index(i, j));
        return W + offsets_;
    }

    /// Adds the derivatives of a loss by the factors, from those by the weights.
    void add_gradient(const matrix_f& of_weights, std::vector<float>& gradient) const {
        gradient.resize(size());
        for (Eigen::Index i = 0; i < of_weights.rows(); ++i)
            for (Eigen::Index j = 0; j < of_weights.cols(); ++j) gradient[index(i, j)] += of_weights(i, j) * points_(i, j);
    }

    /// The error of rounding relative to the weights, as root mean squares: that of a grid in which all remainders are equally frequent.
    [[nodiscard]] double rounding_error() const {
        double squares = 0;
        for (Eigen::Index i = 0; i < points_.rows(); ++i)
            for (Eigen::Index j = 0; j < points_.cols(); ++j) squares += std::pow(static_cast<double>(q_->scales(i, group(j))), 2);
        const double weights = (points_ + offsets_).cast<double>().squaredNorm();
        return weights > 0 ? std::sqrt(squares / 12 / weights) : 0;
    }

    /// Multiplies the scales, as their type holds them, and computes the layer's weights anew.
    void store(const tuned_numbers& scales, quantized_layer& layer) const {
        magr::quantized_matrix<float>& q = layer.quantized.value();
        const double multiple = magr::largest_multiple(q.bits, q.levels);
        magr::matrix<float>& stored = q.shared.groups > 0 ? q.shared.scales : q.scales;
        const magr::storage_type type = q.shared.groups > 0 ? magr::storage_type::f16 : q.storage;
        for (magr::index_t i = 0; i < stored.rows(); ++i)
            for (magr::index_t k = 0; k < stored.cols(); ++k) {
                const float wanted = stored(i, k) * scales.factor(static_cast<std::size_t>(i * stored.cols() + k));
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
};

/// Everything of a block that is tuned.
struct block_numbers {
    std::array<tuned_numbers, all_linears.size()> layers;
    tuned_numbers input_norm, post_attention_norm;
};

/// The derivatives of a loss by its factors, and by the norms.
struct block_sums {
    std::array<std::vector<float>, all_linears.size()> layers;
    row_f input_norm, post_attention_norm;

    block_sums& operator+=(const block_sums& other) {
        for (std::size_t l = 0; l < layers.size(); ++l)
            std::transform(layers[l].begin(), layers[l].end(), other.layers[l].begin(), layers[l].begin(), std::plus<>{});
        input_norm += other.input_norm;
        post_attention_norm += other.post_attention_norm;
        return *this;
    }
};

/// A quantized block while it is tuned.
class tuned_block {
public:
    explicit tuned_block(const quantized_block& q) : original_(q.block), now_(q.block) {
        numbers_.input_norm = tuned_numbers(static_cast<std::size_t>(q.block.input_norm.size()));
        numbers_.post_attention_norm = tuned_numbers(static_cast<std::size_t>(q.block.post_attention_norm.size()));
        for (const quantized_layer& layer : q.layers) {
            layers_.emplace_back(layer);
            numbers_.layers[layers_.size() - 1] = tuned_numbers(layers_.back().size());
            rates_.push_back(layers_.back().rounding_error());
        }
        norm_rate_ = std::accumulate(rates_.begin(), rates_.end(), 0.0) / static_cast<double>(rates_.size());
        update();
    }

    [[nodiscard]] const llama_block& now() const noexcept { return now_; }
    [[nodiscard]] const tuned_layer& layer(linear kind) const { return layers_[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] const block_numbers& numbers() const noexcept { return numbers_; }

    void set(const block_numbers& numbers) {
        numbers_ = numbers;
        update();
    }

    /// @param part  how far a number may change, in units of the error of rounding
    void descend(const block_sums& gradient, double part, int step) {
        for (std::size_t l = 0; l < layers_.size(); ++l) numbers_.layers[l].descend(gradient.layers[l], part * rates_[l], step);
        const auto descend_norm = [&](tuned_numbers& norm, const row_f& slope, const row_f& weights) {
            const row_f relative = slope.cwiseProduct(weights);
            norm.descend({relative.begin(), relative.end()}, part * norm_rate_, step);
        };
        descend_norm(numbers_.input_norm, gradient.input_norm, original_.input_norm);
        descend_norm(numbers_.post_attention_norm, gradient.post_attention_norm, original_.post_attention_norm);
        update();
    }

private:
    void update() {
        for (const linear kind : all_linears) now_[kind] = layer(kind).weights(numbers_.layers[static_cast<std::size_t>(kind)]);
        set_norm(numbers_.input_norm, original_.input_norm, now_.input_norm);
        set_norm(numbers_.post_attention_norm, original_.post_attention_norm, now_.post_attention_norm);
    }

    static void set_norm(const tuned_numbers& norm, const row_f& was, row_f& is) {
        for (Eigen::Index j = 0; j < was.size(); ++j) is[j] = was[j] * norm.factor(static_cast<std::size_t>(j));
    }

    llama_block original_, now_;
    std::vector<tuned_layer> layers_;
    std::vector<double> rates_;  ///< the error of rounding of each layer
    double norm_rate_ = 0;
    block_numbers numbers_;
};

}  // namespace examples
