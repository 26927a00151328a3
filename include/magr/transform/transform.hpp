// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <span>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// A change of basis under which a layer is quantized: W' = A W B and H' = inv(B) H inv(B)^T, so that W' inv(B) x = A W x. With an
/// orthogonal A every output error stays what it was.
///
/// All functions work in place. `undo(W')` returns to the basis of W: an engine that loads its result needs to know nothing. Or the engine
/// keeps W' and computes y = W x as `input(x)`, y = W' x, `output(y)`.
///
/// | function  | in                  | out                      |
/// |-----------|---------------------|--------------------------|
/// | weights   | W                   | A W B                    |
/// | gram      | H                   | inv(B) H inv(B)^T        |
/// | undo      | W'                  | inv(A) W' inv(B)         |
/// | input     | x, one token        | inv(B) x                 |
/// | output    | y, one token        | inv(A) y                 |
template <class T>
concept layer_transform = requires(const T& transform, matrix_view<float> w, matrix_view<double> h, std::span<float> x) {
    { transform.inputs() } -> std::same_as<index_t>;
    transform.weights(w);
    transform.weights(h);
    transform.gram(h);
    transform.undo(w);
    transform.undo(h);
    transform.input(x);
    transform.output(x);
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
