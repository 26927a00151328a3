// SPDX-License-Identifier: MIT
#include <magr/refine/packed_gram.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <random>
#include <vector>

#include <magr/matrix/eigen.hpp>
#include <magr/parallel/thread_pool.hpp>

#include "support/catch.hpp"

using magr::index_t;
using magr::detail::packed_gram;
using magr::detail::sparse_rows;
using matrix = magr::detail::row_major_matrix<double>;

namespace {

matrix random_matrix(index_t rows, index_t cols, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> number(-1, 1);
    return matrix::NullaryExpr(rows, cols, [&] { return number(random); });
}

matrix symmetric(index_t n, unsigned seed) {
    const matrix half = random_matrix(n, n, seed);
    return half + half.transpose();
}

std::vector<double> scratch_for(index_t rows) { return std::vector<double>(static_cast<std::size_t>(packed_gram::scratch_size(rows))); }

/// A B, each element summed in long double.
matrix exact_product(const matrix& A, const matrix& B) { return (A.cast<long double>() * B.cast<long double>()).cast<double>(); }

// sides within one tile and one square, across their ends, and across the end of a block of packed rows
constexpr index_t sides[] = {1, 7, 16, 63, 64, 65, 130, 400};

}  // namespace

TEST_CASE("packed_gram: a product is added to what is there, for any rows of H", "[refine][property]") {
    magr::thread_pool pool(3);
    for (const index_t n : sides) {
        const matrix H = symmetric(n, 1);
        const packed_gram packed(H, {}), in_parallel(H, pool);
        for (const index_t rows : {1, 12, 36, 40})
            for (const index_t first : {index_t{0}, n / 3, n - 1}) {
                const matrix E = random_matrix(rows, (n - first + 1) / 2, 2), before = random_matrix(rows, n, 3);
                CAPTURE(n, rows, first);
                std::vector<double> scratch = scratch_for(rows);
                matrix G = before, other = before;
                packed.add_product(magr::as_const_view(E), first, magr::as_view(G), scratch.data());
                in_parallel.add_product(magr::as_const_view(E), first, magr::as_view(other), scratch.data());
                const matrix expected = before + exact_product(E, H.middleRows(first, E.cols()));
                CHECK((G - expected).cwiseAbs().maxCoeff() <= 1e-15 * static_cast<double>(4 * n));
                CHECK(G == other);

                const matrix own = packed.own_product(magr::as_const_view(E), first, scratch.data());
                const matrix square = H.block(first, first, E.cols(), E.cols());
                REQUIRE(own.cols() == E.cols());
                CHECK((own - exact_product(E, square)).cwiseAbs().maxCoeff() <= 1e-15 * static_cast<double>(4 * n));
            }
    }
}

TEST_CASE("packed_gram: a product of a few elements has the bits of the same dense one", "[refine][property]") {
    for (const index_t n : sides) {
        const matrix H = symmetric(n, 4);
        const packed_gram packed(H, {});
        for (index_t begin = 0; begin < n; begin += packed_gram::square) {
            const index_t width = std::min(packed_gram::square, n - begin), rows = 36;
            matrix E = random_matrix(rows, width, 5);
            sparse_rows few;
            for (index_t i = 0; i < rows; ++i) {
                for (index_t k = 0; k < width; ++k) {
                    // rows without any, with one, and with more and more; the last one is full
                    if (i < rows - 1 && (i % 3 == 0 || (i * 7 + k * 5) % rows > i / 2)) E(i, k) = 0;
                    if (E(i, k) == 0) continue;
                    few.columns.push_back(begin + k);
                    few.values.push_back(E(i, k));
                }
                if (static_cast<index_t>(few.columns.size()) == (few.ends.empty() ? 0 : few.ends.back())) continue;
                few.rows.push_back(i);
                few.ends.push_back(static_cast<index_t>(few.columns.size()));
            }
            CAPTURE(n, begin, few.rows.size());
            std::vector<double> scratch = scratch_for(rows);
            matrix dense = random_matrix(rows, n, 6), sparse = dense;
            packed.add_product(magr::as_const_view(E), begin, magr::as_view(dense), scratch.data());
            packed.add_product(few, magr::as_view(sparse));
            CHECK(sparse == dense);
        }
        matrix untouched = H;
        packed.add_product(sparse_rows{}, magr::as_view(untouched));
        CHECK(untouched == H);
    }
}

TEST_CASE("packed_gram: columns of its squares, with zeros behind the last row", "[refine][edge]") {
    for (const index_t n : sides) {
        const matrix H = symmetric(n, 7);
        const packed_gram packed(H, {});
        REQUIRE(packed.cols() == n);
        for (index_t k = 0; k < n; ++k) {
            CHECK(packed.diagonal(k) == H(k, k));
            const index_t begin = k - k % packed_gram::square;
            for (index_t r = 0; r < packed_gram::square; ++r) CHECK(packed.own_column(k)[r] == (begin + r < n ? H(begin + r, k) : 0));
        }
    }
}
