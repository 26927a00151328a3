// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// What `sequential_pass` measures of each column k, in the order of processing.
struct sequential_sums {
    static constexpr index_t per_column = 4;
    std::vector<double> energies;         // ||(W T)_k||^2, zeros if not asked for
    std::vector<double> weights;          // ||W_k||^2
    std::vector<double> rounding_errors;  // of (rounded value - value it was rounded from)^2 over the rows
    std::vector<double> residuals;        // ||(W - Q)_k||^2

    explicit sequential_sums(index_t n)
        : energies(static_cast<std::size_t>(n)), weights(energies), rounding_errors(energies), residuals(energies) {}

    sequential_sums& operator+=(const sequential_sums& other) {
        const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
            std::transform(to.begin(), to.end(), from.begin(), to.begin(), std::plus<>{});
        };
        add(energies, other.energies);
        add(weights, other.weights);
        add(rounding_errors, other.rounding_errors);
        add(residuals, other.residuals);
        return *this;
    }
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
