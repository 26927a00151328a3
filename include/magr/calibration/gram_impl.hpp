// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/calibration/token_sum.hpp>
#include <magr/detail/contract.hpp>
#include <magr/kernels/multiply_add.hpp>

namespace magr {
namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
using token_tile = kernels::register_tile<Scalar, simd::default_arch>;

template <compute_scalar Scalar>
token_panels<Scalar>::token_panels(index_t inputs)
    : inputs_(inputs), data_(static_cast<std::size_t>(kernels::round_up(inputs, token_tile<Scalar>::cols) * capacity)) {
    static_assert(capacity == kernels::product_blocks<Scalar, simd::default_arch>::depth);
}

template <compute_scalar Scalar>
index_t token_panels<Scalar>::append(const matrix_ref& X) noexcept {
    constexpr index_t width = token_tile<Scalar>::cols;
    constexpr index_t few = 8;  // tokens that are read side by side, each in memory order
    const index_t count = (std::min)(X.rows(), capacity - tokens_);
    for (index_t t = 0; t < count; t += few)
        for (index_t j = 0; j < inputs_; j += width) {
            const index_t rows = (std::min)(few, count - t), cols = (std::min)(width, inputs_ - j);
            Scalar* const to = data_.data() + j * capacity + (tokens_ + t) * width;
            if (X.holds<Scalar>()) {
                kernels::pack_panel<width>(X.as<Scalar>().block(t, j, rows, cols).transposed(), 1, to);
                continue;
            }
            Scalar part[static_cast<std::size_t>(few * width)];
            for (index_t r = 0; r < rows; ++r) X.load_row(t + r, j, cols, part + r * width);
            kernels::pack_panel<width>(matrix_view<const Scalar>(part, rows, cols, width).transposed(), 1, to);
        }
    tokens_ += count;
    return count;
}

/// A sum of outer products from elsewhere.
template <compute_scalar Scalar>
[[nodiscard]] matrix<Scalar> load_gram(const matrix_ref& H) {
    require_not_empty("gram_accumulator", "H", H);
    require_gram("gram_accumulator", "H", H, H.rows());
    return load_token_sum<Scalar>("gram_accumulator", "H", H);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar Scalar>
gram_accumulator<Scalar>::gram_accumulator(index_t inputs)
    : gram_(detail::checked_inputs("gram_accumulator", inputs), inputs), waiting_(inputs) {}

template <compute_scalar Scalar>
gram_accumulator<Scalar>::gram_accumulator(const detail::matrix_ref& H, index_t tokens)
    : gram_(detail::load_gram<Scalar>(H)), waiting_(gram_.cols()), tokens_(detail::tokens_of_sum("gram_accumulator", tokens)) {}

template <compute_scalar Scalar>
void gram_accumulator<Scalar>::add_batch(const detail::matrix_ref& X, executor_ref exec) {
    detail::require_whole("gram_accumulator::add", is_whole_);
    detail::require_not_empty("gram_accumulator::add", "X", X);
    detail::require_shape("gram_accumulator::add", "X", X, X.rows(), inputs());
    detail::require_finite("gram_accumulator::add", "X", X);
    const index_t tokens = detail::tokens_together("gram_accumulator::add", tokens_, X.rows());
    if (waiting_.tokens() + X.rows() >= panels::capacity) reserve(exec);
    is_whole_ = false;
    for (index_t first = 0; first < X.rows();) {
        first += waiting_.append(X.block(first, 0, X.rows() - first, inputs()));
        if (waiting_.full()) flush(exec);
    }
    is_whole_ = true;
    tokens_ = tokens;
}

template <compute_scalar Scalar>
void gram_accumulator<Scalar>::merge(const gram_accumulator& other, executor_ref exec) {
    detail::require_whole("gram_accumulator::merge", is_whole_ && other.is_whole_);
    detail::require_shape("gram_accumulator::merge", "other", other.gram_.view(), inputs(), inputs());
    const index_t tokens = detail::tokens_together("gram_accumulator::merge", tokens_, other.tokens_);
    reserve(exec);
    is_whole_ = false;
    flush(exec);  // first, because other may be this accumulator
    std::transform(gram_.data(), gram_.data() + inputs() * inputs(), other.gram_.data(), gram_.data(), std::plus<>{});
    add_tokens(other.waiting_, exec);
    is_whole_ = true;
    tokens_ = tokens;
}

/// Moves H out, with both triangles.
template <compute_scalar Scalar>
matrix<Scalar> gram_accumulator<Scalar>::take_gram(executor_ref exec) {
    detail::require_whole("gram_accumulator::gram", is_whole_);
    if (tokens_ == 0) detail::raise<value_error>("gram_accumulator::gram: at least one token must be added first, there are 0");
    reserve(exec);
    flush(exec);
    constexpr index_t width = 32;  // side of squares whose rows and columns stay in the cache
    exec.parallel_for((inputs() + width - 1) / width, [&](index_t task, index_t) {
        const index_t first = task * width, last = (std::min)(first + width, inputs());
        for (index_t j0 = 0; j0 < last; j0 += width)
            for (index_t i = first; i < last; ++i)
                for (index_t j = j0; j < (std::min)(j0 + width, i); ++j) gram_(j, i) = gram_(i, j);
    });
    is_whole_ = false;
    return std::move(gram_);
}

template <compute_scalar Scalar>
index_t gram_accumulator<Scalar>::left_size() const noexcept {
    return (std::min)(kernels::block_side, kernels::round_up(inputs(), detail::token_tile<Scalar>::rows)) * panels::capacity;
}

/// Allocates memory for the left operands of each worker. Everything that can throw happens before H is written.
template <compute_scalar Scalar>
void gram_accumulator<Scalar>::reserve(executor_ref exec) {
    const auto needed = static_cast<std::size_t>(exec.concurrency() * left_size());
    if (left_.size() < needed) left_.resize(needed);
}

template <compute_scalar Scalar>
void gram_accumulator<Scalar>::flush(executor_ref exec) {
    add_tokens(waiting_, exec);
    waiting_.clear();
}

/// H <- H + X^T X in the lower triangle, one task per 96 rows. The longest tasks come first, so that none is left for the end.
template <compute_scalar Scalar>
void gram_accumulator<Scalar>::add_tokens(const panels& x, executor_ref exec) {
    const index_t blocks = (inputs() + kernels::block_side - 1) / kernels::block_side;
    exec.parallel_for(x.tokens() == 0 ? 0 : blocks, [&](index_t task, index_t worker) {
        add_rows(x, (blocks - 1 - task) * kernels::block_side, left_.data() + worker * left_size());
    });
}

template <compute_scalar Scalar>
void gram_accumulator<Scalar>::add_rows(const panels& x, index_t first, Scalar* left) noexcept {
    const index_t rows = (std::min)(kernels::block_side, inputs() - first);
    kernels::repack_left(x.right(first), panels::capacity, rows, x.tokens(), Scalar(1), left);
    kernels::multiply_panels(gram_.view().block(first, 0, rows, first + rows), x.tokens(), left, x.right(0), panels::capacity, first);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
