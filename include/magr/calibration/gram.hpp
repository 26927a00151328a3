// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Up to `capacity` tokens, packed as right operands of register tiles: each panel covers as many inputs as a tile is wide, token by token.
template <compute_scalar Scalar>
class token_panels {
public:
    static constexpr index_t capacity = 384;  ///< the depth of a block of a product

    explicit token_panels(index_t inputs);

    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }
    [[nodiscard]] bool full() const noexcept { return tokens_ == capacity; }
    void clear() noexcept { tokens_ = 0; }

    /// Takes as many tokens of X as it has room for, and returns how many.
    index_t append(const matrix_ref& X) noexcept;

    /// The panel that begins with input j, a multiple of a tile's width.
    [[nodiscard]] const Scalar* right(index_t j) const noexcept { return data_.data() + j * capacity; }

private:
    index_t inputs_;
    index_t tokens_ = 0;
    std::vector<Scalar> data_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Accumulates the Gram matrix of calibration inputs.
///
/// H = sum over tokens of x x^T = X^T X
///
/// Every algorithm of the library is invariant to a positive factor of H. H is therefore a sum, not a mean: accumulators of parts of the
/// data merge by addition, and you can pass a Gram matrix of another convention instead.
///
/// The accumulator converts and buffers tokens, and adds 384 at a time to H, so small batches cost no more than large ones.
///
/// @tparam Scalar   type to which inputs are converted, and in which H is summed and kept
/// @par Shapes      X: tokens x inputs · H: inputs x inputs
/// @par Cost        inputs^2 / 2 multiply-adds per token, as only one triangle is computed. The constructor allocates H and room for 384
///                  tokens; the first 384 tokens allocate 96 x 384 numbers per worker; nothing is allocated after that
/// @par Numerics    every element is a sum over blocks of 384 tokens, each summed in order in Scalar. The same tokens in the same order
///                  give the same bits, however they are split into batches, with every executor, and whether or not `gram` was called in
///                  between. `merge` ends a block, and so does the constructor from a sum: a sum saved after a multiple of 384 tokens
///                  continues with the same bits
/// @par Errors      shape_error, value_error; a refused batch leaves the accumulator unchanged. If the executor
///                  throws, the accumulator refuses everything from then on with a value_error: start again. The same after
///                  `std::move(calibration).gram()`
template <compute_scalar Scalar = double>
class gram_accumulator {
public:
    /// @par Errors shape_error if inputs < 1
    explicit gram_accumulator(index_t inputs);

    /// Continues from a saved sum, or one from another machine: the `gram()` and `tokens()` of an accumulator, or any X^T X of that many
    /// tokens. To add such a sum to tokens that are already here, `merge` it.
    /// @par Errors shape_error if H is empty or not square; value_error if it is not a Gram matrix, has an entry that is too large for
    ///             Scalar, or tokens < 1
    template <class Matrix>
        requires dense_matrix<const Matrix>
    gram_accumulator(const Matrix& H, index_t tokens) : gram_accumulator(detail::matrix_ref(as_const_view(H)), tokens) {}

    /// Adds the tokens of one batch, of any size, in any storage type and layout. Tasks of `exec` update H for every 384 tokens.
    /// @par Errors shape_error if X is empty or has another number of columns; value_error with row and column of a NaN or Inf
    template <class Matrix>
    void add(const Matrix& X, executor_ref exec = {}) {
        add_batch(as_const_view(X), exec);
    }

    /// Adds the tokens that another accumulator has seen.
    /// @par Errors shape_error if its number of inputs differs; value_error if there are more tokens than can be counted
    void merge(const gram_accumulator& other, executor_ref exec = {});

    [[nodiscard]] index_t inputs() const noexcept { return gram_.cols(); }
    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

    /// The symmetric matrix H of all tokens so far. `std::move(calibration).gram()` avoids a copy of H.
    /// @par Errors value_error if no token was added
    [[nodiscard]] matrix<Scalar> gram(executor_ref exec = {}) const& { return gram_accumulator(*this).take_gram(exec); }
    [[nodiscard]] matrix<Scalar> gram(executor_ref exec = {}) && { return take_gram(exec); }

private:
    using panels = detail::token_panels<Scalar>;

    gram_accumulator(const detail::matrix_ref& H, index_t tokens);

    void add_batch(const detail::matrix_ref& X, executor_ref exec);
    [[nodiscard]] matrix<Scalar> take_gram(executor_ref exec);
    [[nodiscard]] index_t left_size() const noexcept;
    void reserve(executor_ref exec);
    void flush(executor_ref exec);
    void add_tokens(const panels& x, executor_ref exec);
    void add_rows(const panels& x, index_t first, Scalar* left) noexcept;

    matrix<Scalar> gram_;  // the lower triangle, without the waiting tokens
    panels waiting_;
    std::vector<Scalar> left_;  // working memory of each worker
    index_t tokens_ = 0;
    bool is_whole_ = true;  // whether no update was interrupted and the sum was not moved out
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/calibration/gram_impl.hpp>
#endif
