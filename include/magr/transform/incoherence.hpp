// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/column_scaling.hpp>
#include <magr/transform/rotation_transform.hpp>

namespace magr {

/// How `fit_incoherence` chooses a change of basis.
struct incoherence_options {
    rotation_kind kind = rotation_kind::orthogonal;  ///< of both rotations
    std::uint64_t seed = 0;                          ///< of both rotations; layers with the same inputs and seed share V
    bool rescale = true;                             ///< whether inputs are scaled before they are rotated
};

/// All that an engine has to store of an `incoherence`.
struct incoherence_recipe {
    rotation_kind kind = rotation_kind::orthogonal;
    std::uint64_t seed = 0;
    index_t rows = 0;              ///< of W
    index_t cols = 0;              ///< of W
    std::vector<double> diagonal;  ///< D, one positive number per column; empty: no scaling

    friend bool operator==(const incoherence_recipe&, const incoherence_recipe&) = default;
};

inline namespace MAGR_ISA_NAMESPACE {

/// The preprocessing of QuIP: inputs are scaled, then inputs and outputs are rotated. A `layer_transform`.
///
///   W' = U W D V^T,   H' = V inv(D) H inv(D) V^T,   x' = V inv(D) x,   y = U^T y'
///
/// The recipe alone makes the same object again, bit for bit: store it with the codes.
///
/// @par Errors    option_error, shape_error as `rotation_transform`; shape_error if the diagonal is neither empty nor of cols numbers;
///                value_error if one of them is not positive and finite. Functions throw shape_error before any write
/// @par Cost      that of `rotation_transform`; the scaling is one more operation per entry
/// @par Numerics  as `rotation_transform`
/// @par Source    QuIP (arXiv 2307.13304)
class incoherence {
public:
    explicit incoherence(incoherence_recipe recipe, executor_ref exec = {})
        : recipe_(std::move(recipe)), rotation_(recipe_.kind, recipe_.rows, recipe_.cols, recipe_.seed, exec) {
        if (recipe_.diagonal.empty()) return;
        if (static_cast<index_t>(recipe_.diagonal.size()) != recipe_.cols)
            detail::raise<shape_error>(
                detail::concat("incoherence: diagonal must be empty or have ", recipe_.cols, " numbers, it has ", recipe_.diagonal.size()));
        scaling_.emplace(recipe_.diagonal);
    }

    [[nodiscard]] const incoherence_recipe& recipe() const noexcept { return recipe_; }
    [[nodiscard]] index_t inputs() const noexcept { return rotation_.inputs(); }
    [[nodiscard]] index_t outputs() const noexcept { return rotation_.outputs(); }

    template <compute_scalar Scalar>
    void weights(matrix_view<Scalar> W, executor_ref exec = {}) const {
        detail::require_shape("incoherence::weights", "W", W, outputs(), inputs());
        detail::require_storage("incoherence::weights", "W", W);
        detail::require_distinct("incoherence::weights", "W", W);
        if (scaling_) scaling_->weights(W);
        rotation_.weights(W, exec);
    }
    template <compute_scalar Scalar>
    void gram(matrix_view<Scalar> H, executor_ref exec = {}) const {
        detail::require_shape("incoherence::gram", "H", H, inputs(), inputs());
        detail::require_storage("incoherence::gram", "H", H);
        detail::require_distinct("incoherence::gram", "H", H);
        if (scaling_) scaling_->gram(H);
        rotation_.gram(H, exec);
    }
    template <compute_scalar Scalar>
    void undo(matrix_view<Scalar> W, executor_ref exec = {}) const {
        rotation_.undo(W, exec);
        if (scaling_) scaling_->undo(W);
    }
    template <compute_scalar Scalar>
    void input(std::span<Scalar> x) const {
        if (scaling_) scaling_->input(x);
        rotation_.input(x);
    }
    template <compute_scalar Scalar>
    void output(std::span<Scalar> y) const {
        rotation_.output(y);
    }

private:
    incoherence_recipe recipe_;
    rotation_transform rotation_;
    std::optional<column_scaling> scaling_;
};

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// D of `fit_incoherence`.
[[nodiscard]] inline std::vector<double> balancing_scales(const matrix_ref& W, const hessian& H) {
    constexpr double smallest = 1e-8;  // of H_jj and (W^T W)_jj, relative to their means
    const index_t n = W.cols();
    double largest = 0;
    std::vector<double> energies(static_cast<std::size_t>(n)), scales(static_cast<std::size_t>(n), 1.0);
    for (index_t i = 0; i < W.rows(); ++i)
        W.visit_row(i, 0, n, [&](index_t j, double w) { largest = H.is_dead(j) ? largest : (std::max)(largest, std::abs(w)); });
    if (largest == 0) return scales;
    double mean = 0;
    for (index_t i = 0; i < W.rows(); ++i)
        W.visit_row(i, 0, n, [&](index_t j, double w) {
            if (H.is_dead(j)) return;
            const double square = (w / largest) * (w / largest);
            energies[static_cast<std::size_t>(j)] += square;
            mean += square / static_cast<double>(n - H.dead_inputs());
        });
    for (index_t j = 0; j < n; ++j) {
        if (H.is_dead(j)) continue;
        const double h = H.live().view()(j, j) / H.mean(), w = energies[static_cast<std::size_t>(j)] / mean;
        scales[static_cast<std::size_t>(j)] = std::sqrt(std::sqrt((std::max)(h, smallest) / (std::max)(w, smallest)));
    }
    return scales;
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Chooses the change of basis of QuIP for a layer. With `rescale`,
///
///   D_j = (H_jj / (W^T W)_jj)^(1/4)
///
/// which makes the diagonals of H' and W'^T W' proportional before the rotation. Both are taken relative to their means over live inputs,
/// and as at least 1e-8 of them. Dead inputs keep D_j = 1; set their weights to zero before, or the rotation spreads them over all columns.
///
/// @par Shapes    W: rows x cols; H: cols x cols, or a `hessian`. Any storage and layout
/// @par Cost      two passes over W, and the cost of `rotation_transform`
/// @par Numerics  in double: square roots and divisions
/// @par Errors    option_error, shape_error; value_error if an entry is NaN or infinite, or H is not a Gram matrix
/// @par Source    QuIP (arXiv 2307.13304); differs from the authors' code in the floors, which are absolute there for W^T W, and relative
///                to the largest entry for H
template <class Weights, class Gram>
    requires gram_like<Gram>
[[nodiscard]] incoherence fit_incoherence(const Weights& W, const Gram& H, const incoherence_options& options = {},
                                          executor_ref exec = {}) {
    const detail::matrix_ref w = as_const_view(W);
    detail::require_enumerator("fit_incoherence", "kind", options.kind);
    const detail::used_hessian h("fit_incoherence", w, detail::as_gram(H), 0, exec);
    std::vector<double> diagonal;
    if (options.rescale) diagonal = detail::balancing_scales(w, *h);
    return incoherence({options.kind, options.seed, w.rows(), w.cols(), std::move(diagonal)}, exec);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
