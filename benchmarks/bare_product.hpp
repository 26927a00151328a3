// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/eigen.hpp>
#include <random>
#include <vector>

#include "timing.hpp"

namespace benchmarks {

/// The yardstick for everything that should cost as much as a matrix product: the faster one of Eigen's product and the library's own, m x
/// depth times depth x n on one core.
template <class T>
class bare_product {
public:
    using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

    bare_product(Eigen::Index m, Eigen::Index n, Eigen::Index depth)
        : a_(m, depth),
          b_(depth, n),
          c_(matrix::Zero(m, n)),
          scratch_(static_cast<std::size_t>(magr::kernels::product_blocks<T, magr::simd::default_arch>::scratch)) {
        std::mt19937 random(29);
        std::uniform_real_distribution<T> uniform(-1, 1);
        for (T& value : a_.reshaped()) value = uniform(random);
        for (T& value : b_.reshaped()) value = uniform(random);
    }

    /// Times each of them once.
    void measure() {
        eigen_.push_back(seconds([&] {
            c_.noalias() += a_ * b_;
            benchmark::DoNotOptimize(c_.data());
        }));
        own_.push_back(seconds([&] {
            magr::kernels::multiply_add(magr::as_mutable_view(c_), T(1), magr::as_const_view(a_), magr::as_const_view(b_), scratch_.data());
            benchmark::DoNotOptimize(c_.data());
        }));
    }

    /// The time of the faster one; the median of all measurements.
    [[nodiscard]] double seconds_per_product() const { return std::min(median(eigen_), median(own_)); }

private:
    matrix a_, b_, c_;
    std::vector<T> scratch_;
    std::vector<double> eigen_, own_;
};

}  // namespace benchmarks
