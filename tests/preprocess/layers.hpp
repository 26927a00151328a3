// SPDX-License-Identifier: MIT
// Random layers and a long-double oracle of the MagR problem.
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include <magr/magr.hpp>

namespace preprocess_layers {

using magr::index_t;
template <class T>
using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using exact = row_major<long double>;

struct layer {
    row_major<double> W, H;
};

/// Gaussian weights with a few large ones. Inputs have a few channels of large variance and a common direction, like activations.
inline layer random_layer(index_t out, index_t in, unsigned seed, double spread = 3) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    std::uniform_int_distribution<index_t> any(0, in - 1);
    layer made{row_major<double>(out, in), row_major<double>::Zero(in, in)};
    for (index_t i = 0; i < out; ++i) {
        for (index_t j = 0; j < in; ++j) made.W(i, j) = 0.05 * normal(generator);
        made.W(i, any(generator)) *= 8;
    }
    Eigen::VectorXd scale(in), x(in);
    for (index_t j = 0; j < in; ++j) scale(j) = std::exp(spread / 3 * normal(generator));
    for (index_t t = 0; t < 3 * in; ++t) {
        const double common = normal(generator);
        for (index_t j = 0; j < in; ++j) x(j) = scale(j) * (normal(generator) + common);
        made.H += x * x.transpose();
    }
    return made;
}

/// What inputs contain besides independent noise of size 1.
struct common_inputs {
    std::vector<double> means = {};    ///< sizes of a mean per channel; with several, tokens take them in turn
    std::vector<double> factors = {};  ///< sizes of common factors
    index_t massive = 0;               ///< how many of the first channels are 300 times as large
    bool massive_together = false;     ///< whether those move together
    double grading = 1;                ///< ratio between the largest and the smallest channel
};

/// The inputs, tokens x channels.
inline row_major<double> inputs_of(const common_inputs& inputs, index_t channels, index_t tokens, unsigned seed) {
    std::mt19937_64 generator(seed);
    std::normal_distribution<double> normal;
    const auto draw = [&](index_t rows) {
        row_major<double> drawn(rows, channels);
        for (index_t i = 0; i < drawn.size(); ++i) drawn.data()[i] = normal(generator);
        return drawn;
    };
    row_major<double> X = draw(tokens);
    const auto means = static_cast<index_t>(inputs.means.size());
    const row_major<double> mean = draw(means);
    for (index_t t = 0; t < tokens && means > 0; ++t) X.row(t) += inputs.means[static_cast<std::size_t>(t % means)] * mean.row(t % means);
    for (const double size : inputs.factors) {
        const row_major<double> factor = draw(1);
        for (index_t t = 0; t < tokens; ++t) X.row(t) += size * normal(generator) * factor;
    }
    for (index_t t = 0; t < tokens; ++t) {
        const double together = 300 * normal(generator);
        for (index_t j = 0; j < inputs.massive; ++j) X(t, j) = inputs.massive_together ? X(t, j) + together : 300 * X(t, j);
    }
    for (index_t j = 0; j < channels; ++j)
        X.col(j) *= std::pow(inputs.grading, static_cast<double>(j * 97 % channels) / static_cast<double>(channels));
    return X;
}

inline row_major<double> gram_of(const common_inputs& inputs, index_t channels, index_t tokens, unsigned seed) {
    const row_major<double> X = inputs_of(inputs, channels, tokens, seed);
    return X.transpose() * X;
}

/// The problem in long double: H_d = (H + damping mean(diag H) I) / lambda_max(H), where the mean is that of live inputs. It uses
/// coefficient-wise products, because Eigen's blocked ones take long to compile for another type.
struct exact_problem {
    exact W0, H, undamped;
    long double alpha;
    index_t group;

    exact_problem(const row_major<double>& W, const row_major<double>& H_, double alpha_, index_t group_, double damping)
        : W0(W.cast<long double>()), alpha(alpha_), group(group_) {
        const exact scaled = H_.cast<long double>() / H_.diagonal().maxCoeff();
        const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(Eigen::MatrixXd(scaled.cast<double>()));
        undamped = scaled / static_cast<long double>(eigen.eigenvalues().maxCoeff());
        H = undamped;
        const auto live = static_cast<long double>((undamped.diagonal().array() > 0).count());
        const long double shift = static_cast<long double>(damping) * undamped.diagonal().sum() / live;
        H.diagonal().array() += shift;
        lipschitz = 1 + shift;
    }
    long double lipschitz;

    long double row_objective(const exact& W, index_t i) const {
        const Eigen::Matrix<long double, 1, Eigen::Dynamic> d = W.row(i) - W0.row(i);
        long double penalty = 0;
        for (index_t j = 0; j < W.cols(); j += group) penalty += W.row(i).segment(j, std::min(group, W.cols() - j)).cwiseAbs().maxCoeff();
        return d.lazyProduct(H).dot(d) / 2 + alpha * penalty;
    }
    long double objective(const exact& W) const {
        long double total = 0;
        for (index_t i = 0; i < W.rows(); ++i) total += row_objective(W, i);
        return total;
    }

    /// Textbook prox of t ||.||_inf by sorting.
    static void prox(Eigen::Ref<Eigen::Matrix<long double, 1, Eigen::Dynamic>> v, long double t) {
        std::vector<long double> sorted(static_cast<std::size_t>(v.size()));
        for (index_t j = 0; j < v.size(); ++j) sorted[static_cast<std::size_t>(j)] = std::abs(v(j));
        std::sort(sorted.begin(), sorted.end(), std::greater<>());
        long double sum = 0, tau = 0;
        for (std::size_t k = 0; k < sorted.size(); ++k) {
            sum += sorted[k];
            const long double candidate = (sum - t) / static_cast<long double>(k + 1);
            if (candidate < sorted[k]) tau = candidate;
        }
        tau = std::max(tau, 0.0L);
        for (index_t j = 0; j < v.size(); ++j) v(j) = std::clamp(v(j), -tau, tau);
    }
    void prox_groups(exact& V, long double t) const {
        for (index_t i = 0; i < V.rows(); ++i)
            for (index_t j = 0; j < V.cols(); j += group) {
                Eigen::Matrix<long double, 1, Eigen::Dynamic> part = V.row(i).segment(j, std::min(group, V.cols() - j));
                prox(part, t);
                V.row(i).segment(j, part.size()) = part;
            }
    }

    /// The authors' iteration, as published.
    exact proximal_gradient(int iterations) const {
        exact W = W0;
        for (int k = 0; k < iterations; ++k) {
            W = (W - exact(W - W0).lazyProduct(H) / lipschitz).eval();
            prox_groups(W, alpha / lipschitz);
        }
        return W;
    }

    /// The optimum to about twelve digits: accelerated proximal gradient with restarts.
    exact optimum() const {
        exact W = W0, Y = W0;
        long double t = 1;
        for (int k = 0; k < 20000; ++k) {
            exact next = Y - exact(Y - W0).lazyProduct(H) / lipschitz;
            prox_groups(next, alpha / lipschitz);
            if (((Y - next).cwiseProduct(next - W)).sum() > 0) t = 1;
            const long double t_next = (1 + std::sqrt(1 + 4 * t * t)) / 2;
            const long double change = (next - W).cwiseAbs().maxCoeff();
            Y = next + (t - 1) / t_next * (next - W);
            W = next;
            t = t_next;
            if (change < 1e-16L * W0.cwiseAbs().maxCoeff() && k > 50) break;
        }
        return W;
    }
};

}  // namespace preprocess_layers
