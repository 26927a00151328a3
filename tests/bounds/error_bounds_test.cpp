// SPDX-License-Identifier: MIT
#include <magr/bounds/error_bounds.hpp>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/compensate_drift.hpp>
#include <magr/drift/drift.hpp>
#include <magr/feedback/feedback.hpp>
#include <magr/fit/fit_grid.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/quantize/rtn.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/names.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::VectorXd;
using magr::bound_errors;
using magr::bound_options;
using magr::bound_status;
using magr::column_order;
using magr::error_bounds;
using magr::index_t;
using magr::optq_options;
using magr::quantize_optq;
using magr::rounding_mode;
using tests::random_matrix;

namespace {

/// Similar inputs, so that feedback matters.
MatrixXd correlated_inputs(index_t tokens, index_t inputs, unsigned seed) {
    return random_matrix(tokens, inputs, seed) * (random_matrix(inputs, inputs, seed + 1) + 2 * MatrixXd::Identity(inputs, inputs));
}

template <class Scalar>
MatrixXd values_of(const magr::quantized_matrix<Scalar>& q) {
    const magr::matrix<Scalar> values = q.dequantize();
    return MatrixXd::NullaryExpr(q.rows(), q.cols(), [&](index_t i, index_t j) { return static_cast<double>(values(i, j)); });
}

/// H + damping mean(diag H) I
MatrixXd damped(const MatrixXd& H, double damping) { return H + damping * H.diagonal().mean() * MatrixXd::Identity(H.rows(), H.cols()); }

/// H = T D T^T by elimination from the last column on.
struct factors {
    MatrixXd T;
    VectorXd D;
};
factors factor(MatrixXd H) {
    factors f{MatrixXd::Identity(H.rows(), H.cols()), VectorXd(H.rows())};
    for (index_t k = H.rows() - 1; k >= 0; --k) {
        f.D[k] = H(k, k);
        f.T.col(k).head(k) = H.col(k).head(k) / H(k, k);
        H.topLeftCorner(k, k) -= f.D[k] * f.T.col(k).head(k) * f.T.col(k).head(k).transpose();
    }
    return f;
}

/// One grid for each row: codes -2^(bits-1) .. 2^(bits-1) - 1 times `scale`.
magr::weight_grids<double> symmetric_grids(index_t rows, index_t cols, int bits, double scale) {
    auto grids = magr::fit_grids(MatrixXd(MatrixXd::Zero(rows, cols)), {.bits = bits, .zero_point = magr::zero_point::none});
    for (index_t i = 0; i < rows; ++i) grids.scales(i, 0) = scale;
    return grids;
}

void check_equal(const error_bounds& a, const error_bounds& b) {
    CHECK(a.status == b.status);
    CHECK(a.outside == b.outside);
    CHECK(a.clipped == b.clipped);
    CHECK(a.unexplained == b.unexplained);
    CHECK(a.pivot_sum == b.pivot_sum);
    CHECK(a.loss == b.loss);
    CHECK(a.loss_bound == b.loss_bound);
    CHECK(a.largest_output_error == b.largest_output_error);
    CHECK(a.output_error_bound == b.output_error_bound);
    const auto levels = [](const auto& alphabet) { return alphabet ? std::optional(alphabet->levels) : std::nullopt; };
    CHECK(levels(a.certain_alphabet) == levels(b.certain_alphabet));
    CHECK(levels(a.probable_alphabet) == levels(b.probable_alphabet));
}

}  // namespace

TEST_CASE("bound_errors: the loss is the sum of orthogonal parts, for any codes", "[quantize][bounds][oracle]") {
    const index_t n = 20;
    const MatrixXd X = correlated_inputs(33, n, 1), H = X.transpose() * X, W = random_matrix(7, n, 3);
    const double lambda = 0.02 * H.diagonal().mean();
    MatrixXd augmented(X.rows() + n, n);
    augmented << X, std::sqrt(lambda) * MatrixXd::Identity(n, n);
    const factors f = factor(augmented.transpose() * augmented);
    const MatrixXd V = f.T.inverse() * augmented.transpose();  // v_j as rows
    const MatrixXd products = V * V.transpose();
    CHECK((products - MatrixXd(f.D.asDiagonal())).cwiseAbs().maxCoeff() < 1e-11 * f.D.maxCoeff());

    auto q = magr::quantize_rtn(W, {.bits = 2});
    std::mt19937 random(4);
    for (index_t i = 0; i < 7; ++i)
        for (index_t j = 0; j < n; ++j) q.codes(i, j) = static_cast<std::uint8_t>(random() % 4);
    const MatrixXd E = values_of(q) - W, eta = E * f.T;
    CHECK(((-eta) * V - (W - values_of(q)) * augmented.transpose()).norm() < 1e-9 * (E * augmented.transpose()).norm());
    const double by_parts = (eta.array().square().colwise().sum().transpose() * f.D.array()).sum();
    const error_bounds bounds = bound_errors(W, q, H, X, {.optq = {.damping = 0.02}});
    CHECK(bounds.loss == Approx(by_parts).epsilon(1e-9));
    CHECK(bounds.loss == Approx((E * X.transpose()).squaredNorm() + lambda * E.squaredNorm()).epsilon(1e-9));
    CHECK(bounds.pivot_sum == Approx(f.D.sum()).epsilon(1e-9));
    CHECK(bounds.pivot_sum <= H.trace() + lambda * static_cast<double>(n));
    CHECK(bounds.largest_output_error.value() == Approx((E * X.transpose()).cwiseAbs().maxCoeff()).epsilon(1e-12));
    CHECK(bounds.unexplained > 0);
    CHECK_FALSE(bounds.loss_bound_applies());
    CHECK_FALSE(bounds.loss_bound_held().has_value());
}

TEMPLATE_TEST_CASE("bound_errors: agrees with the report of OPTQ, and the bound holds", "[quantize][bounds][property]", float, double) {
    using scalar = TestType;
    using weights = Eigen::Matrix<scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const double precision = std::is_same_v<scalar, float> ? 1e-3 : 1e-9;
    int bounded = 0, unbounded = 0;
    for (const auto kind : layers::all_inputs)
        for (const auto order : {column_order::natural, column_order::act_order, column_order::group_aware})
            for (const auto groups : {magr::group_update::fixed, magr::group_update::live, magr::group_update::stale})
                for (const auto rounding : {rounding_mode::nearest, rounding_mode::stochastic})
                    for (const double shrink : {1.0, 0.3}) {
                        const auto layer = layers::make_layer(5, 30, kind, 7);
                        const weights W = (shrink * layer.W).cast<scalar>();
                        const optq_options options{
                            .damping = 0.03, .block_size = 8, .order = order, .groups = groups, .rounding = rounding, .seed = 3};
                        const magr::grid_options grid{.bits = 4, .group_size = 10};
                        const auto result = groups == magr::group_update::fixed
                                                ? quantize_optq(W, layer.H, magr::fit_grids(weights(layer.W.cast<scalar>()), grid), options)
                                                : quantize_optq(W, layer.H, grid, options);
                        const error_bounds bounds = bound_errors(W, result.quantized, layer.H, {.optq = options});
                        CAPTURE(kind, order, groups, rounding, shrink);
                        REQUIRE(bounds.status == bound_status::bounded);
                        CHECK(bounds.damping == result.damping);
                        CHECK(bounds.clipped == result.clipped);
                        CHECK(bounds.outside >= bounds.clipped);
                        CHECK(bounds.unexplained == 0);
                        CHECK(bounds.loss == Approx(2 * *result.loss).epsilon(precision));
                        CHECK(bounds.loss_bound == Approx(2 * *result.loss_bound).epsilon(precision));
                        CHECK(bounds.loss_bound_held() == result.bound_held());
                        (bounds.loss_bound_applies() ? bounded : unbounded) += 1;
                        if (bounds.loss_bound_applies()) CHECK(bounds.loss <= bounds.loss_bound);
                    }
    CHECK(bounded > 30);
    CHECK(unbounded > 30);
}

TEST_CASE("bound_errors: the damping belongs to the bound", "[quantize][bounds]") {
    const MatrixXd H = (MatrixXd(2, 2) << 1, 0.9, 0.9, 1).finished(), W = (MatrixXd(1, 2) << 0.4999, 0.274945).finished();
    const auto grids = symmetric_grids(1, 2, 4, 1);
    const auto q = quantize_optq(W, H, grids, {.damping = 1}).quantized;
    const error_bounds bounds = bound_errors(W, q, H, {.optq = {.damping = 1}});
    const MatrixXd E = values_of(q) - W;
    CHECK((E * H * E.transpose())(0, 0) == Approx(0.572896).epsilon(1e-6));
    CHECK(bounds.loss == Approx(0.572896 + E.squaredNorm()).epsilon(1e-6));
    CHECK(bounds.loss_bound == Approx(0.89875));
    CHECK(bounds.loss_bound_held().value());
    CHECK(factor(H).D.sum() / 4 == Approx(0.2975));  // less than the loss without damping
    // codes that were made with another damping are recognised
    const error_bounds other = bound_errors(W, q, H, {.optq = {.damping = 0}});
    CHECK(other.unexplained == 1);
    CHECK_FALSE(other.loss_bound_applies());
}

TEST_CASE("bound_errors: weights that are spread evenly lose s^2/12 or s^2/6 of tr D on average", "[quantize][bounds][property]") {
    const index_t rows = 400, n = 24;
    const MatrixXd X = correlated_inputs(60, n, 5), H = X.transpose() * X;
    const MatrixXd W = (random_matrix(rows, n, 6).array() * 1000).unaryExpr([](double x) { return x - std::floor(x); });  // on [0, 1)
    for (const auto rounding : {rounding_mode::nearest, rounding_mode::stochastic}) {
        const double variance = rounding == rounding_mode::nearest ? 1.0 / 12 : 1.0 / 6;
        double sum = 0;
        constexpr int draws = 20;
        for (std::uint64_t seed = 0; seed < draws; ++seed) {
            const optq_options options{.rounding = rounding, .seed = seed};
            const MatrixXd shifted = W.array() + 0.05 * static_cast<double>(seed);
            const auto q = quantize_optq(shifted, H, symmetric_grids(rows, n, 8, 1), options).quantized;
            const error_bounds bounds = bound_errors(shifted, q, H, {.optq = options});
            CHECK(bounds.outside == 0);
            CHECK(bounds.loss_bound_held().value());
            // a quarter of the certain bound of stochastic rounding bounds the expectation; so many rows are near it
            CHECK(bounds.loss <= static_cast<double>(rows) / 4 * bounds.pivot_sum);
            sum += bounds.loss / (static_cast<double>(rows) * bounds.pivot_sum * variance);
        }
        // the loss of a row deviates by less than its mean, and tr D is spread over several columns
        CHECK(sum / draws == Approx(1).margin(3 / std::sqrt(static_cast<double>(rows * draws))));
    }
}

TEST_CASE("bound_errors: the expected loss of stochastic rounding, from its definition", "[quantize][bounds][oracle]") {
    // all outcomes of two weights of one half: D = (1, 1), T01 = 1/2, so the second weight is rounded at 1/4 or 3/4
    const MatrixXd H = (MatrixXd(2, 2) << 1.25, 0.5, 0.5, 1).finished(), W = (MatrixXd(1, 2) << 0.5, 0.5).finished();
    double loss = 0, bound = 0;
    constexpr int draws = 4000;
    for (std::uint64_t seed = 0; seed < draws; ++seed) {
        const optq_options options{.damping = 0, .rounding = rounding_mode::stochastic, .seed = seed};
        const auto q = quantize_optq(W, H, symmetric_grids(1, 2, 3, 1), options).quantized;
        const error_bounds bounds = bound_errors(W, q, H, {.optq = options});
        loss += bounds.loss / draws;
        bound = bounds.loss_bound;
    }
    CHECK(bound == Approx(2));
    CHECK(loss == Approx(0.4375).margin(3 * 0.2 / std::sqrt(draws)));  // losses are 5/16 or 13/16, which deviates by 0.217
}

TEST_CASE("bound_errors: the largest output error, from the formula", "[quantize][bounds][oracle]") {
    const index_t n = 18, rows = 6, tokens = 150;
    const MatrixXd X = correlated_inputs(tokens, n, 8), H = X.transpose() * X, W = 0.3 * random_matrix(rows, n, 9);
    auto grids = magr::fit_grids(MatrixXd(10 * W), {.bits = 8, .group_size = 5});
    for (const auto order : {column_order::natural, column_order::act_order}) {
        const optq_options options{.damping = 0.05, .order = order, .rounding = rounding_mode::stochastic, .seed = 2};
        const bound_options how{.optq = options, .failure_probability = 0.2};
        const auto q = quantize_optq(W, H, grids, options).quantized;
        const std::vector<index_t> columns = magr::order_columns(magr::as_const_view(H), order, 5);
        const Eigen::Map<const Eigen::Matrix<index_t, Eigen::Dynamic, 1>> permutation(columns.data(), n);
        const factors f = factor(damped(H, 0.05)(permutation, permutation));
        const MatrixXd V = (f.T.inverse() * X(Eigen::all, permutation).transpose()).transpose();
        double of_tokens = 0, of_gram = 0;
        for (index_t i = 0; i < rows; ++i) {
            VectorXd s(n);
            for (index_t k = 0; k < n; ++k) s[k] = grids.scales(i, columns[static_cast<std::size_t>(k)] / 5);
            of_tokens = std::max(of_tokens, (V * s.asDiagonal()).rowwise().norm().maxCoeff());
            of_gram = std::max(of_gram, (s.array().square() * f.D.array()).maxCoeff());
        }
        const double deviations = std::sqrt(0.5 * std::log(2.0 * tokens * rows / 0.2));
        const error_bounds with_tokens = bound_errors(W, q, H, X, how);
        CHECK(with_tokens.output_error_bound.value() == Approx(deviations * of_tokens).epsilon(1e-9));
        CHECK(with_tokens.output_bound_held().value());
        auto counted = how;
        counted.tokens = tokens;
        const error_bounds from_gram = bound_errors(W, q, H, counted);
        CHECK(from_gram.output_error_bound.value() == Approx(deviations * std::sqrt(of_gram)).epsilon(1e-9));
        CHECK(from_gram.output_bound_applies());
        CHECK_FALSE(from_gram.output_bound_held().has_value());  // nothing was measured
        CHECK(*from_gram.output_error_bound >= *with_tokens.output_error_bound);

        magr::gram_accumulator<double> calibration(n);
        calibration.add(X);
        CHECK(bound_errors(W, q, magr::hessian(calibration), how).output_error_bound.value() ==
              Approx(*from_gram.output_error_bound).epsilon(1e-9));
        CHECK_FALSE(bound_errors(W, q, H, how).output_error_bound.has_value());  // nobody counted the tokens
        const auto nearest = quantize_optq(W, H, grids, {.damping = 0.05, .order = order}).quantized;
        CHECK_FALSE(bound_errors(W, nearest, H, X, {.optq = {.damping = 0.05, .order = order}}).output_error_bound.has_value());
    }
}

TEST_CASE("bound_errors: random outputs break their bound no more often than allowed", "[quantize][bounds][property]") {
    constexpr int draws = 1500;
    const double p = 0.4;
    for (const index_t n : {index_t{1}, index_t{2}, index_t{12}}) {
        const MatrixXd X = correlated_inputs(n, n, 10), H = X.transpose() * X, W = 0.3 * random_matrix(2, n, 11);
        const MatrixXd unseen = 5 * correlated_inputs(1, n, 12);
        const auto grids = symmetric_grids(2, n, 8, 0.5);
        int broken = 0;
        double nearest_to_bound = 0;
        for (std::uint64_t seed = 0; seed < draws; ++seed) {
            const bound_options options{.optq = {.rounding = rounding_mode::stochastic, .seed = seed}, .failure_probability = p};
            const auto q = quantize_optq(W, H, grids, options.optq).quantized;
            for (const MatrixXd& tokens : {X, unseen}) {
                const error_bounds bounds = bound_errors(W, q, H, tokens, options);
                REQUIRE(bounds.output_bound_applies());
                broken += bounds.output_bound_held().value() ? 0 : 1;
                nearest_to_bound = std::max(nearest_to_bound, *bounds.largest_output_error / *bounds.output_error_bound);
            }
        }
        CAPTURE(n);
        CHECK(broken <= p * draws);
        CHECK(nearest_to_bound > 0.4);  // and the bound is of the size of the errors
    }
}

TEST_CASE("bound_errors: no weight is clipped if there are as many codes as it says", "[quantize][bounds][property]") {
    const index_t n = 16, rows = 5;
    int smaller = 0;
    for (unsigned seed = 0; seed < 40; ++seed) {
        const MatrixXd X = correlated_inputs(30, n, 3 * seed), H = X.transpose() * X, W = random_matrix(rows, n, seed);
        for (const auto rounding : {rounding_mode::nearest, rounding_mode::stochastic}) {
            const bound_options options{.optq = {.damping = 0.1, .rounding = rounding, .seed = seed}};
            const auto q = quantize_optq(W, H, symmetric_grids(rows, n, 3, 1), options.optq).quantized;
            const error_bounds before = bound_errors(W, q, H, options);
            for (const auto& alphabet : {before.certain_alphabet, before.probable_alphabet}) {
                if (!alphabet) continue;
                CAPTURE(seed, rounding, alphabet->levels);
                REQUIRE(alphabet->bits <= 8);
                CHECK(alphabet->levels <= std::ldexp(1.0, alphabet->bits));
                CHECK(alphabet->levels > std::ldexp(1.0, alphabet->bits - 1));
                const auto grids = symmetric_grids(rows, n, std::max(2, alphabet->bits), 1);
                const auto wider = quantize_optq(W, H, grids, options.optq);
                CHECK(wider.clipped == 0);
                const error_bounds after = bound_errors(W, wider.quantized, H, options);
                if (rounding == rounding_mode::stochastic) CHECK(after.outside == 0);
                CHECK(after.loss_bound_held().value());
                // the need does not depend on how many codes there are
                CHECK(after.certain_alphabet.value().levels == before.certain_alphabet.value().levels);
                for (index_t i = 0; i < rows; ++i)
                    for (index_t j = 0; j < n; ++j)
                        CHECK(std::abs(values_of(wider.quantized)(i, j)) <= (before.certain_alphabet.value().levels - 1) / 2);
            }
            CHECK(before.probable_alphabet.has_value() == (rounding == rounding_mode::stochastic));
            if (!before.probable_alphabet) continue;
            CHECK(before.probable_alphabet->levels <= before.certain_alphabet->levels);
            smaller += before.probable_alphabet->levels < before.certain_alphabet->levels ? 1 : 0;
        }
    }
    CHECK(smaller > 10);
}

TEST_CASE("bound_errors: the number of codes, worked by hand", "[quantize][bounds]") {
    const auto levels = [](const MatrixXd& W, const MatrixXd& H, const auto& grids, const optq_options& options) {
        const auto q = quantize_optq(W, H, grids, options).quantized;
        return bound_errors(W, q, H, {.optq = options}).certain_alphabet.value().levels;
    };
    // independent inputs: weights do not move
    const MatrixXd identity = MatrixXd::Identity(3, 3);
    const MatrixXd W = (MatrixXd(1, 3) << 0.2, -3.4, 1.6).finished();
    CHECK(levels(W, identity, symmetric_grids(1, 3, 4, 1), {}) == 7);                                       // -3..3
    CHECK(levels(W, identity, symmetric_grids(1, 3, 4, 1), {.rounding = rounding_mode::stochastic}) == 9);  // -4..4
    CHECK(levels(W, identity, symmetric_grids(1, 3, 4, 2), {}) == 5);                                       // -1.7 steps
    CHECK(levels(MatrixXd(0.1 * W), identity, symmetric_grids(1, 3, 4, 1), {}) == 1);                       // all become 0
    // D = (0.19, 1), T01 = 0.9: the second weight moves by at most 0.45, and nearly does
    const MatrixXd H = (MatrixXd(2, 2) << 1, 0.9, 0.9, 1).finished();
    const auto grids = symmetric_grids(1, 2, 2, 1);  // -2..1
    for (const double second : {1.04, 1.06}) {
        const MatrixXd w = (MatrixXd(1, 2) << 0.4999, second).finished();
        const auto result = quantize_optq(w, H, grids, {.damping = 0});
        const error_bounds bounds = bound_errors(w, result.quantized, H, {.optq = {.damping = 0}});
        CHECK(bounds.certain_alphabet.value().levels == (second < 1.05 ? 3 : 5));
        CHECK(bounds.certain_alphabet.value().bits == (second < 1.05 ? 2 : 3));
        CHECK(bounds.outside == 1);
        CHECK(bounds.clipped == (second < 1.05 ? 0 : 1));
        CHECK(bounds.loss_bound_applies() == (second < 1.05));
    }
    // points of the grid that are not 0: -0.4, 0.6, ..
    auto shifted = magr::fit_grids(W, {.bits = 4, .zero_point = magr::zero_point::offset});
    shifted.scales(0, 0) = 1;
    shifted.zeros(0, 0) = -7.4;                                                           // -7.4 .. 7.6
    CHECK(levels((MatrixXd(1, 3) << 0, 0, 3).finished(), identity, shifted, {}) == 7);    // 2.6 or 3.6: three codes beyond -0.4
    CHECK(levels((MatrixXd(1, 3) << 0, 0, 3.2).finished(), identity, shifted, {}) == 9);  // nearest to 3.6
}

TEST_CASE("bound_errors: says that no bound applies where clipping lets the loss grow", "[quantize][bounds][oracle]") {
    // the counterexample to finite grids of QuIP (arXiv 2307.13304); losses computed with its published code
    for (const index_t n : {index_t{16}, index_t{64}}) {
        const double c = 0.01;
        MatrixXd H = MatrixXd::Ones(n, n) + MatrixXd::Identity(n, n);
        H(n - 1, n - 1) = 1;
        for (index_t j = 1; j < n; ++j) {
            H(0, j) += j < n - 1 ? 2 * c : c;
            H(j, 0) = H(0, j);
        }
        H(0, 0) += 4 * c + static_cast<double>(n) * c * c;
        const MatrixXd W = MatrixXd::NullaryExpr(1, n, [](index_t, index_t j) { return 0.499 + 0.002 * static_cast<double>(j % 2); });
        auto small = symmetric_grids(1, n, 2, 1);
        small.zero_point = magr::zero_point::integer;
        small.zeros(0, 0) = 0;  // 0..3
        const auto run = [&](const auto& grids) {
            return bound_errors(W, quantize_optq(W, H, grids, {.damping = 0}).quantized, H, {.optq = {.damping = 0}});
        };
        const error_bounds clipped = run(small);
        CHECK(clipped.loss == Approx(n == 16 ? 39.6247 : 915.1469).epsilon(1e-5));
        CHECK(clipped.loss > clipped.loss_bound);
        CHECK(clipped.clipped > 0);
        CHECK_FALSE(clipped.loss_bound_held().has_value());
        const error_bounds whole = run(symmetric_grids(1, n, 8, 1));
        CHECK(whole.loss == Approx(n == 16 ? 3.6845 : 15.4463).epsilon(1e-5));
        CHECK(whole.loss_bound_held().value());
        CHECK(whole.certain_alphabet.value().levels == clipped.certain_alphabet.value().levels);
    }
}

TEST_CASE("bound_errors: counts weights outside of their grid, and those by more than half a step", "[quantize][bounds]") {
    const MatrixXd H = MatrixXd::Identity(4, 4), X = MatrixXd::Identity(4, 4);
    const MatrixXd W = (MatrixXd(1, 4) << -2.3, 0.2, 1.0, 0.6).finished();  // codes -2..1
    const auto run = [&](const MatrixXd& w, rounding_mode rounding) {
        const optq_options options{.rounding = rounding};
        return bound_errors(w, quantize_optq(w, H, symmetric_grids(1, 4, 2, 1), options).quantized, H, X, {.optq = options});
    };
    for (const auto rounding : {rounding_mode::nearest, rounding_mode::stochastic}) {
        const error_bounds one = run(W, rounding);
        CHECK(one.outside == 1);
        CHECK(one.clipped == 0);
        CHECK(one.unexplained == 0);
        CHECK(one.loss_bound_held().value());
        CHECK_FALSE(one.output_bound_applies());  // -2.3 always becomes -2
        CHECK_FALSE(one.output_bound_held().has_value());
        const error_bounds two = run(W.array() + 0.9, rounding);  // -1.4, 1.1, 1.9, 1.5
        CHECK(two.outside == 3);
        CHECK(two.clipped == 1);
        CHECK_FALSE(two.loss_bound_applies());
        const error_bounds none = run(W.array() + 0.3, rounding);  // -2, 0.5, 1.3, 0.9
        CHECK(none.outside == 1);
    }
    const error_bounds inside = run(0.5 * W, rounding_mode::stochastic);
    CHECK(inside.outside == 0);
    CHECK(inside.output_bound_held().value());
}

TEST_CASE("bound_errors: recognises codes that the options do not give", "[quantize][bounds]") {
    const MatrixXd X = correlated_inputs(50, 24, 20), H = X.transpose() * X, W = random_matrix(6, 24, 21);
    const auto grids = magr::fit_grids(W, {.bits = 5});
    const auto q = quantize_optq(W, H, grids).quantized;
    CHECK(bound_errors(W, q, H).unexplained == 0);
    CHECK(bound_errors(W, *magr::round_onto(grids, W, H, magr::ldl_feedback{}), H).unexplained == 0);
    const optq_options random{.order = column_order::act_order, .rounding = rounding_mode::stochastic, .seed = 5};
    const auto composed =
        magr::round_onto(grids, W, H, magr::ldl_feedback{}, magr::stochastic_rounding{5}, {.order = column_order::act_order});
    CHECK(bound_errors(W, *composed, H, {.optq = random}).unexplained == 0);
    for (const error_bounds& other :
         {bound_errors(W, magr::quantize_rtn(W, grids), H), bound_errors(W, q, H, {.optq = {.order = column_order::act_order}}),
          bound_errors(W, *composed, H), bound_errors(MatrixXd(W + 0.3 * random_matrix(6, 24, 22)), q, H)}) {
        CHECK(other.unexplained > 0);
        CHECK_FALSE(other.loss_bound_held().has_value());
        CHECK_FALSE(other.output_bound_applies());
    }
    auto changed = q;
    changed.codes(3, 23) = static_cast<std::uint8_t>(changed.codes(3, 23) > 3 ? 0 : 9);  // the last column moves no other
    CHECK(bound_errors(W, changed, H).unexplained == 1);
}

TEST_CASE("bound_errors: dead inputs do not count", "[quantize][bounds][dead]") {
    MatrixXd X = correlated_inputs(40, 12, 30);
    X.col(0).setZero();
    X.col(7).setZero();
    const MatrixXd H = X.transpose() * X, W = random_matrix(4, 12, 31);
    const auto grids = magr::fit_grids(MatrixXd(4 * W), H, {.bits = 8});
    MatrixXd other = W;
    other.col(0).array() += 100;  // far outside
    other.col(7).array() -= 100;
    MatrixXd louder = X;
    louder.col(0).setConstant(1e300);
    for (const auto dead : {magr::dead_columns::round, magr::dead_columns::zero}) {
        const bound_options options{.optq = {.dead = dead, .rounding = rounding_mode::stochastic}};
        const auto run = [&](const MatrixXd& w, const MatrixXd& tokens) {
            return bound_errors(w, quantize_optq(w, H, grids, options.optq).quantized, H, tokens, options);
        };
        const error_bounds bounds = run(W, X);
        CHECK(bounds.output_bound_held().value());
        CHECK(bounds.outside == 0);
        check_equal(run(other, X), bounds);
        check_equal(run(W, louder), bounds);
        // the same layer without these inputs
        const std::vector<index_t> live{1, 2, 3, 4, 5, 6, 8, 9, 10, 11};
        auto fewer = grids;
        fewer.group_of_column.resize(live.size());
        const MatrixXd w = W(Eigen::all, live), h = H(live, live), x = X(Eigen::all, live);
        magr::quantized_matrix<double> q{fewer, magr::matrix<std::uint8_t>(4, 10)};
        const auto whole = quantize_optq(W, H, grids, options.optq).quantized;
        for (index_t i = 0; i < 4; ++i)
            for (index_t k = 0; k < 10; ++k) q.codes(i, k) = whole.codes(i, live[static_cast<std::size_t>(k)]);
        const error_bounds without = bound_errors(w, q, h, x, options);
        CHECK(without.loss == Approx(bounds.loss).epsilon(1e-12));
        CHECK(without.loss_bound == Approx(bounds.loss_bound).epsilon(1e-12));
        CHECK(without.output_error_bound.value() == Approx(bounds.output_error_bound.value()).epsilon(1e-12));
        CHECK(without.probable_alphabet.value().levels == bounds.probable_alphabet.value().levels);
    }
    const MatrixXd nothing = MatrixXd::Zero(12, 12);
    const bound_options random{.optq = {.rounding = rounding_mode::stochastic}};
    const error_bounds none = bound_errors(W, quantize_optq(W, nothing, grids, random.optq).quantized, nothing, X, random);
    CHECK(none.status == bound_status::bounded);
    CHECK(none.loss == 0);
    CHECK(none.loss_bound == 0);
    CHECK(none.largest_output_error.value() == 0);
    CHECK(none.certain_alphabet.value().levels == 1);
    CHECK(none.output_bound_held().value());
    // nearly dead inputs are left out by their threshold
    MatrixXd faint = X;
    faint.col(7) = 1e-4 * random_matrix(40, 1, 32);
    const MatrixXd G = faint.transpose() * faint;
    const optq_options threshold{.dead_threshold = 1e-3};
    const auto q = quantize_optq(other, G, grids, threshold).quantized;
    CHECK(bound_errors(other, q, G, {.optq = threshold}).clipped == 0);
    CHECK(bound_errors(other, q, magr::hessian(G, 1e-3)).clipped == 0);
    CHECK(bound_errors(other, q, G).clipped > 0);
}

TEST_CASE("bound_errors: bounds Qronos in its projection form", "[quantize][bounds][oracle]") {
    // arXiv 2505.11695; with inputs Y of the quantized network, the target is the output of the original one
    for (unsigned seed = 0; seed < 20; ++seed) {
        const index_t n = 14, rows = 5;
        const MatrixXd X = correlated_inputs(40, n, 5 * seed), Y = X + 0.3 * random_matrix(40, n, 5 * seed + 2);
        const MatrixXd W0 = random_matrix(rows, n, 5 * seed + 3), H = Y.transpose() * Y, D = (X - Y).transpose() * Y;
        for (const double damping : {0.0, 0.04}) {
            const double lambda = damping * H.diagonal().mean();
            const auto distance = [&](const MatrixXd& Q) {
                return (X * W0.transpose() - Y * Q.transpose()).squaredNorm() + lambda * (W0 - Q).squaredNorm();
            };
            MatrixXd W = W0;
            REQUIRE(magr::compensate_drift(W, H, D, {.fraction = 1, .damping = damping}).compensated);
            const MatrixXd G = Y.transpose() * X;
            CHECK((W - (W0 * G.transpose() + lambda * W0) * damped(H, damping).inverse()).norm() < 1e-8 * W.norm());
            const auto q = quantize_optq(W, H, magr::fit_grids(MatrixXd(2 * W), {.bits = 5}), {.damping = damping}).quantized;
            const error_bounds bounds = bound_errors(W, q, H, {.optq = {.damping = damping}});
            CHECK(distance(values_of(q)) == Approx(distance(W) + bounds.loss).epsilon(1e-9));
            CHECK(distance(values_of(q)) <= distance(W) + bounds.loss_bound);
            CHECK(bounds.loss_bound_held().value());
        }
    }
}

TEST_CASE("bound_errors: the same bits for every executor, layout and source of H", "[quantize][bounds]") {
    const MatrixXd X = correlated_inputs(230, 130, 40), H = X.transpose() * X, W = random_matrix(210, 130, 41);
    const bound_options options{.optq = {.order = column_order::act_order, .rounding = rounding_mode::stochastic}};
    const auto grids = magr::fit_grids(MatrixXd(30 * W), {.bits = 8, .group_size = 65});
    const auto q = quantize_optq(W, H, grids, options.optq).quantized;
    const error_bounds bounds = bound_errors(W, q, H, X, options);
    CHECK(bounds.output_bound_held().value());
    magr::thread_pool pool(3);
    check_equal(bound_errors(W, q, H, X, options, pool), bounds);
    const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = W, tokens = X;
    const magr::hessian shared(H);
    const auto made = [&] { return shared.made(); };
    static_cast<void>(quantize_optq(rows, shared, grids, options.optq));
    const index_t before = made();
    check_equal(bound_errors(rows, q, shared, tokens, options), bounds);
    CHECK(made() == before);  // the factors are those of the quantization
}

TEST_CASE("bound_errors: weights, tokens and H may be of any size", "[quantize][bounds][edge]") {
    const MatrixXd X = correlated_inputs(40, 10, 50), H = X.transpose() * X, W = random_matrix(4, 10, 51);
    const bound_options options{.optq = {.rounding = rounding_mode::stochastic}};
    const auto grids = magr::fit_grids(MatrixXd(5 * W), {.bits = 8});
    const auto q = quantize_optq(W, H, grids, options.optq).quantized;
    const auto run = [&](double size_of_w, double size_of_h, double size_of_x) {
        auto sized = q;  // codes do not depend on the sizes
        for (index_t i = 0; i < 4; ++i) sized.scales(i, 0) *= size_of_w;
        return bound_errors(MatrixXd(size_of_w * W), sized, MatrixXd(size_of_h * H), MatrixXd(size_of_x * X), options);
    };
    const error_bounds bounds = run(1, 1, 1);
    for (const int e : {-980, -400, -100, 100, 400, 980}) {
        const double size = std::ldexp(1.0, e);
        const error_bounds sized = run(size, 1 / size, 1 / size);
        CHECK(sized.loss == bounds.loss * size);
        CHECK(sized.loss_bound == bounds.loss_bound * size);
        CHECK(sized.largest_output_error == bounds.largest_output_error);
        CHECK(sized.output_error_bound == bounds.output_error_bound);
        CHECK(sized.probable_alphabet.value().levels == bounds.probable_alphabet.value().levels);
        CHECK(sized.outside == 0);
        CHECK(sized.unexplained == 0);
    }
    // squares of these weights are no numbers
    const double huge = std::ldexp(1.0, 600);
    const MatrixXd w = huge * W;
    auto sized = grids;
    for (index_t i = 0; i < 4; ++i) sized.scales(i, 0) *= huge;
    const error_bounds overflowed = bound_errors(w, magr::quantize_rtn(w, sized), H, options);
    CHECK(overflowed.status == bound_status::overflowed);
    CHECK(overflowed.loss == 0);
    CHECK_FALSE(overflowed.loss_bound_held().has_value());
    CHECK_FALSE(overflowed.certain_alphabet.has_value());
    // and these need more codes than there are numbers
    const MatrixXd far = std::ldexp(1.0, 1000) * W;
    sized = grids;
    for (index_t i = 0; i < 4; ++i) sized.scales(i, 0) = std::ldexp(1.0, -1000);
    CHECK(bound_errors(far, magr::quantize_rtn(far, sized), H, options).status == bound_status::overflowed);
    // no weights but zeros
    const MatrixXd zeros = MatrixXd::Zero(3, 10);
    const error_bounds exact = bound_errors(zeros, quantize_optq(zeros, H, {.bits = 2}).quantized, H);
    CHECK(exact.loss == 0);
    CHECK(exact.loss_bound_held().value());
}

TEST_CASE("bound_errors: one row, one column, fixed levels and 16-bit weights", "[quantize][bounds][edge]") {
    const MatrixXd one = MatrixXd::Constant(1, 1, 0.3), H = MatrixXd::Constant(1, 1, 2);
    const error_bounds single = bound_errors(one, quantize_optq(one, H, symmetric_grids(1, 1, 2, 1), {.damping = 0}).quantized, H,
                                             MatrixXd(MatrixXd::Constant(2, 1, -1)), {.optq = {.damping = 0}});
    CHECK(single.loss == Approx(0.18));
    CHECK(single.loss_bound == Approx(0.5));
    CHECK(single.pivot_sum == Approx(2));
    CHECK(single.largest_output_error.value() == Approx(0.3));

    const MatrixXd X = correlated_inputs(60, 16, 60), G = X.transpose() * X;
    const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> W = random_matrix(5, 16, 61).cast<Eigen::bfloat16>();
    for (const auto rounding : {rounding_mode::nearest, rounding_mode::stochastic}) {
        auto grids = magr::fit_grids(W, {.bits = 4});
        grids.levels = {-1, -0.7F, -0.5F, -0.4F, -0.3F, -0.2F, -0.1F, 0, 0.1F, 0.15F, 0.25F, 0.35F, 0.45F, 0.6F, 0.75F, 1};
        for (index_t i = 0; i < 5; ++i) {
            grids.scales(i, 0) = 20;  // wide enough for everything
            grids.zeros(i, 0) = 0;
        }
        const optq_options options{.rounding = rounding};
        const auto result = quantize_optq(W, G, grids, options);
        const error_bounds bounds = bound_errors(W, result.quantized, G, X, {.optq = options});
        CHECK(bounds.unexplained == 0);
        CHECK(bounds.outside == 0);
        CHECK(bounds.loss_bound == Approx(5 * 36.0 * bounds.pivot_sum / (rounding == rounding_mode::nearest ? 4 : 1)).epsilon(1e-5));
        CHECK(bounds.loss_bound_held().value());
        CHECK_FALSE(bounds.certain_alphabet.has_value());
        CHECK(bounds.output_bound_held() == (rounding == rounding_mode::nearest ? std::nullopt : std::optional(true)));
    }
    // scales that depend on the random numbers before
    const MatrixXd w = random_matrix(5, 16, 62);
    const optq_options live{.groups = magr::group_update::live, .rounding = rounding_mode::stochastic};
    const error_bounds bounds = bound_errors(w, quantize_optq(w, G, {.bits = 8, .group_size = 4}, live).quantized, G, X, {.optq = live});
    CHECK(bounds.unexplained == 0);
    CHECK_FALSE(bounds.output_error_bound.has_value());
    CHECK_FALSE(bounds.probable_alphabet.has_value());
    CHECK(bounds.certain_alphabet.has_value());
}

TEST_CASE("bound_errors: says if H cannot be factored", "[quantize][bounds][edge]") {
    check_names<bound_status>({"bounded", "not_factored", "overflowed"});
    const MatrixXd W = random_matrix(3, 4, 70), singular = MatrixXd::Ones(4, 4);
    const auto q = magr::quantize_rtn(W, {.bits = 4});
    const error_bounds none = bound_errors(W, q, singular, {.optq = {.damping = 0, .on_failure = magr::factor_fallback::none}});
    CHECK(none.status == bound_status::not_factored);
    CHECK_FALSE(none.loss_bound_applies());
    CHECK_FALSE(none.output_bound_applies());
    // with more damping, as OPTQ used
    const auto result = quantize_optq(W, singular, {.bits = 4}, {.damping = 0});
    const error_bounds more = bound_errors(W, result.quantized, singular, {.optq = {.damping = 0}});
    CHECK(more.damping == result.damping);
    CHECK(more.damping > 0);
    CHECK(more.unexplained == 0);
    CHECK(more.loss == Approx(2 * *result.loss));
}

TEST_CASE("bound_errors: refuses what does not belong together", "[quantize][bounds][errors]") {
    const MatrixXd X = correlated_inputs(20, 6, 80), H = X.transpose() * X, W = random_matrix(3, 6, 81);
    const auto q = quantize_optq(W, H, {.bits = 3}).quantized;
    for (const double p : {0.0, 1.0, -1.0, std::nan("")})
        CHECK_THROWS_AS(bound_errors(W, q, H, {.failure_probability = p}), magr::option_error);
    CHECK_THROWS_AS(bound_errors(W, q, H, {.tokens = 0}), magr::option_error);
    CHECK_THROWS_AS(bound_errors(W, q, H, X, {.tokens = 21}), magr::option_error);
    CHECK_NOTHROW(bound_errors(W, q, H, X, {.tokens = 20}));
    CHECK_THROWS_AS(bound_errors(W, q, H, {.optq = {.damping = -1}}), magr::option_error);
    CHECK(magr::problems(bound_options{.optq = {.damping = -1}, .failure_probability = 2, .tokens = -1}).size() == 3);
    CHECK_THROWS_AS(bound_errors(MatrixXd(W.leftCols(5)), q, MatrixXd(H.topLeftCorner(5, 5))), magr::shape_error);
    CHECK_THROWS_AS(bound_errors(MatrixXd(W.topRows(2)), q, H), magr::shape_error);
    CHECK_THROWS_AS(bound_errors(W, q, MatrixXd(H.topRows(5))), magr::shape_error);
    CHECK_THROWS_AS(bound_errors(W, q, H, MatrixXd(X.leftCols(5))), magr::shape_error);
    CHECK_THROWS_AS(bound_errors(W, q, H, MatrixXd(0, 6)), magr::shape_error);
    MatrixXd bad = X;
    bad(19, 5) = std::nan("");
    CHECK_THROWS_AS(bound_errors(W, q, H, bad), magr::value_error);
    bad = W;
    bad(2, 1) = INFINITY;
    CHECK_THROWS_AS(bound_errors(bad, q, H), magr::value_error);
    CHECK_THROWS_AS(bound_errors(W, q, MatrixXd(-H)), magr::value_error);
    auto beyond = q;
    beyond.codes(1, 4) = 8;
    try {
        static_cast<void>(bound_errors(W, beyond, H));
        FAIL("a code beyond the grid passed");
    } catch (const magr::value_error& error) {
        CHECK(std::string(error.what()) == "bound_errors: Q.codes must be in 0..7, entry (row 1, column 4) is 8");
    }
    beyond = q;
    beyond.scales(0, 0) = 0;
    CHECK_THROWS_AS(bound_errors(W, beyond, H), magr::value_error);
}
