// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/transform/aqas.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Magnitudes of the inputs and weights of each input, or of each group of tied ones.
struct input_magnitudes {
    std::vector<double> largest_input, largest_weight;  ///< by input
    std::vector<index_t> tie;                           ///< the group of each input
    std::vector<char> is_live;                          ///< by group: whether its inputs and weights are not all zero

    input_magnitudes(std::span<const matrix_ref> W, const matrix_ref& X, std::vector<index_t> groups) : tie(std::move(groups)) {
        const auto n = static_cast<std::size_t>(X.cols());
        largest_input.resize(n);
        largest_weight.resize(n);
        std::vector<double> mean_input(n);
        const auto tokens = static_cast<double>(X.rows());
        for (index_t t = 0; t < X.rows(); ++t)
            X.visit_row(t, 0, X.cols(), [&](index_t j, double x) {
                const auto k = static_cast<std::size_t>(j);
                largest_input[k] = (std::max)(largest_input[k], std::abs(x));
                mean_input[k] += std::abs(x) / tokens;
            });
        for (const matrix_ref& w : W)
            for (index_t i = 0; i < w.rows(); ++i)
                w.visit_row(i, 0, w.cols(), [&](index_t j, double weight) {
                    double& largest = largest_weight[static_cast<std::size_t>(j)];
                    largest = (std::max)(largest, std::abs(weight));
                });

        if (tie.empty()) {
            tie.resize(n);
            std::iota(tie.begin(), tie.end(), index_t{0});
        }
        std::vector<double> x(n), mean(n), w(n), members(n);
        for (std::size_t j = 0; j < n; ++j) {
            const auto g = static_cast<std::size_t>(tie[j]);
            x[g] = (std::max)(x[g], largest_input[j]);
            w[g] = (std::max)(w[g], largest_weight[j]);
            mean[g] += (mean_input[j] - mean[g]) / ++members[g];
        }
        for (std::size_t g = 0; g < n; ++g) {
            const bool live = x[g] > 0 && mean[g] > 0 && w[g] > 0;
            is_live.push_back(live ? 1 : 0);
            log_largest_input.push_back(live ? std::log(x[g]) : 0);
            log_mean_input.push_back(live ? std::log(mean[g]) : 0);
            log_largest_weight.push_back(live ? std::log(w[g]) : 0);
        }
    }

    /// The scale of each group.
    [[nodiscard]] std::vector<double> scales(aqas_form form, double a, double b) const {
        const std::vector<double>& log_input = form == aqas_form::maxima ? log_largest_input : log_mean_input;
        std::vector<double> s(is_live.size());
        double low = (std::numeric_limits<double>::max)(), high = -low;
        for (std::size_t g = 0; g < s.size(); ++g) {
            if (is_live[g] == 0) continue;
            s[g] = a * log_input[g] - b * log_largest_weight[g];
            low = (std::min)(low, s[g]);
            high = (std::max)(high, s[g]);
        }
        for (std::size_t g = 0; g < s.size(); ++g) s[g] = is_live[g] == 0 ? 1 : std::exp(s[g] - (low + high) / 2);
        return s;
    }

    /// Of the scales of groups, those of inputs.
    [[nodiscard]] std::vector<double> by_input(const std::vector<double>& s) const {
        std::vector<double> scales;
        for (const index_t group : tie) scales.push_back(s[static_cast<std::size_t>(group)]);
        return scales;
    }

private:
    std::vector<double> log_largest_input, log_mean_input, log_largest_weight;  // by group
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
