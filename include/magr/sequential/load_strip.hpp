// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/sequential/row_strips.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Writes some rows of W, with their columns in another order, as a strip of `row_strips`.
template <compute_scalar Scalar>
void load_strip(std::type_identity_t<matrix_view<const Scalar>> w, std::span<const index_t> order, Scalar* strip) {
    constexpr index_t height = row_strips<Scalar>::height;
    constexpr index_t panel = 256;  // columns whose part of the strip stays in cache
    if (w.rows() < height) std::fill_n(strip, height * w.cols(), Scalar(0));
    for (index_t first = 0; first < w.cols(); first += panel) {
        const index_t last = (std::min)(first + panel, w.cols());
        const auto copy = [&](index_t i, index_t k) { strip[k * height + i] = w(i, order[static_cast<std::size_t>(k)]); };
        if (w.row_stride() < w.col_stride())
            for (index_t k = first; k < last; ++k)
                for (index_t i = 0; i < w.rows(); ++i) copy(i, k);
        else
            for (index_t i = 0; i < w.rows(); ++i)
                for (index_t k = first; k < last; ++k) copy(i, k);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
