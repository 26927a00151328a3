// SPDX-License-Identifier: MIT
#include <magr/linalg/paley.hpp>

#include <vector>

#include <magr/matrix/matrix.hpp>

#include "support/catch.hpp"

using magr::index_t;

TEST_CASE("fill_paley: Hadamard matrices of all orders that it knows", "[linalg][paley][property]") {
    std::vector<index_t> orders;
    for (index_t n = 0; n <= 160; ++n) {
        if (!magr::linalg::has_paley(n)) continue;
        orders.push_back(n);
        magr::matrix<double> M(n, n);
        magr::linalg::fill_paley(M.view());
        bool good = true;
        for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j <= i; ++j) {
                double product = 0;
                for (index_t k = 0; k < n; ++k) product += M(i, k) * M(j, k);
                good = good && product == static_cast<double>(i == j ? n : 0) && M(i, j) * M(i, j) == 1;
            }
        CAPTURE(n);
        CHECK(good);
    }
    // primes 3, 7, 11, 19, 23, 31, 43, .. plus one, and twice 5, 13, 17, 29, 37, .. plus one
    CHECK(orders ==
          std::vector<index_t>{4, 8, 12, 20, 24, 28, 32, 36, 44, 48, 60, 68, 72, 76, 80, 84, 104, 108, 124, 128, 132, 140, 148, 152});
}
