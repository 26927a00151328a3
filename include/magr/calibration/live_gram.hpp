// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Which inputs of a Gram matrix are dead, and the mean of the diagonal of the others.
struct live_columns {
    std::vector<char> dead;
    index_t live = 0;    ///< number of live inputs
    double mean = 1;     ///< of the diagonal entries of live inputs; 1 if there are none, because any unit will do
    double largest = 0;  ///< of the same entries
};

/// The one rule for dead inputs: H_jj <= threshold * mean, where the mean is that of the positive diagonal entries.
/// @pre  H finite, with no negative diagonal entry
[[nodiscard]] inline live_columns find_live_columns(const matrix_ref& H, double threshold) {
    live_columns out;
    out.dead.resize(static_cast<std::size_t>(H.cols()));
    const auto keep_above = [&](double least) {
        double sum = 0;
        out.live = 0;
        for (index_t j = 0; j < H.cols(); ++j) {
            const double energy = H(j, j);
            out.dead[static_cast<std::size_t>(j)] = energy <= least;
            if (energy <= least) continue;
            sum += energy;
            ++out.live;
            out.largest = (std::max)(out.largest, energy);
        }
        if (out.live > 0) out.mean = sum / static_cast<double>(out.live);
        if (detail::is_finite(out.mean)) return;
        out.mean = 0;  // term by term, because the sum overflows
        for (index_t j = 0; j < H.cols(); ++j)
            if (out.dead[static_cast<std::size_t>(j)] == 0) out.mean += H(j, j) / static_cast<double>(out.live);
    };
    keep_above(0);
    if (threshold > 0 && out.live > 0) keep_above(threshold * out.mean);
    return out;
}

/// A Gram matrix in which the rows and columns of dead inputs are zero, so that its readers need not know why an input is dead. It is H
/// itself if they are zero already, and a copy otherwise.
class live_gram {
public:
    /// @par Cost      O(n) without dead inputs; otherwise O(n^2) at most, and a copy of H if it allocates one
    live_gram(const matrix_ref& H, double threshold) : columns_(find_live_columns(H, threshold)), view_(H) {
        const index_t n = H.cols();
        const auto leaves_traces = [&](index_t j) {
            for (index_t i = 0; i < n; ++i)
                if (H(i, j) != 0 || H(j, i) != 0) return true;
            return false;
        };
        bool clean = true;
        for (index_t j = 0; clean && j < n; ++j) clean = !is_dead(j) || !leaves_traces(j);
        if (clean) return;
        copy_ = matrix<double>(n, n);
        for (index_t i = 0; i < n; ++i) {
            if (is_dead(i)) continue;
            H.load_row(i, 0, n, &copy_(i, 0));
            for (index_t j = 0; j < n; ++j)
                if (is_dead(j)) copy_(i, j) = 0;
        }
        view_ = std::as_const(copy_).view();
    }
    live_gram(const live_gram&) = delete;
    live_gram& operator=(const live_gram&) = delete;

    [[nodiscard]] const matrix_ref& view() const noexcept { return view_; }
    [[nodiscard]] bool is_dead(index_t j) const noexcept { return columns_.dead[static_cast<std::size_t>(j)] != 0; }
    [[nodiscard]] index_t dead_columns() const noexcept { return view_.cols() - columns_.live; }
    [[nodiscard]] bool has_dead() const noexcept { return dead_columns() > 0; }
    [[nodiscard]] bool has_live() const noexcept { return columns_.live > 0; }
    [[nodiscard]] double mean() const noexcept { return columns_.mean; }
    /// Whether the matrix passed in has nonzero entries of an input that is dead by the threshold.
    [[nodiscard]] bool is_copy() const noexcept { return !copy_.empty(); }

private:
    live_columns columns_;
    matrix<double> copy_;
    matrix_ref view_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
