// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <magr/detail/finite.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/quantized_matrix.hpp>
#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/packed_gram.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Coordinate descent in as many columns as a square of H has.
template <compute_scalar Scalar>
class square_descent {
    static constexpr index_t square = packed_gram::square;

public:
    square_descent(quantized_matrix<Scalar>& q, const packed_gram& gram, std::span<const index_t> order, double denominator_offset,
                   index_t begin)
        : q_(q), gram_(gram), begin_(begin), width_((std::min)(square, gram.cols() - begin)) {
        for (index_t k = 0; k < width_; ++k) {
            columns_[k] = order[static_cast<std::size_t>(begin + k)];
            groups_[k] = q.group_of_column[static_cast<std::size_t>(columns_[k])];
            curvatures_[k] = gram.diagonal(begin + k);
            denominators_[k] = curvatures_[k] + denominator_offset;
        }
    }

    /// Changes codes of one row, one after the other, and appends the changes of its weights.
    /// @param map_of    of `with_code_map`
    /// @param gradient  of the row, in all columns, before any of these changes
    template <class MapOf>
    void descend(const MapOf& map_of, index_t row, const double* gradient, sparse_rows& changes) {
        double change_of_gradient[square] = {};
        index_t group = -1;
        double limit = 0;  // most codes stay: the best weight is less than half the way to the next grid point
        for (index_t k = 0; k < width_; ++k) {
            if (groups_[k] != group) {
                group = groups_[k];
                limit = 0.49 * static_cast<double>(map_of(q_.scales(row, group), q_.zeros(row, group)).least_distance());
            }
            const double slope = gradient[begin_ + k] + change_of_gradient[k];
            if (std::abs(slope) < limit * denominators_[k]) continue;
            const double step = improve(map_of(q_.scales(row, group), q_.zeros(row, group)), row, k, slope);
            if (step == 0) continue;
            changes.columns.push_back(begin_ + k);
            changes.values.push_back(step);
            add_column(k, step, change_of_gradient);
        }
    }

private:
    /// Changes one code if that lowers the loss, and returns by how much its weight grows.
    template <class Map>
    [[nodiscard]] double improve(const Map& map, index_t row, index_t k, double slope) {
        if (curvatures_[k] <= 0) return 0;  // a dead column: every code is equally good
        std::uint8_t& code = q_.codes(row, columns_[k]);
        const Scalar now = weight_of_code(map, static_cast<Scalar>(code));
        const double wanted = static_cast<double>(now) - slope / denominators_[k];
        const Scalar steps = steps_on_grid(map, limited_to<Scalar>(wanted), row, columns_[k]);
        const double step = static_cast<double>(map.weight(steps)) - static_cast<double>(now);
        const double gain = step * (0.5 * curvatures_[k] * step + slope);
        // a smaller gain could be rounding, and would let codes oscillate
        if (!(gain < -1e-12 * std::abs(step * slope)) || !is_finite(gain)) return 0;
        const auto best = static_cast<std::uint8_t>(map.code(steps));
        if (best == code) return 0;  // with fused multiply-adds the step is a rounding error, not zero
        code = best;
        return step;
    }

    void add_column(index_t k, double step, double* change_of_gradient) const noexcept {
        using traits = simd::pack_traits<double, simd::default_arch>;
        static_assert(square % traits::lanes == 0);
        const double* const column = gram_.own_column(begin_ + k);
        const auto factor = traits::broadcast(step);
        for (index_t l = 0; l < square; l += traits::lanes)
            simd::store(change_of_gradient + l, simd::fma(factor, traits::load(column + l), traits::load(change_of_gradient + l)));
    }

    quantized_matrix<Scalar>& q_;
    const packed_gram& gram_;
    index_t begin_, width_;
    index_t columns_[square], groups_[square];
    double curvatures_[square], denominators_[square];
};

/// Runs one pass of coordinate descent over some rows and returns how many codes changed.
///
/// Only the changes are multiplied with H: after the first pass they are few.
template <compute_scalar Scalar>
[[nodiscard]] index_t descend(quantized_matrix<Scalar>& q, const packed_gram& gram, std::span<const index_t> order,
                              double denominator_offset, error_state& state) {
    index_t changes = 0;
    sparse_rows changed;
    for (index_t begin = 0; begin < gram.cols(); begin += packed_gram::square) {
        square_descent<Scalar> columns(q, gram, order, denominator_offset, begin);
        changed.clear();
        with_code_map(q, [&](const auto& map_of) {
            for (index_t i = 0; i < state.rows(); ++i) {
                const std::size_t before = changed.values.size();
                columns.descend(map_of, state.first_row + i, &state.gradient(i, 0), changed);
                if (changed.values.size() == before) continue;
                changed.rows.push_back(i);
                changed.ends.push_back(static_cast<index_t>(changed.values.size()));
                for (std::size_t c = before; c < changed.values.size(); ++c) state.error(i, changed.columns[c]) += changed.values[c];
            }
        });
        gram.add_product(changed, as_view(state.gradient));
        changes += static_cast<index_t>(changed.values.size());
    }
    return changes;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
