// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include <magr/detail/finite.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage.hpp>
#include <magr/grid/storage_type.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The grid of a group in a k-quant: the weight of code c is scale * (c - zero) - offset. One of zero and offset is 0.
struct k_quant_grid {
    double scale = 0;
    double offset = 0;  ///< >= 0
    double zero = 0;    ///< without offsets one of the two middle codes
};

/// Fits the two-level grids of one block of 256 weights. All numbers are in units of its largest magnitude.
template <int GroupSize>
class k_quant_fitter {
public:
    explicit k_quant_fitter(const k_quant& kind) : kind_(kind), largest_(largest_code(kind.bits)) {}

    /// The numbers that a block stores.
    struct block {
        double scale = 0;   ///< d, an f16 number times 1 / unit
        double offset = 0;  ///< dmin, likewise
        std::array<int, 16> scale_codes = {};
        std::array<int, 16> offset_codes = {};
        std::array<double, 16> zeros = {};
        double error = 0;
    };

    /// @param weights     256, in units of the largest live one
    /// @param importance  256, factors of the squared errors of the weights; 0 for dead weights, which influence only the codes of groups
    ///                    without live ones
    /// @param unit        what the weights were divided by
    [[nodiscard]] block fit(const double* weights, const double* importance, double unit) const {
        std::array<k_quant_grid, 16> wanted;
        double largest_scale = 0, largest_offset = 0;
        for (index_t g = 0; g < kind_.groups(); ++g) {
            auto& grid = wanted[static_cast<std::size_t>(g)];
            grid = best_grid(of_group(weights, g), of_group(importance, g));
            largest_scale = (std::max)(largest_scale, grid.scale);
            largest_offset = (std::max)(largest_offset, grid.offset);
        }
        block best = choose_codes(weights, importance, wanted, stored(largest_scale / kind_.largest_scale, unit),
                                  kind_.has_offsets() ? stored(largest_offset / kind_.largest_offset, unit) : 0);
        for (int round = 0; round < 4; ++round) {
            const k_quant_grid shared = least_squares(weights, importance, best);
            if (!(shared.scale > 0)) break;
            for (index_t g = 0; g < kind_.groups(); ++g) wanted[static_cast<std::size_t>(g)] = grid_of(best, g);
            const block tried = choose_codes(weights, importance, wanted, stored(shared.scale, unit), stored(shared.offset, unit));
            if (!(tried.error < best.error)) break;
            best = tried;
        }
        std::array<double, 256> alike;
        alike.fill(1);
        for (index_t g = 0; g < kind_.groups(); ++g) {  // dead groups come as near to their weights as the shared numbers allow
            const auto at = static_cast<std::size_t>(g);
            if ((of_group(importance, g) > 0).any()) continue;
            wanted[at] = best_grid(of_group(weights, g), of_group(alike.data(), g));
            const block own = choose_codes(weights, alike.data(), wanted, best.scale, best.offset);
            best.scale_codes[at] = own.scale_codes[at];
            best.offset_codes[at] = own.offset_codes[at];
            best.zeros[at] = own.zeros[at];
        }
        return best;
    }

private:
    using values = Eigen::Array<double, GroupSize, 1>;  // of a group
    using const_values = Eigen::Map<const values>;

    [[nodiscard]] static const_values of_group(const double* all, index_t g) { return const_values(all + g * GroupSize); }

    [[nodiscard]] double stored(double value, double unit) const {
        return store_scale<double>(value * unit, storage_type::f16, largest_ * kind_.largest_scale) / unit;
    }

    [[nodiscard]] static k_quant_grid grid_of(const block& b, index_t g) {
        const auto k = static_cast<std::size_t>(g);
        return {b.scale * b.scale_codes[k], b.offset * b.offset_codes[k], b.zeros[k]};
    }

    /// The codes of weights minus the zero point.
    [[nodiscard]] values steps(const_values weights, k_quant_grid grid) const {
        return ((weights + grid.offset) / grid.scale).matrix().cwiseMax(-grid.zero).cwiseMin(largest_ - grid.zero).array().rint();
    }

    [[nodiscard]] static double error(const_values weights, const_values importance, const values& steps, k_quant_grid grid) {
        return (importance * (grid.scale * steps - grid.offset - weights).square()).sum();
    }

    /// The best scale and offset for these codes.
    [[nodiscard]] k_quant_grid least_squares(const_values weights, const_values importance, const values& steps, k_quant_grid grid) const {
        const values weighted = importance * steps;
        const double cc = (weighted * steps).sum(), cw = (weighted * weights).sum();
        if (kind_.has_offsets()) {
            const double c1 = weighted.sum(), one = importance.sum(), w1 = (importance * weights).sum();
            const double determinant = cc * one - c1 * c1;
            const double offset = determinant != 0 ? (c1 * cw - cc * w1) / determinant : 0;
            if (offset > 0) return {(cw * one - c1 * w1) / determinant, offset, 0};
        }
        return {cc > 0 ? cw / cc : 0, 0, grid.zero};
    }

    /// The best grid of a group by itself. Tries ranges of many widths about the centre, each followed by two rounds of least squares.
    [[nodiscard]] k_quant_grid best_grid(const_values weights, const_values importance) const {
        const double middle = kind_.has_offsets() ? 0 : (largest_ + 1) / 2;
        k_quant_grid best{0, 0, middle};
        if (!(importance > 0).any()) return best;
        double low = (importance > 0).select(weights, (std::numeric_limits<double>::max)()).minCoeff();
        double high = (importance > 0).select(weights, std::numeric_limits<double>::lowest()).maxCoeff();
        if (low == 0 && high == 0) return best;
        double least = (std::numeric_limits<double>::max)();
        const auto consider = [&](k_quant_grid grid) {
            for (int round = 0; round < 3; ++round) {
                const values codes = steps(weights, grid);
                const double found = error(weights, importance, codes, grid);
                if (found < least) {
                    least = found;
                    best = grid;
                }
                grid = least_squares(weights, importance, codes, grid);
                if (!(grid.scale > 0) || !is_finite(grid.scale) || !is_finite(grid.offset)) break;
            }
        };
        if (kind_.has_offsets()) {
            low = (std::min)(low, 0.0);
            if (high == low) high = 0;
        }
        for (int k = 0; k <= 24; ++k) {
            const double factor = 1.08 - 0.03 * k;
            if (kind_.has_offsets())
                consider({factor * (high - low) / largest_, (std::max)(0.0, -(low + (1 - factor) / 2 * (high - low))), 0});
            else
                for (const double zero : {middle, middle - 1})
                    consider({factor * (std::max)(-low / zero, high / (largest_ - zero)), 0, zero});
        }
        return best;
    }

    /// The codes of scales and offsets with the least error among those near the wanted ones.
    [[nodiscard]] block choose_codes(const double* weights, const double* importance, const std::array<k_quant_grid, 16>& wanted,
                                     double scale, double offset) const {
        block b{.scale = scale, .offset = offset};
        for (index_t g = 0; g < kind_.groups(); ++g) {
            const auto at = static_cast<std::size_t>(g);
            b.zeros[at] = wanted[at].zero;
            const auto nearest = [](double value, double unit, int lowest, int largest) {
                return unit > 0 ? static_cast<int>(std::nearbyint(std::clamp(value, lowest * unit, largest * unit) / unit)) : lowest;
            };
            const int middle = nearest(wanted[at].scale, scale, 1, kind_.largest_scale);
            double least = (std::numeric_limits<double>::max)();
            for (int s = (std::max)(1, middle - 1); s <= (std::min)(kind_.largest_scale, middle + 1); ++s) {
                // the centre of the codes should stay in place when the scale changes
                const double moved = wanted[at].offset + (s * scale - wanted[at].scale) * largest_ / 2;
                const int centre = nearest(moved, offset, 0, kind_.largest_offset);
                const auto consider = [&](int m) {
                    const k_quant_grid grid{s * scale, m * offset, wanted[at].zero};
                    const double found = error(of_group(weights, g), of_group(importance, g), steps(of_group(weights, g), grid), grid);
                    if (found < least) {
                        least = found;
                        b.scale_codes[at] = s;
                        b.offset_codes[at] = m;
                    }
                };
                consider(0);  // suits groups that are much smaller than the others
                for (int m = (std::max)(1, centre - 2); m <= (std::min)(kind_.largest_offset, centre + 2); ++m) consider(m);
            }
            b.error += least;
        }
        return b;
    }

    /// The two best shared numbers for all codes of a block.
    [[nodiscard]] k_quant_grid least_squares(const double* weights, const double* importance, const block& b) const {
        double cc = 0, cm = 0, mm = 0, cw = 0, mw = 0;
        for (index_t g = 0; g < kind_.groups(); ++g) {
            const const_values w = of_group(weights, g), v = of_group(importance, g);
            const double m = b.offset_codes[static_cast<std::size_t>(g)];
            const values c = steps(w, grid_of(b, g)) * double(b.scale_codes[static_cast<std::size_t>(g)]);
            const values weighted = v * c;
            cc += (weighted * c).sum();
            cm += weighted.sum() * m;
            mm += v.sum() * m * m;
            cw += (weighted * w).sum();
            mw += (v * w).sum() * m;
        }
        const double determinant = cc * mm - cm * cm;
        if (mm > 0 && determinant != 0) {
            const k_quant_grid both{(mm * cw - cm * mw) / determinant, (cm * cw - cc * mw) / determinant, 0};
            if (both.scale > 0 && both.offset > 0 && is_finite(both.scale) && is_finite(both.offset)) return both;
        }
        return {cc > 0 ? cw / cc : 0, 0, 0};
    }

    const k_quant kind_;
    const double largest_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
