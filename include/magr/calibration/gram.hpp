// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/kernels/multiply_add.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Up to `capacity` tokens, packed as the right operands of register tiles: panels of `tile::cols` inputs, each token by token.
template <compute_scalar Scalar>
class token_panels {
public:
    using tile = kernels::register_tile<Scalar, simd::default_arch>;
    static constexpr index_t capacity = kernels::product_blocks<Scalar, simd::default_arch>::depth;

    explicit token_panels(index_t inputs)
        : inputs_(inputs), data_(static_cast<std::size_t>(kernels::round_up(inputs, tile::cols) * capacity)) {}

    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }
    [[nodiscard]] bool full() const noexcept { return tokens_ == capacity; }
    void clear() noexcept { tokens_ = 0; }

    /// Takes as many tokens of X as there is room for, and returns how many.
    template <class T>
    index_t append(matrix_view<const T> X) noexcept {
        constexpr index_t few = 8;  // tokens that are read side by side, each in the order of memory
        const index_t count = (std::min)(X.rows(), capacity - tokens_);
        for (index_t t = 0; t < count; t += few)
            for (index_t j = 0; j < inputs_; j += tile::cols) {
                const auto part = X.block(t, j, (std::min)(few, count - t), (std::min)(tile::cols, inputs_ - j));
                kernels::pack_panel<tile::cols>(part.transposed(), Scalar(1), data_.data() + j * capacity + (tokens_ + t) * tile::cols);
            }
        tokens_ += count;
        return count;
    }

    /// The panel that begins with input j, a multiple of `tile::cols`.
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
/// @par Numerics    every element is a sum over blocks of 384 tokens, each summed in order in Scalar: the same bits for the same tokens in
///                  the same order, however they are split into batches, with every executor, and whether or not `gram` was called in
///                  between. `merge` ends a block, and so does a sum from elsewhere: saved after a multiple of 384 tokens, it goes on
///                  with the same bits
/// @par Errors      shape_error, value_error; a refused batch leaves the accumulator unchanged
template <compute_scalar Scalar = double>
class gram_accumulator {
public:
    /// @par Errors shape_error if inputs < 1
    explicit gram_accumulator(index_t inputs) : gram_(checked(inputs), inputs), waiting_(inputs) {}

    /// Goes on from a sum that was saved, or comes from another machine: the `gram()` and `tokens()` of an accumulator, or anything
    /// that is X^T X of so many tokens. To add it to the tokens that are here already, `merge` it.
    /// @par Errors shape_error if H is empty or not square; value_error if it is not a Gram matrix, has an entry that is too large for
    ///             Scalar, or tokens < 1
    template <class Matrix>
        requires dense_matrix<const Matrix>
    gram_accumulator(const Matrix& H, index_t tokens)
        : gram_(checked(as_const_view(H))), waiting_(gram_.cols()), tokens_(detail::tokens_of_sum("gram_accumulator", tokens)) {}

    /// Adds the tokens of one batch, of any size, in any storage type and layout. Tasks of `exec` update H for every 384 tokens.
    /// @par Errors shape_error if X is empty or has another number of columns; value_error with row and column of a NaN or Inf
    template <class Matrix>
    void add(const Matrix& X, executor_ref exec = {}) {
        const auto x = as_const_view(X);
        detail::require_not_empty("gram_accumulator::add", "X", x);
        detail::require_shape("gram_accumulator::add", "X", x, x.rows(), inputs());
        detail::require_finite("gram_accumulator::add", "X", x);
        const index_t tokens = detail::tokens_together("gram_accumulator::add", tokens_, x.rows());
        if (waiting_.tokens() + x.rows() >= panels::capacity) reserve(exec);
        for (index_t first = 0; first < x.rows();) {
            first += waiting_.append(x.block(first, 0, x.rows() - first, inputs()));
            if (waiting_.full()) flush(exec);
        }
        tokens_ = tokens;
    }

    /// Adds the tokens that another accumulator has seen.
    /// @par Errors shape_error if its number of inputs differs; value_error if there are more tokens than can be counted
    void merge(const gram_accumulator& other, executor_ref exec = {}) {
        detail::require_shape("gram_accumulator::merge", "other", other.gram_.view(), inputs(), inputs());
        const index_t tokens = detail::tokens_together("gram_accumulator::merge", tokens_, other.tokens_);
        reserve(exec);
        flush(exec);  // first, because other may be this accumulator
        std::transform(gram_.data(), gram_.data() + inputs() * inputs(), other.gram_.data(), gram_.data(), std::plus<>{});
        add_tokens(other.waiting_, exec);
        tokens_ = tokens;
    }

    [[nodiscard]] index_t inputs() const noexcept { return gram_.cols(); }
    [[nodiscard]] index_t tokens() const noexcept { return tokens_; }

    /// The symmetric matrix H of all tokens so far. `std::move(calibration).gram()` does without a copy of H.
    /// @par Errors value_error if no token was added
    [[nodiscard]] matrix<Scalar> gram(executor_ref exec = {}) const& { return gram_accumulator(*this).take_gram(exec); }
    [[nodiscard]] matrix<Scalar> gram(executor_ref exec = {}) && { return take_gram(exec); }

private:
    using panels = detail::token_panels<Scalar>;
    using tile = typename panels::tile;
    static constexpr index_t block_rows = kernels::product_blocks<Scalar, simd::default_arch>::rows;
    [[nodiscard]] index_t left_size() const noexcept {
        return (std::min)(block_rows, kernels::round_up(inputs(), tile::rows)) * panels::capacity;
    }

    static index_t checked(index_t inputs) {
        if (inputs < 1) detail::raise<shape_error>(detail::concat("gram_accumulator: inputs must be at least 1, it is ", inputs));
        return inputs;
    }

    template <class T>
    static matrix<Scalar> checked(matrix_view<T> H) {
        detail::require_not_empty("gram_accumulator", "H", H);
        detail::require_gram("gram_accumulator", "H", H, H.rows());
        return detail::load_token_sum<Scalar>("gram_accumulator", "H", H);
    }

    /// Moves H out, with both triangles.
    [[nodiscard]] matrix<Scalar> take_gram(executor_ref exec) {
        if (tokens_ == 0) detail::raise<value_error>("gram_accumulator::gram: at least one token must be added first, there are 0");
        reserve(exec);
        flush(exec);
        constexpr index_t width = 32;  // of squares whose rows and columns stay in the cache
        exec.parallel_for((inputs() + width - 1) / width, [&](index_t task, index_t) {
            const index_t first = task * width, last = (std::min)(first + width, inputs());
            for (index_t j0 = 0; j0 < last; j0 += width)
                for (index_t i = first; i < last; ++i)
                    for (index_t j = j0; j < (std::min)(j0 + width, i); ++j) gram_(j, i) = gram_(i, j);
        });
        return std::move(gram_);
    }

    /// Memory for the left operands of each worker. All that can throw comes before H is written.
    void reserve(executor_ref exec) {
        const auto needed = static_cast<std::size_t>(exec.concurrency() * left_size());
        if (left_.size() < needed) left_.resize(needed);
    }

    void flush(executor_ref exec) {
        add_tokens(waiting_, exec);
        waiting_.clear();
    }

    /// H <- H + X^T X in the lower triangle, one task per 96 rows. The longest tasks come first, so that none is left for the end.
    void add_tokens(const panels& x, executor_ref exec) {
        const index_t blocks = (inputs() + block_rows - 1) / block_rows;
        exec.parallel_for(x.tokens() == 0 ? 0 : blocks, [&](index_t task, index_t worker) {
            add_rows(x, (blocks - 1 - task) * block_rows, left_.data() + worker * left_size());
        });
    }

    void add_rows(const panels& x, index_t first, Scalar* left) noexcept {
        const index_t rows = (std::min)(block_rows, inputs() - first);
        kernels::repack_left(x.right(first), panels::capacity, rows, x.tokens(), Scalar(1), left);
        kernels::multiply_panels(gram_.view().block(first, 0, rows, first + rows), x.tokens(), left, x.right(0), panels::capacity, first);
    }

    matrix<Scalar> gram_;  // the lower triangle, current but for the waiting tokens
    panels waiting_;
    std::vector<Scalar> left_;  // working memory of each worker
    index_t tokens_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
