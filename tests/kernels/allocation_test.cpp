// SPDX-License-Identifier: MIT
#include <Eigen/Core>
#include <cstddef>

#include "kernels/samples.hpp"
#include "support/catch.hpp"
#include "support/counted_memory.hpp"

TEMPLATE_TEST_CASE("kernels: nothing is allocated", "[kernels][property]", float, double) {
    const std::size_t before_any = counted_memory::allocations;
    for (auto& s : samples::all<TestType>({1, 129, 4096})) {
        const auto t = static_cast<double>(samples::total_of(oracle::prox_elements(s.v, s.d), 0.1));
        const std::span v(s.v);
        const std::size_t before = counted_memory::allocations;
        if (s.d.empty()) {
            magr::prox_linf(v, t);
            magr::project_l1_ball(v, t / 2);
        } else {
            magr::prox_linf(v, s.d, t);
            magr::project_l1_ball(v, s.d, t / 2);
        }
        CHECK(counted_memory::allocations == before);
    }
    CHECK(counted_memory::allocations > before_any);  // the samples themselves are counted
}

TEST_CASE("kernels: nothing is allocated for a matrix of any storage", "[kernels][property]") {
    Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> M(6, 3000);
    M.setConstant(Eigen::half(0.5F));
    const std::vector<float> d(3000, 2.0F);
    const std::size_t before = counted_memory::allocations;
    magr::prox_linf(M, 1.0);
    magr::prox_linf(M, d, 1.0, {magr::vector_axis::rows, 128});
    magr::project_l1_ball(M, 1.0, {magr::vector_axis::columns});
    CHECK(counted_memory::allocations == before);
}
