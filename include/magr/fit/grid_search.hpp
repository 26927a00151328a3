// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/convert.hpp>
#include <magr/detail/finite.hpp>
#include <magr/fit/grid_maker.hpp>
#include <magr/fit/grid_metric.hpp>
#include <magr/grid/code_map.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/storage.hpp>
#include <magr/kernels/packwise.hpp>
#include <magr/linalg/vectors.hpp>
#include <magr/simd/pack.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Finds the best of many grids for each of several rows of weights at once.
template <compute_scalar Scalar>
class grid_search {
public:
    using panel = row_major_matrix<Scalar>;
    using grids = std::vector<affine_grid<Scalar>>;

    /// @param weights  rows x columns of one group
    grid_search(const grid_options& options, const grid_metric<Scalar>& metric, const panel& weights)
        : options_(options), maker_(options), metric_(metric), weights_(weights), levels_(options.levels.begin(), options.levels.end()) {
        for (index_t i = 0; i < weights.rows(); ++i) {
            ranges_.push_back(maker_.range_of(weights.row(i)));
            // the distance between two weights may overflow
            const bool is_far =
                ranges_.back().high / 4 - ranges_.back().low / 4 > static_cast<double>((std::numeric_limits<Scalar>::max)()) / 16;
            parts_.push_back(is_far ? Scalar(1) / 32 : Scalar(1));
            for (index_t j = 0; is_far && j < weights.cols(); ++j) weights_(i, j) *= parts_.back();
            const double magnitude = (std::max)(-ranges_.back().low, ranges_.back().high);
            units_.push_back(
                (std::max)({maker_.step_of(ranges_.back()), smallest_stored_scale<Scalar>(options.storage), 1e-6 * magnitude}));
            best_.push_back(maker_.min_max(ranges_.back()));
        }
    }

    /// Runs the search and returns the best grids.
    [[nodiscard]] const grids& run() {
        if (options_.range.value_or(range_search::min_max) == range_search::min_max) return best_;
        least_ = errors(best_);
        shrink();
        if (options_.candidates == range_candidates::joint) {
            if (options_.levels.empty()) move_zero();
            fine_tune();
            for (int round = 0; round < 4; ++round) least_squares();
        }
        return best_;
    }

private:
    /// Takes for each row i the grid candidate(i), if it is better than the best so far.
    template <class Candidate>
    void consider(const Candidate& candidate) {
        grids tried = best_;
        for (std::size_t i = 0; i < tried.size(); ++i) tried[i] = candidate(i);
        keep_better(tried);
    }

    void keep_better(const grids& tried) {
        const std::vector<double> found = errors(tried);
        for (std::size_t i = 0; i < best_.size(); ++i)
            if (found[i] < least_[i]) {
                least_[i] = found[i];
                best_[i] = tried[i];
            }
    }

    /// Tries the whole range times 0.99, .. 0.21, about the weight 0; a zero point that is a code stays unchanged.
    void shrink() {
        const grids whole = best_;
        for (int k = 1; k < 80; ++k) {
            const double factor = 1 - k / 100.0;
            consider([&](std::size_t i) {
                return has_code_zero(options_.zero_point) ? maker_.with_zero_code(factor * units_[i], static_cast<double>(whole[i].zero))
                                                          : maker_.grid(factor * units_[i], factor * ranges_[i].low);
            });
        }
    }

    /// Tries scale and zero point independently of each other.
    void move_zero() {
        if (options_.zero_point == zero_point::integer && options_.bits <= 3) {
            for (double zero = 0; zero <= maker_.largest(); ++zero)
                for (int k = 0; k < 20; ++k) {
                    const double factor = 1 - k / 25.0;
                    consider([&](std::size_t i) { return maker_.with_zero_code(factor * units_[i], zero); });
                }
        } else if (options_.zero_point == zero_point::middle) {
            // With the other middle code the whole range needs steps up to twice as large, which must not overflow.
            const grids before = best_;
            const double middle = (maker_.largest() + 1) / 2, most = (std::numeric_limits<double>::max)() / 2;
            for (int percent = static_cast<int>(100 * middle / (middle - 1)); percent > 20; --percent)
                consider([&](std::size_t i) {
                    const double step = percent / 100.0 * (std::min)(units_[i], most);
                    return maker_.with_zero_code(step, maker_.largest() - static_cast<double>(before[i].zero));
                });
        } else if (!has_code_zero(options_.zero_point)) {
            for (const bool low_end : {true, false}) {
                const grids before = best_;
                for (int k = -5; k < 20; ++k)
                    consider([&](std::size_t i) {
                        const double scale = static_cast<double>(before[i].scale);
                        const double zero = static_cast<double>(before[i].zero);
                        const double low = options_.zero_point == zero_point::offset ? zero : -scale * zero;
                        const double step = scale * (1 - k / 25.0);
                        return maker_.grid(step, low_end ? low + (scale - step) * maker_.largest() : low);
                    });
            }
            // half a step of the grid with one bit less: weights that are on that one are on this one, too
            const double wider = maker_.largest() / (maker_.largest() - 1);
            consider([&](std::size_t i) { return maker_.grid(wider * units_[i], ranges_[i].low); });
        }
    }

    /// Tries scales close to the best, with its zero point.
    void fine_tune() {
        const grids before = best_;
        for (const double factor : {0.97, 0.98, 0.99, 1.01, 1.02, 1.03})
            consider([&](std::size_t i) { return maker_.rescaled(before[i], factor); });
    }

    /// Tries the scale and zero point that are best for the codes of the best grid so far.
    void least_squares() {
        const index_t rows = weights_.rows();
        panel position(rows, weights_.cols());  // weight = scale * position (+ offset)
        panel target(rows, weights_.cols());    // in units of the row
        for (index_t i = 0; i < rows; ++i) {
            const auto& grid = best_[static_cast<std::size_t>(i)];
            const Scalar part = parts_[static_cast<std::size_t>(i)];
            const Scalar unit = part * static_cast<Scalar>(units_[static_cast<std::size_t>(i)]);
            steps_of(i, grid, position);
            const Scalar shift = options_.zero_point == zero_point::real ? grid.zero : Scalar(0);
            const Scalar offset = options_.zero_point == zero_point::offset ? part * grid.zero / unit : Scalar(0);
            for (index_t j = 0; j < weights_.cols(); ++j) {
                position(i, j) -= shift;
                target(i, j) = weights_(i, j) / unit - offset;
            }
        }
        const panel weighted = metric_.apply(position);
        panel ones;
        const index_t n = weights_.cols();
        if (!has_code_zero(options_.zero_point)) ones = metric_.apply(panel::Ones(1, n));
        consider([&](std::size_t k) {
            const auto i = static_cast<index_t>(k);
            const double unit = units_[k];
            const Scalar *const p = &weighted(i, 0), *const t = &target(i, 0);
            const auto pp = static_cast<double>(linalg::dot(p, &position(i, 0), n));
            const auto pt = static_cast<double>(linalg::dot(p, t, n));
            if (has_code_zero(options_.zero_point))
                return pt > 0 && pp > 0 ? maker_.with_zero_code(pt / pp * unit, static_cast<double>(best_[k].zero)) : best_[k];
            // target = scale * position + change of the offset
            const auto oo = static_cast<double>(linalg::sum(ones.data(), n));
            const auto po = static_cast<double>(linalg::sum(p, n));
            const auto ot = static_cast<double>(linalg::dot(ones.data(), t, n));
            const double determinant = pp * oo - po * po;
            if (std::abs(determinant) <= std::numeric_limits<double>::epsilon() * pp * oo) return best_[k];  // nearly all codes are equal
            const double scale = (pt * oo - po * ot) / determinant;
            const double change = (pp * ot - po * pt) / determinant;
            if (!(scale > 0) || !is_finite(scale) || !is_finite(change)) return best_[k];
            const double zero = static_cast<double>(best_[k].zero);
            const double low = options_.zero_point == zero_point::offset ? zero + change * unit : (change - scale * zero) * unit;
            return maker_.grid(scale * unit, low);
        });
    }

    /// The steps of all weights of a row on a grid; for levels, the levels themselves.
    void steps_of(index_t i, affine_grid<Scalar> grid, panel& steps) const {
        const Scalar part = parts_[static_cast<std::size_t>(i)], scale = part * grid.scale;
        if (!options_.levels.empty()) {
            const level_map<Scalar> map{scale, levels_};
            for (index_t j = 0; j < steps.cols(); ++j)
                steps(i, j) = levels_[static_cast<std::size_t>(steps_on_grid(map, weights_(i, j), i, j))];
            return;
        }
        const Scalar offset = options_.zero_point == zero_point::offset ? part * grid.zero : Scalar(0);
        const Scalar shift = options_.zero_point == zero_point::real ? grid.zero : Scalar(0);
        const Scalar lowest = has_code_zero(options_.zero_point) ? -grid.zero : Scalar(0);
        const Scalar highest = lowest + static_cast<Scalar>(maker_.largest());
        kernels::for_each_pack<Scalar>(steps.cols(), [&, in = &weights_(i, 0), out = &steps(i, 0)](index_t j, auto arch) {
            using traits = simd::pack_traits<Scalar, decltype(arch)>;
            const auto unlimited = (traits::load(in + j) - traits::broadcast(offset)) / traits::broadcast(scale) + traits::broadcast(shift);
            const auto limited = (simd::min)(traits::broadcast(highest), (simd::max)(traits::broadcast(lowest), unlimited));
            simd::store(out + j, simd::rint(limited));
        });
    }

    /// The error of each row on its grid. Errors are in units of the row, so that tiny and huge weights neither under- nor overflow when
    /// squared or raised to a power.
    [[nodiscard]] std::vector<double> errors(const grids& tried) const {
        panel error(weights_.rows(), weights_.cols());
        for (index_t i = 0; i < weights_.rows(); ++i) {
            const auto& grid = tried[static_cast<std::size_t>(i)];
            const Scalar part = parts_[static_cast<std::size_t>(i)];
            const Scalar unit = part * static_cast<Scalar>(units_[static_cast<std::size_t>(i)]);
            steps_of(i, grid, error);
            const Scalar offset = options_.zero_point == zero_point::offset ? part * grid.zero : Scalar(0);
            const Scalar shift = options_.zero_point == zero_point::real ? grid.zero : Scalar(0);
            const Scalar step = part * grid.scale / unit;
            kernels::for_each_pack<Scalar>(error.cols(), [&, in = &weights_(i, 0), out = &error(i, 0)](index_t j, auto arch) {
                using traits = simd::pack_traits<Scalar, decltype(arch)>;
                const auto found = traits::broadcast(step) * (traits::load(out + j) - traits::broadcast(shift));
                const auto wanted = (traits::load(in + j) - traits::broadcast(offset)) / traits::broadcast(unit);
                simd::store(out + j, found - wanted);
            });
        }
        return metric_.errors(error);
    }

    const grid_options& options_;
    grid_maker<Scalar> maker_;
    const grid_metric<Scalar>& metric_;
    panel weights_;              ///< the weights, except that rows of huge weights are divided into parts
    std::vector<Scalar> parts_;  ///< by row, the factor of these parts: a power of two
    std::vector<Scalar> levels_;
    std::vector<weight_range> ranges_;
    std::vector<double> units_;  ///< by row, the scale of the whole range, limited so that weights in this unit are of moderate size
    grids best_;
    std::vector<double> least_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
