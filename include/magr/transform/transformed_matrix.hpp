// SPDX-License-Identifier: MIT
#pragma once

#include <magr/grid/quantized_matrix.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/incoherence.hpp>

namespace magr {

/// A quantized matrix in another basis than the weights that it stands for. Its codes mean nothing without the recipe.
template <compute_scalar Scalar>
struct transformed_matrix {
    quantized_matrix<Scalar> quantized;  ///< W'
    incoherence_recipe recipe;           ///< how W' was made of W
};

inline namespace MAGR_ISA_NAMESPACE {

/// The weights that a matrix stands for, in the basis of the layer.
/// @par Cost      makes the rotations again, and applies them to rows x cols numbers
/// @par Errors    those of `incoherence` for a recipe that is not usable, or of another shape
template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> dequantize(const transformed_matrix<Scalar>& q, executor_ref exec = {}) {
    matrix<Scalar> weights = q.quantized.dequantize();
    incoherence(q.recipe, exec).undo(weights.view(), exec);
    return weights;
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <class Scalar>
void refuse_to_pack() {
    static_assert(
        sizeof(Scalar) == 0,
        "magr: no format stores a change of basis, and an engine would take the codes for those of W: quantize dequantize(q) onto "
        "grids of the format, or store q.quantized and q.recipe for an engine that rotates its inputs and outputs");
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

// The packers take a `quantized_matrix`. These say why they do not take this one.
template <compute_scalar Scalar, class... Rest>
void pack_awq(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}
template <compute_scalar Scalar, class... Rest>
void pack_compressed_tensors(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}
template <compute_scalar Scalar, class... Rest>
void pack_gguf(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}
template <compute_scalar Scalar, class... Rest>
void pack_gptq(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}
template <compute_scalar Scalar, class... Rest>
void pack_matmul_nbits(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}
template <compute_scalar Scalar, class... Rest>
void pack_mlx(const transformed_matrix<Scalar>&, const Rest&...) {
    detail::refuse_to_pack<Scalar>();
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
