// SPDX-License-Identifier: MIT
#include <magr/calibration/largest_eigenvalue.hpp>

#include <Eigen/QR>
#include <random>

#include <magr/matrix/eigen.hpp>

#include "support/catch.hpp"

namespace {

using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A symmetric matrix with the given eigenvalues and random eigenvectors.
matrix with_spectrum(const Eigen::VectorXd& eigenvalues, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    const Eigen::Index n = eigenvalues.size();
    Eigen::MatrixXd A(n, n);
    for (Eigen::Index i = 0; i < n; ++i)
        for (Eigen::Index j = 0; j < n; ++j) A(i, j) = normal(generator);
    const Eigen::MatrixXd Q = Eigen::HouseholderQR<Eigen::MatrixXd>(A).householderQ();
    const matrix H = Q * eigenvalues.asDiagonal() * Q.transpose();
    return (H + H.transpose()) / 2;
}

template <class Matrix>
double largest_eigenvalue(const Matrix& H) {
    const auto view = magr::as_const_view(H);
    const double scale = magr::detail::unit_scale(view);
    return magr::detail::largest_eigenvalue(view, scale) / scale;
}

}  // namespace

TEST_CASE("largest_eigenvalue: finds the top of any spectrum", "[calibration][property]") {
    struct spectrum {
        const char* name;
        Eigen::VectorXd values;
    };
    Eigen::VectorXd flat = Eigen::VectorXd::Ones(50), outlier = Eigen::VectorXd::LinSpaced(80, 1e-10, 1e-6), close(300),
                    rank_one = Eigen::VectorXd::Zero(60);
    outlier(79) = 1;
    for (Eigen::Index i = 0; i < 300; ++i) close(i) = 1 - 1e-4 * static_cast<double>(i);
    rank_one(7) = 3;
    for (const auto& [name, values] : {spectrum{"flat", flat}, spectrum{"one outlier", outlier}, spectrum{"clustered at the top", close},
                                       spectrum{"rank one", rank_one}, spectrum{"one by one", Eigen::VectorXd::Constant(1, 5.0)}}) {
        INFO(name);
        for (unsigned seed = 1; seed <= 3; ++seed) {
            const matrix H = with_spectrum(values, seed);
            CHECK(largest_eigenvalue(H) == Approx(values.maxCoeff()).epsilon(1e-8));
            const Eigen::MatrixXf single = H.cast<float>();
            CHECK(largest_eigenvalue(single) == Approx(values.maxCoeff()).epsilon(2e-6));
        }
    }
}

TEST_CASE("largest_eigenvalue: patterned eigenvectors are not missed", "[calibration][edge]") {
    matrix H(2, 2);
    H << 1, -0.9, -0.9, 1;  // its top eigenvector is orthogonal to (1, 1)
    CHECK(largest_eigenvalue(H) == Approx(1.9).epsilon(1e-12));
    for (const Eigen::Index place : {0, 31, 63}) {
        matrix unit = matrix::Zero(64, 64);
        unit(place, place) = 1;
        CHECK(largest_eigenvalue(unit) == Approx(1).epsilon(1e-12));
    }
}

TEST_CASE("largest_eigenvalue: no direction is one that all matrices are searched without", "[calibration][edge]") {
    const magr::index_t n = 48;
    Eigen::VectorXd start(n);  // a start vector that does not depend on the matrix
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (magr::index_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        start(i) = static_cast<double>(state >> 11) * 0x1p-52 - 1.0;
    }
    std::mt19937 random(3);
    std::normal_distribution<double> normal;
    for (int round = 0; round < 5; ++round) {
        Eigen::VectorXd v(n);
        for (magr::index_t i = 0; i < n; ++i) v(i) = normal(random);
        v -= start * (start.dot(v) / start.squaredNorm());
        v.normalize();
        const Eigen::MatrixXd H = Eigen::MatrixXd::Identity(n, n) + 3 * v * v.transpose();
        CHECK(largest_eigenvalue(H) == Approx(4).epsilon(1e-9));
    }
}

TEST_CASE("largest_eigenvalue: any scale, any strides", "[calibration][edge]") {
    Eigen::VectorXd values = Eigen::VectorXd::LinSpaced(37, 0.01, 1);
    const matrix H = with_spectrum(values, 4);
    for (const double scale : {1e-300, 1e-30, 1e30, 1e300}) {
        const matrix scaled = scale * H;
        CHECK(largest_eigenvalue(scaled) == Approx(scale).epsilon(1e-8));
    }
    std::vector<double> spaced(37 * 37 * 6);
    const auto view = magr::matrix_view<double>::with_strides(spaced.data(), 37, 37, 2, 37 * 5);
    for (Eigen::Index i = 0; i < 37; ++i)
        for (Eigen::Index j = 0; j < 37; ++j) view(i, j) = H(i, j);
    CHECK(magr::detail::largest_eigenvalue(magr::matrix_view<const double>(view)) == Approx(1).epsilon(1e-8));
}
