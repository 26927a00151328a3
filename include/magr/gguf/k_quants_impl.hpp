// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/share_rows.hpp>
#include <magr/gguf/gguf_block.hpp>
#include <magr/gguf/k_quant_fitter.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/grid/grid.hpp>
#include <magr/grid/grid_weights.hpp>
#include <magr/grid/make_weight_grids.hpp>
#include <magr/grid/storage.hpp>
#include <magr/grid/weight_grids.hpp>
#include <magr/pack/format.hpp>
#include <magr/pack/format_rules.hpp>
#include <magr/pack/packing.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// @param importance  of each column, or empty
template <int GroupSize, compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_k_quant_groups(const matrix_ref& w, const k_quant& kind, std::span<const double> importance,
                                                      executor_ref exec) {
    const index_t rows = w.rows(), cols = w.cols(), groups = cols / kind.group_size, blocks = cols / 256;
    weight_grids<Scalar> grids = make_weight_grids<Scalar>(
        rows, cols,
        {.bits = kind.bits, .zero_point = kind.has_offsets() ? zero_point::offset : zero_point::middle, .group_size = kind.group_size});
    auto& shared = grids.shared;
    shared = {kind.groups(), matrix<Scalar>(rows, blocks), {}, matrix<std::int8_t>(rows, groups), {}};
    if (kind.has_offsets()) {
        shared.offsets = matrix<Scalar>(rows, blocks);
        shared.offset_codes = matrix<std::uint8_t>(rows, groups);
    }
    const k_quant_fitter<GroupSize> fitter(kind);
    share_rows(rows, exec, [&](index_t first, index_t last) {
        std::array<double, 256> weights, weight_of_error;
        for (index_t i = first; i < last; ++i)
            for (index_t b = 0; b < blocks; ++b) {
                double most = 0;
                if (!importance.empty()) {
                    const auto part = importance.subspan(static_cast<std::size_t>(b * 256), 256);
                    most = *std::max_element(part.begin(), part.end());
                }
                double unit = 0;
                w.load_row(i, b * 256, 256, weights.data());
                for (std::size_t j = 0; j < 256; ++j) {
                    const double own = most > 0 ? importance[static_cast<std::size_t>(b * 256) + j] : 1;
                    // inputs that are almost always 0 still deserve a grid that fits their weights
                    weight_of_error[j] = most > 0 ? (own > 0 ? own / most + 1e-6 : 0) : 1;
                    if (own > 0) unit = (std::max)(unit, std::abs(weights[j]));
                }
                unit = (std::max)(unit, 0x1p-100);  // smaller values underflow in f16
                // no grid of this block reaches as far as the limit; only dead weights can lie beyond it
                for (double& weight : weights) weight = std::clamp(weight / 4, -unit, unit) / unit * 4;
                const auto found = fitter.fit(weights.data(), weight_of_error.data(), unit);
                // rounds to f16 again, because multiplying by the unit may not restore the last bit
                shared.scales(i, b) =
                    store_scale<Scalar>(found.scale * unit, storage_type::f16, double(kind.largest_scale) * largest_code(kind.bits));
                if (kind.has_offsets()) shared.offsets(i, b) = round_to_storage<Scalar>(found.offset * unit, storage_type::f16);
                for (index_t k = 0; k < kind.groups(); ++k) {
                    const index_t g = b * kind.groups() + k;
                    const auto at = static_cast<std::size_t>(k);
                    shared.scale_codes(i, g) = static_cast<std::int8_t>(found.scale_codes[at]);
                    grids.scales(i, g) = shared.scales(i, b) * static_cast<Scalar>(found.scale_codes[at]);
                    grids.zeros(i, g) = static_cast<Scalar>(found.zeros[at]);
                    if (!kind.has_offsets()) continue;
                    shared.offset_codes(i, g) = static_cast<std::uint8_t>(found.offset_codes[at]);
                    grids.zeros(i, g) = shared_offset(shared.offsets(i, b), shared.offset_codes(i, g));
                }
            }
    });
    return grids;
}

template <compute_scalar Scalar>
[[nodiscard]] weight_grids<Scalar> fit_checked(const matrix_ref& w, ggml_type type, std::span<const double> importance, executor_ref exec) {
    const k_quant kind = k_quant_of(type);
    return kind.group_size == 16 ? fit_k_quant_groups<16, Scalar>(w, kind, importance, exec)
                                 : fit_k_quant_groups<32, Scalar>(w, kind, importance, exec);
}

inline void require_k_quant(const char* function, ggml_type type, index_t rows, index_t cols) {
    require_option(k_quant_of(type).bits != 0, function, "type", "a k-quant", static_cast<std::uint32_t>(type));
    refuse(problems_of(function, magr::format_of(type), rows, cols, grid_options_for(magr::format_of(type))));
}

template <compute_scalar Scalar>
weight_grids<Scalar> run_fit_k_quant_grids(const matrix_ref& W, ggml_type type, executor_ref exec) {
    require_k_quant("fit_k_quant_grids", type, W.rows(), W.cols());
    require_distinct("fit_k_quant_grids", "W", W);
    require_finite("fit_k_quant_grids", "W", W, exec);
    return fit_checked<Scalar>(W, type, {}, exec);
}

template <compute_scalar Scalar>
weight_grids<Scalar> run_fit_k_quant_grids(const matrix_ref& W, const gram_argument& H, ggml_type type, double dead_threshold,
                                           executor_ref exec) {
    require_k_quant("fit_k_quant_grids", type, W.rows(), W.cols());
    require_option(dead_threshold >= 0 && dead_threshold < 1, "fit_k_quant_grids", "dead_threshold", "in [0, 1)", dead_threshold);
    const used_hessian h("fit_k_quant_grids", W, H, dead_threshold, exec);
    std::vector<double> importance;
    for (index_t j = 0; j < W.cols(); ++j) importance.push_back(h->is_dead(j) ? 0 : H.matrix()(j, j));
    return fit_checked<Scalar>(W, type, importance, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
