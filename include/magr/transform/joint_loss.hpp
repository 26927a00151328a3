// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include <magr/calibration/activation_quantizer.hpp>
#include <magr/detail/aligned_buffer.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/aqas.hpp>
#include <magr/transform/input_magnitudes.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The power of two that brings `largest` near 1.
[[nodiscard]] inline int near_one_exponent(double largest) noexcept {
    int exponent = 0;
    static_cast<void>(std::frexp(largest, &exponent));
    return std::clamp(exponent, -1000, 1000);  // its reciprocal must be a normal number
}

/// || X W^T - Qa(X inv(S)) Qw(W S)^T ||_F^2 of all layers, for one S after another.
template <compute_scalar Scalar>
class joint_loss {
public:
    joint_loss(std::span<const matrix_ref> W, const matrix_ref& X, const weight_rounding<Scalar>& rounding,
               const std::optional<activation_options>& activations, const input_magnitudes& inputs, executor_ref exec)
        : W_(W), X_(X), rounding_(rounding), activations_(activations), inputs_(inputs), exec_(exec) {
        for (const matrix_ref& layer : W) rows_ += layer.rows();
        weights_ = matrix<Scalar>(rows_, X.cols());
        outputs_ = matrix<Scalar>(X.rows(), rows_);
        unit_ = near_one_exponent(largest(inputs.largest_input)) + near_one_exponent(largest(inputs.largest_weight));
        const index_t height = (std::min)(strip, X.rows());
        for (index_t k = 0; k < exec.concurrency(); ++k)
            workers_.push_back({matrix<Scalar>(height, X.cols()), matrix<Scalar>(height, rows_), aligned_buffer<Scalar>(blocks::scratch),
                                std::vector<double>(static_cast<std::size_t>(X.cols()))});
        const std::vector<double> ones(inputs.tie.size(), 1.0);
        const factors f = factors_of(ones);
        load_weights(ones, f, false);
        for_each_strip([&](index_t first, index_t count, worker& w) {
            multiply(ones, f, false, first, count, w);
            for (index_t t = 0; t < count; ++t) std::copy_n(&w.product(t, 0), rows_, &outputs_(first + t, 0));
        });
    }

    /// In units of 4^unit(); no value if numbers overflow.
    /// @param s  of each input
    [[nodiscard]] std::optional<double> operator()(const std::vector<double>& s) {
        const factors f = factors_of(s);
        if (!f.fit) return std::nullopt;
        load_weights(s, f, true);
        std::vector<double> losses(static_cast<std::size_t>((X_.rows() + strip - 1) / strip));
        for_each_strip([&](index_t first, index_t count, worker& w) {
            multiply(s, f, true, first, count, w);
            double loss = 0;
            for (index_t t = 0; t < count; ++t)
                for (index_t i = 0; i < rows_; ++i) {
                    const double error = static_cast<double>(outputs_(first + t, i)) - static_cast<double>(w.product(t, i));
                    loss += error * error;
                }
            losses[static_cast<std::size_t>(first / strip)] = loss;
        });
        const double loss = std::accumulate(losses.begin(), losses.end(), 0.0);
        return is_finite(loss) ? std::optional(loss) : std::nullopt;
    }

    [[nodiscard]] int unit() const noexcept { return unit_; }

private:
    using blocks = kernels::product_blocks<Scalar, simd::default_arch>;
    static constexpr index_t strip = 2 * blocks::rows;  // tokens per task: enough to make packing the weights worthwhile

    struct worker {
        matrix<Scalar> inputs, product;
        aligned_buffer<Scalar> scratch;
        std::vector<double> token;
    };
    /// What keeps numbers in range: scaled inputs and weights are divided by powers of two.
    struct factors {
        double largest_input = 0;
        int input = 0, weight = 0;
        bool fit = false;  ///< whether scaled inputs and weights are finite
    };

    [[nodiscard]] static double largest(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

    [[nodiscard]] factors factors_of(const std::vector<double>& s) const {
        double x = 0, w = 0;
        for (std::size_t j = 0; j < s.size(); ++j) {
            if (!(s[j] > 0) || !is_finite(s[j])) return {};
            x = (std::max)(x, inputs_.largest_input[j] / s[j]);
            w = (std::max)(w, inputs_.largest_weight[j] * s[j]);
        }
        if (!is_finite(x) || !(w <= static_cast<double>((std::numeric_limits<Scalar>::max)()))) return {};
        return {x, near_one_exponent(x), near_one_exponent(w), true};
    }

    void load_weights(const std::vector<double>& s, const factors& f, bool rounded) {
        index_t first = 0;
        for (const matrix_ref& layer : W_) {
            const matrix_view<Scalar> w = weights_.view().block(first, 0, layer.rows(), layer.cols());
            exec_.parallel_for(w.rows(), [&](index_t i, index_t) {
                layer.visit_row(i, 0, w.cols(),
                                [&](index_t j, double weight) { w(i, j) = static_cast<Scalar>(weight * s[static_cast<std::size_t>(j)]); });
            });
            if (rounded) rounding_.round(rounding_.quantizer, w, exec_);
            first += layer.rows();
        }
        const double factor = std::ldexp(1.0, -f.weight);
        std::transform(weights_.data(), weights_.data() + rows_ * X_.cols(), weights_.data(),
                       [&](Scalar w) { return static_cast<Scalar>(static_cast<double>(w) * factor); });
    }

    template <class Task>
    void for_each_strip(const Task& task) {
        exec_.parallel_for((X_.rows() + strip - 1) / strip, [&](index_t k, index_t at) {
            task(k * strip, (std::min)(strip, X_.rows() - k * strip), workers_[static_cast<std::size_t>(at)]);
        });
    }

    /// w.product <- the outputs of some tokens
    void multiply(const std::vector<double>& s, const factors& f, bool rounded, index_t first, index_t count, worker& w) const {
        const double factor = std::ldexp(1.0, -f.input);
        const index_t n = X_.cols();
        for (index_t t = 0; t < count; ++t) {
            X_.load_row(first + t, 0, n, w.token.data());
            for (std::size_t j = 0; j < w.token.size(); ++j) w.token[j] = w.token[j] / s[j] * factor;
            if (rounded && activations_) {
                const bool alone = activations_->scale == activation_scale::per_token;
                round_to_levels(w.token.data(), n, alone ? largest_magnitude(w.token.data(), n) : f.largest_input * factor,
                                largest_level_of(*activations_));
            }
            std::transform(w.token.begin(), w.token.end(), &w.inputs(t, 0), [](double x) { return static_cast<Scalar>(x); });
        }
        const auto product = w.product.view().block(0, 0, count, rows_);
        std::fill_n(product.data(), count * rows_, Scalar(0));
        kernels::multiply_add(product, std::ldexp(1.0, f.input + f.weight - unit_),
                              matrix_view<const Scalar>(w.inputs.view()).block(0, 0, count, n),
                              matrix_view<const Scalar>(weights_.view()).transposed(), w.scratch.data());
    }

    std::span<const matrix_ref> W_;
    matrix_ref X_;
    weight_rounding<Scalar> rounding_;
    std::optional<activation_options> activations_;
    const input_magnitudes& inputs_;
    executor_ref exec_;
    index_t rows_ = 0;        // of all layers
    int unit_ = 0;            // outputs are divided by 2^unit
    matrix<Scalar> weights_;  // Qw(W S), the layers below each other
    matrix<Scalar> outputs_;  // X W^T
    std::vector<worker> workers_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
