// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <bit>
#include <cstring>
#include <random>
#include <span>
#include <type_traits>
#include <utility>

#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/pack/gptq.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize/optq.hpp>

#include "support/catch.hpp"

namespace tests {

/// Shape of the weights in `check_same_results`: one that GPTQ's layout can hold.
inline constexpr magr::index_t outputs = 32;
inline constexpr magr::index_t inputs = 64;

template <magr::storage_scalar T>  // which have no padding
[[nodiscard]] bool same_bits(const T& a, const T& b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// A number of type T. Eigen rounds it where the compiler's own conversion to T may call a function that its library lacks.
template <class T>
[[nodiscard]] T number(float value) {
    if constexpr (magr::detail::bfloat16_scalar<T>)
        return std::bit_cast<T>(Eigen::bfloat16(value));
    else
        return static_cast<T>(value);
}

/// Preprocesses, quantizes and packs a layer in a user's matrices and in `magr::matrix`, and compares all bits: of the weights that are
/// written back, the report and the packed tensors.
///
/// @param W, H      outputs x inputs and inputs x inputs, of any numbers; they are overwritten
/// @param w_at, h_at  (i, j): the element as its own library finds it, so that the test does not believe the view
template <class Weights, class Gram, class WeightAt, class GramAt>
void check_same_results(Weights&& W, Gram&& H, const WeightAt& w_at, const GramAt& h_at) {
    using magr::index_t;
    using weight = std::remove_cvref_t<decltype(w_at(index_t{}, index_t{}))>;
    using entry = std::remove_cvref_t<decltype(h_at(index_t{}, index_t{}))>;

    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    magr::matrix<weight> expected(outputs, inputs);
    for (index_t i = 0; i < outputs; ++i)
        for (index_t j = 0; j < inputs; ++j) w_at(i, j) = expected(i, j) = number<weight>(normal(random));
    magr::matrix<double> X(2 * inputs, inputs);
    for (double& x : std::span(X.data(), 2 * inputs * inputs)) x = static_cast<double>(normal(random));
    magr::matrix<entry> gram(inputs, inputs);
    for (index_t i = 0; i < inputs; ++i)
        for (index_t j = 0; j < inputs; ++j) {
            double sum = 0;
            for (index_t t = 0; t < X.rows(); ++t) sum += X(t, i) * X(t, j);
            h_at(i, j) = gram(i, j) = number<entry>(static_cast<float>(sum));
        }

    const auto view = magr::as_view(W);
    REQUIRE(view.rows() == outputs);
    REQUIRE(view.cols() == inputs);
    for (index_t i = 0; i < outputs; ++i)
        for (index_t j = 0; j < inputs; ++j)
            REQUIRE(static_cast<const void*>(&view(i, j)) == static_cast<const void*>(&std::as_const(w_at(i, j))));

    const auto report = magr::preprocess(W, std::as_const(H), {.alpha = 1e-2});
    const auto report_expected = magr::preprocess(expected, gram, {.alpha = 1e-2});
    CHECK(same_bits(report.objective, report_expected.objective));
    CHECK(report.linf_after < report.linf_before);
    for (index_t i = 0; i < outputs; ++i)
        for (index_t j = 0; j < inputs; ++j) REQUIRE(same_bits<weight>(w_at(i, j), expected(i, j)));

    const magr::grid_options grid{.bits = 4, .group_size = 16, .storage = magr::storage_type::f16};
    const auto quantized = magr::quantize_optq(std::as_const(W), std::as_const(H), grid);
    const auto quantized_expected = magr::quantize_optq(expected, gram, grid);
    CHECK(quantized.loss == quantized_expected.loss);
    CHECK(magr::pack_gptq(quantized.quantized, magr::gptq_version::v2) ==
          magr::pack_gptq(quantized_expected.quantized, magr::gptq_version::v2));
}

}  // namespace tests
