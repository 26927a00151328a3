// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <magr/kernels/hadamard.hpp>
#include <magr/linalg/paley.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/butterfly.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// (F (x) M) diag(signs) / sqrt(n): the `rotation_kind::hadamard`.
class random_hadamard final : public rotation {
public:
    /// @pre  `has(size)`
    random_hadamard(index_t size, std::uint64_t seed, std::uint64_t side, executor_ref exec) : power_(size & -size) {
        const index_t odd = size / power_;
        index_t order = odd;  // of M
        for (index_t m = 4 * odd; odd > 1 && size % m == 0 && m <= largest_paley; m *= 2)
            if (linalg::has_paley(m)) {
                order = m;
                break;
            }
        power_ = size / order;
        double factor = std::sqrt(static_cast<double>(power_));
        if (order > odd) {
            paley_ = matrix<double>(order, order);
            linalg::fill_paley(paley_.view());
            factor = std::sqrt(static_cast<double>(size));
        } else if (odd > 1) {
            rest_.emplace(odd, seed, side, exec);
        }
        random_stream random = stream_of(seed, side, rotation_part::signs);
        signs_.resize(static_cast<std::size_t>(size));
        for (double& sign : signs_) sign = (random.below(2) == 0 ? 1 : -1) / factor;
    }

    [[nodiscard]] static bool has(index_t size) noexcept { return size == 1 || size % 2 == 0; }

    [[nodiscard]] index_t size() const noexcept override { return static_cast<index_t>(signs_.size()); }
    [[nodiscard]] index_t scratch_size(index_t columns) const noexcept override {
        if (rest_) return rest_->scratch_size(columns);
        return paley_.rows() * columns + product_scratch::scratch;
    }

    void apply(matrix_view<double> x, bool transposed, double* scratch) const noexcept override {
        if (!transposed) multiply_signs(x);
        const index_t order = size() / power_;
        kernels::hadamard(x.data(), power_, order * x.cols());
        for (index_t k = 0; k < power_ && order > 1; ++k) {
            const matrix_view<double> part = x.block(k * order, 0, order, x.cols());
            if (rest_) {
                rest_->apply(part, transposed, scratch);
                continue;
            }
            const matrix_view<double> copy(scratch, order, x.cols());
            std::copy_n(part.data(), order * x.cols(), scratch);
            multiply_block(transposed ? paley_.view().transposed() : paley_.view(), copy, part, scratch + order * x.cols());
        }
        if (transposed) multiply_signs(x);
    }

private:
    static constexpr index_t largest_paley = 512;

    void multiply_signs(matrix_view<double> x) const noexcept {
        double* at = x.data();
        for (const double sign : signs_)
            for (index_t j = 0; j < x.cols(); ++j) *at++ *= sign;
    }

    index_t power_;
    matrix<double> paley_;           // 0 x 0 without one
    std::optional<butterfly> rest_;  // of the odd part of the size, if there is no such matrix
    std::vector<double> signs_;      // times 1 / sqrt(power of two, or of two and Paley's order)
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
