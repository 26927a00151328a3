// SPDX-License-Identifier: MIT
#include <magr/linalg/haar.hpp>

#include <Eigen/Core>
#include <Eigen/LU>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <magr/detail/random_stream.hpp>
#include <magr/matrix/matrix.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::detail::random_stream;
using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {

row_major haar(index_t n, std::uint64_t seed, std::uint64_t stream) {
    random_stream random(seed, stream);
    row_major Q(n, n);
    magr::linalg::fill_haar(magr::matrix_view<double>(Q.data(), n, n), random);
    return Q;
}

/// FNV-1a of all bits.
std::uint64_t hash(const row_major& Q) {
    std::uint64_t value = 0xcbf29ce484222325;
    for (Eigen::Index i = 0; i < Q.size(); ++i) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, Q.data() + i, sizeof bits);
        value = (value ^ bits) * 0x100000001b3;
    }
    return value;
}

}  // namespace

TEST_CASE("fill_haar: rotations, to rounding", "[linalg][haar][property]") {
    for (const index_t n : {1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 150}) {
        const row_major Q = haar(n, 5, 2);
        CAPTURE(n);
        CHECK((Q * Q.transpose() - row_major::Identity(n, n)).norm() <= 2e-15 * static_cast<double>(n));
        CHECK(Q.determinant() == Approx(1));
    }
}

TEST_CASE("fill_haar: the moments of the uniform law", "[linalg][haar][statistics]") {
    constexpr int samples = 20000;
    for (const index_t n : {2, 3, 4, 5}) {
        double first = 0, second = 0, fourth = 0, last = 0, trace = 0, trace_squared = 0;
        for (int k = 0; k < samples; ++k) {
            const row_major Q = haar(n, 1, static_cast<std::uint64_t>(k));
            first += Q(0, 0);
            second += Q(0, 0) * Q(0, 0);
            fourth += std::pow(Q(0, 0), 4);
            last += std::pow(Q(n - 1, n - 1), 4);
            trace += Q.trace();
            trace_squared += Q.trace() * Q.trace();
        }
        const double m = static_cast<double>(n), margin = 4 / std::sqrt(double{samples});  // 4 sigma of a number of variance 1
        CAPTURE(n);
        CHECK(first / samples == Approx(0).margin(margin / std::sqrt(m)));
        CHECK(second / samples == Approx(1 / m).margin(margin / m));
        CHECK(fourth / samples == Approx(3 / (m * (m + 2))).margin(margin / m));
        CHECK(last / samples == Approx(3 / (m * (m + 2))).margin(margin / m));
        CHECK(trace / samples == Approx(0).margin(1.5 * margin));
        CHECK(trace_squared / samples == Approx(n == 2 ? 2 : 1).margin(2 * margin));
    }
}

TEST_CASE("fill_haar: the same bits for every compiler and instruction set", "[linalg][haar]") {
    CHECK(hash(haar(1, 1, 1)) == 0xc293bd4c8601b7df);  // seeds are stored in files: these bits must not change
    CHECK(hash(haar(2, 1, 1)) == 0x39fb3293f88a475f);
    CHECK(hash(haar(3, 1, 1)) == 0xe90e0aeacefe6cfb);
    CHECK(hash(haar(50, 1234567890123, 77)) == 0x27cb8926f10567aa);
}
