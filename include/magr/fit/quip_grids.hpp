// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/storage.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/matrix/dense_matrix.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> quip_grids_of(const matrix_ref& W, int bits) {
    double largest = 0, sum = 0;
    for (index_t i = 0; i < W.rows(); ++i)
        W.visit_row(i, 0, W.cols(), [&](index_t, double w) { largest = (std::max)(largest, std::abs(w)); });
    for (index_t i = 0; i < W.rows() && largest > 0; ++i)  // in units of the largest weight, so that no square overflows
        W.visit_row(i, 0, W.cols(), [&](index_t, double w) { sum += (w / largest) * (w / largest); });
    const double size = static_cast<double>(W.rows()) * static_cast<double>(W.cols());
    const double codes = largest_code(bits), half_range = largest > 0 ? 2.4 * std::sqrt(sum / size) * largest : 1e-16;
    weight_grids<Scalar> grids = make_weight_grids<Scalar>(W.rows(), W.cols(), {.bits = bits, .zero_point = zero_point::real});
    const Scalar scale = store_scale<Scalar>(2 * half_range / codes, grids.storage, codes);
    std::fill_n(grids.scales.data(), W.rows(), scale);
    std::fill_n(grids.zeros.data(), W.rows(), static_cast<Scalar>(codes / 2));
    return grids;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// The grid of QuIP, the same for all weights of a matrix whose entries are of similar size, such as one that was rotated:
///
///   code c stands for s (2 c / maxq - 1),   s = 2.4 sqrt(mean W^2),   maxq = 2^bits - 1
///
/// It is symmetric and has no level 0: the zero point, maxq / 2, is half an integer, which few formats can hold. Weights beyond +-s go to
/// its ends.
///
/// @par Shapes    W: rows x cols, any storage and layout
/// @return        rows x 1 grids, all equal, in double for double weights, otherwise in float. A matrix of zeros has s = 1e-16
/// @par Cost      two passes over W
/// @par Errors    option_error if bits are not in 2..8; shape_error if W is empty; value_error if an entry is NaN or infinite
/// @par Source    QuIP (arXiv 2307.13304), whose code adds 1e-16 to every s
template <class Weights>
[[nodiscard]] auto quip_grids(const Weights& W, int bits) {
    const auto w = as_const_view(W);
    detail::require_option(bits >= 2 && bits <= 8, "quip_grids", "bits", "in 2..8", bits);
    detail::require_not_empty("quip_grids", "W", w);
    detail::require_distinct("quip_grids", "W", w);
    detail::require_finite("quip_grids", "W", w);
    return detail::quip_grids_of<compute_t<typename decltype(w)::value_type>>(w, bits);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
