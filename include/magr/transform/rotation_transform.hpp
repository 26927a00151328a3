// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <magr/detail/contract.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/rotation.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// Rotates inputs and outputs of a layer: W' = U W V^T, H' = V H V^T, x' = V x, y = U^T y', where U and V are random orthogonal matrices.
/// A `layer_transform`.
///
/// A rotation spreads large weights and large inputs over all columns and rows, so that one grid fits the whole matrix.
///
/// V depends on kind, number of inputs and seed alone: layers with the same inputs share x'. The random numbers are a part of this
/// library's interface: Philox with the seed as key, see `random_stream`. The same arguments make the same rotation, to the last bit, on
/// every platform with IEEE arithmetic; applying it rounds differently for different instruction sets.
///
/// @par Shapes    U: rows x rows, V: cols x cols, for W of shape rows x cols
/// @par Errors    option_error if kind is not an enumerator, or hadamard for an odd number of rows or columns above 1; shape_error if a
///                size is not 1..2^24. Functions throw shape_error before any write if an argument has another size
/// @par Cost      as `rotation_kind` says, per number of W, of H twice; tasks of 32 rows or columns. Each worker allocates 32 rows twice
///                and 3.4 MB
/// @par Numerics  in double, rounded to the type of the matrix after each side; the same bits for every executor. Numbers near the largest
///                one may overflow to infinity
/// @par Source    QuIP (arXiv 2307.13304) for `orthogonal`, whose order of steps follows the authors' code; QuIP# (arXiv 2402.04396) for
///                `hadamard`
class rotation_transform {
public:
    rotation_transform(rotation_kind kind, index_t rows, index_t cols, std::uint64_t seed, executor_ref exec = {})
        : outputs_(detail::make_rotation("rotation_transform", "rows", kind, rows, seed, 0, exec)),
          inputs_(detail::make_rotation("rotation_transform", "cols", kind, cols, seed, 1, exec)) {}

    [[nodiscard]] index_t inputs() const noexcept { return inputs_->size(); }
    [[nodiscard]] index_t outputs() const noexcept { return outputs_->size(); }

    template <compute_scalar Scalar>
    void weights(matrix_view<Scalar> W, executor_ref exec = {}) const {
        detail::require_shape("rotation_transform::weights", "W", W, outputs(), inputs());
        detail::require_storage("rotation_transform::weights", "W", W);
        detail::require_distinct("rotation_transform::weights", "W", W);
        detail::rotate_rows(*inputs_, W, false, exec);
        detail::rotate_rows(*outputs_, W.transposed(), false, exec);
    }
    template <compute_scalar Scalar>
    void gram(matrix_view<Scalar> H, executor_ref exec = {}) const {
        detail::require_shape("rotation_transform::gram", "H", H, inputs(), inputs());
        detail::require_storage("rotation_transform::gram", "H", H);
        detail::require_distinct("rotation_transform::gram", "H", H);
        detail::rotate_rows(*inputs_, H, false, exec);
        detail::rotate_rows(*inputs_, H.transposed(), false, exec);
    }
    template <compute_scalar Scalar>
    void undo(matrix_view<Scalar> W, executor_ref exec = {}) const {
        detail::require_shape("rotation_transform::undo", "W", W, outputs(), inputs());
        detail::require_storage("rotation_transform::undo", "W", W);
        detail::require_distinct("rotation_transform::undo", "W", W);
        detail::rotate_rows(*outputs_, W.transposed(), true, exec);
        detail::rotate_rows(*inputs_, W, true, exec);
    }
    template <compute_scalar Scalar>
    void input(std::span<Scalar> x) const {
        rotate_token("rotation_transform::input", *inputs_, x, false);
    }
    template <compute_scalar Scalar>
    void output(std::span<Scalar> y) const {
        rotate_token("rotation_transform::output", *outputs_, y, true);
    }

private:
    template <compute_scalar Scalar>
    static void rotate_token(const char* function, const detail::rotation& rotation, std::span<Scalar> x, bool transposed) {
        const matrix_view<Scalar> row(x.data(), 1, static_cast<index_t>(x.size()));
        detail::require_shape(function, "the token", row, 1, rotation.size());
        detail::rotate_rows(rotation, row, transposed, {});
    }

    std::shared_ptr<const detail::rotation> outputs_, inputs_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
