// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/text.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Scales each input of a layer: W' = W diag(s), H' = inv(diag(s)) H inv(diag(s)), x' = inv(diag(s)) x. A `layer_transform`.
///
/// An engine divides the input by s, or whatever writes that input does (the gain of a norm, the rows of the layer before).
///
/// @par Shapes    s: one factor per input
/// @par Errors    value_error if a factor is not positive and finite; shape_error if a matrix or token has another number of inputs.
///                Before any write
/// @par Cost      one multiplication or division per entry
/// @par Numerics  in the type of the matrix; the scales are double
class column_scaling {
public:
    explicit column_scaling(std::vector<double> scales) : scales_(std::move(scales)) {
        for (std::size_t j = 0; j < scales_.size(); ++j)
            if (!(scales_[j] > 0) || !detail::is_finite(scales_[j]))
                detail::raise<value_error>(
                    detail::concat("column_scaling: scales must be positive and finite, scales[", j, "] is ", scales_[j]));
    }

    [[nodiscard]] index_t inputs() const noexcept { return static_cast<index_t>(scales_.size()); }
    [[nodiscard]] std::span<const double> scales() const noexcept { return scales_; }

    template <compute_scalar Scalar>
    void weights(matrix_view<Scalar> W) const {
        require_inputs("weights", W.cols());
        for (index_t i = 0; i < W.rows(); ++i)
            for (index_t j = 0; j < W.cols(); ++j) W(i, j) = static_cast<Scalar>(static_cast<double>(W(i, j)) * scale(j));
    }
    template <compute_scalar Scalar>
    void gram(matrix_view<Scalar> H) const {
        require_inputs("gram", H.rows());
        require_inputs("gram", H.cols());
        for (index_t i = 0; i < H.rows(); ++i)
            for (index_t j = 0; j < H.cols(); ++j) H(i, j) = static_cast<Scalar>(static_cast<double>(H(i, j)) / scale(i) / scale(j));
    }
    template <compute_scalar Scalar>
    void undo(matrix_view<Scalar> W) const {
        require_inputs("undo", W.cols());
        for (index_t i = 0; i < W.rows(); ++i)
            for (index_t j = 0; j < W.cols(); ++j) W(i, j) = static_cast<Scalar>(static_cast<double>(W(i, j)) / scale(j));
    }
    template <compute_scalar Scalar>
    void input(std::span<Scalar> x) const {
        require_inputs("input", static_cast<index_t>(x.size()));
        for (std::size_t j = 0; j < x.size(); ++j) x[j] = static_cast<Scalar>(static_cast<double>(x[j]) / scales_[j]);
    }
    template <compute_scalar Scalar>
    void output(std::span<Scalar>) const noexcept {}

private:
    [[nodiscard]] double scale(index_t j) const { return scales_[static_cast<std::size_t>(j)]; }
    void require_inputs(const char* function, index_t actual) const {
        if (actual != inputs())
            detail::raise<shape_error>(detail::concat("column_scaling::", function, ": needs ", inputs(), " inputs, there are ", actual));
    }

    std::vector<double> scales_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
