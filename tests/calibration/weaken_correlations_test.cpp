// SPDX-License-Identifier: MIT
#include <magr/calibration/weaken_correlations.hpp>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>

#include <magr/error.hpp>
#include <magr/matrix/eigen.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"

using Eigen::MatrixXd;
using magr::weaken_correlations;

TEST_CASE("weaken_correlations: divides each correlation by 1 + amount, whatever the sizes of the inputs", "[calibration][property]") {
    for (const auto kind : layers::all_inputs) {
        const MatrixXd H = layers::make_layer(1, 12, kind, 3).H;
        MatrixXd weaker = H;
        weaken_correlations(weaker, 0.5);
        CAPTURE(kind);
        for (Eigen::Index i = 0; i < 12; ++i)
            for (Eigen::Index j = 0; j < 12; ++j) {
                CHECK(weaker(i, j) == (i == j ? 1.5 * H(i, j) : H(i, j)));
                const double before = H(i, j) / std::sqrt(H(i, i) * H(j, j)), after = weaker(i, j) / std::sqrt(weaker(i, i) * weaker(j, j));
                if (i != j && H(i, i) * H(j, j) > 0) CHECK(after == Approx(before / 1.5));
            }
    }
}

TEST_CASE("weaken_correlations: any storage and layout, through a view as well", "[calibration][property]") {
    const MatrixXd H = layers::make_layer(1, 7, layers::inputs::neighbours, 4).H;
    Eigen::Matrix<float, -1, -1, Eigen::RowMajor> by_rows = H.cast<float>();
    weaken_correlations(by_rows, 0.25);
    Eigen::Matrix<Eigen::bfloat16, -1, -1> narrow = H.cast<Eigen::bfloat16>();
    const Eigen::Matrix<Eigen::bfloat16, -1, -1> given = narrow;
    weaken_correlations(narrow, 0.25);
    MatrixXd large = MatrixXd::Constant(9, 9, -1);
    large.block(1, 1, 7, 7) = H;
    weaken_correlations(large.block(1, 1, 7, 7), 0.25);
    for (Eigen::Index j = 0; j < 7; ++j) {
        CHECK(by_rows(j, j) == static_cast<float>(1.25 * static_cast<double>(static_cast<float>(H(j, j)))));
        CHECK(narrow(j, j) == static_cast<Eigen::bfloat16>(1.25F * static_cast<float>(given(j, j))));
        CHECK(large(j + 1, j + 1) == 1.25 * H(j, j));
    }
    CHECK((large.row(0).array() == -1).all());
    CHECK((large.col(8).array() == -1).all());
    MatrixXd same = H;
    weaken_correlations(same, 0);
    CHECK(same == H);
}

TEST_CASE("weaken_correlations: bounds the condition of H, inputs of different sizes aside", "[calibration][certificate]") {
    for (const double amount : {0.01, 1.0}) {
        // 6 tokens for 12 inputs, whose sizes grow a thousandfold
        MatrixXd H = layers::make_layer(1, 12, layers::inputs::few_tokens, 5).H;
        const Eigen::VectorXd sizes = Eigen::VectorXd::LinSpaced(12, -5, 5).array().exp();
        H = sizes.asDiagonal() * H * sizes.asDiagonal();
        weaken_correlations(H, amount);
        const Eigen::VectorXd scale = H.diagonal().cwiseSqrt().cwiseInverse();
        const MatrixXd alike = scale.asDiagonal() * H * scale.asDiagonal();
        const Eigen::VectorXd eigenvalues = Eigen::SelfAdjointEigenSolver<MatrixXd>(alike).eigenvalues();
        CHECK(eigenvalues.minCoeff() >= amount / (1 + amount) - 1e-12);
        CHECK(eigenvalues.minCoeff() <= amount / (1 + amount) + 1e-9);  // the rest is singular
    }
}

TEST_CASE("weaken_correlations: bad input is refused, and H stays as it was", "[calibration][contract]") {
    const MatrixXd H = layers::make_layer(1, 5, layers::inputs::neighbours, 6).H;
    MatrixXd given = H;
    for (const double amount : {-0.1, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
        CHECK_THROWS_AS(weaken_correlations(given, amount), magr::option_error);
    CHECK(given == H);
    MatrixXd wide = MatrixXd::Ones(2, 3), empty, negative = -H;
    CHECK_THROWS_AS(weaken_correlations(wide, 0.1), magr::shape_error);
    CHECK_THROWS_AS(weaken_correlations(empty, 0.1), magr::shape_error);
    CHECK_THROWS_AS(weaken_correlations(negative, 0.1), magr::value_error);
    CHECK(negative == -H);
    Eigen::Matrix<Eigen::half, -1, -1> full(2, 2);
    full << Eigen::half(1), Eigen::half(0), Eigen::half(0), Eigen::half(65504);
    CHECK_THROWS_WITH(weaken_correlations(full, 1),
                      "weaken_correlations: 2 times the diagonal of H must be finite in its type, entry (row 1, column 1) is 65504");
    CHECK(static_cast<float>(full(0, 0)) == 1);
}
