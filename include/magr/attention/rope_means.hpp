// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>

namespace magr {

/// Which two dimensions of a head a rotary position embedding turns together.
enum class rope_layout {
    halves,      ///< i and i + pairs, as in the Hugging Face checkpoints of Llama
    interleaved  ///< 2i and 2i + 1, as in GPT-J
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(rope_layout layout) noexcept {
    switch (layout) {
        case rope_layout::halves: return "halves";
        case rope_layout::interleaved: return "interleaved";
    }
    return "unknown";
}

inline namespace MAGR_ISA_NAMESPACE {

/// A rotary position embedding, averaged over positions: what undoes it in the Gram matrix of rotated keys or queries.
///
/// At position t it turns each pair (a, b) of dimensions by an angle, R_t: (x_a, x_b) -> (cos x_a - sin x_b, sin x_a + cos x_b). Dimensions
/// after the pairs stay as they are. The weights of a projection act before R_t, so the Gram matrix C of rotated vectors on the other side
/// of the scores becomes, as a row Hessian,
///
///   mean over t of R_t^T C R_t
///
/// which needs only the means of cos_p cos_q, cos_p sin_q and sin_p sin_q over positions, for all pairs p and q. One object is enough for
/// all heads and layers with the same embedding.
///
/// @par Shapes    cosines, sines: positions x pairs, of any storage and layout; weights: positions, or empty if all count the same
/// @param weights   how often each position occurs, any positive multiple: the number of sequences that reach it
/// @par Cost      3 positions * pairs^2 multiply-adds in double; keeps three matrices of (pairs + 1)^2
/// @par Errors    shape_error; option_error if layout is not an enumerator; value_error if an entry is NaN or infinite, a weight is
///                negative, or the sum of the weights is not positive and finite
/// @par Source    BoA (arXiv 2406.13474), which averages R_t^T C R_t, as descriptions of it say; the form with means was derived here
class rope_means {
public:
    template <class Cosines, class Sines>
        requires dense_matrix<const Cosines> && dense_matrix<const Sines>
    rope_means(const Cosines& cosines, const Sines& sines, rope_layout layout = rope_layout::halves, std::span<const double> weights = {})
        : rope_means(detail::matrix_ref(as_const_view(cosines)), detail::matrix_ref(as_const_view(sines)), layout, weights) {}

    /// The number of dimensions that it turns.
    [[nodiscard]] index_t rotated() const noexcept { return 2 * pairs_; }

    /// The mean of R_t^T C R_t.
    ///
    /// It is linear in C, so C may be the sum of any number of batches, as of a `gram_accumulator`.
    ///
    /// @par Shapes    C: head_size x head_size, the Gram matrix of rotated vectors, head_size >= rotated()
    /// @par Cost      4 head_size^2 multiply-adds; allocates the result
    /// @par Numerics  in double; exactly symmetric, from the lower triangle of C
    /// @par Errors    shape_error; value_error if C is not a Gram matrix, or the mean overflows
    template <class Gram>
    [[nodiscard]] matrix<double> unrotated(const Gram& C) const {
        return unrotated_gram("rope_means::unrotated", "C", as_const_view(C));
    }

    /// The same in the name of another function.
    [[nodiscard]] matrix<double> unrotated_gram(const char* function, const char* argument, const detail::matrix_ref& C) const {
        detail::require_not_empty(function, argument, C);
        detail::require_gram(function, argument, C, C.cols());
        require_head(function, C.cols());
        const auto at = [&](index_t a, index_t b) { return a > b ? C(a, b) : C(b, a); };
        matrix<double> mean(C.rows(), C.cols());
        for (index_t a = 0; a < C.rows(); ++a)
            for (index_t b = 0; b <= a; ++b) {
                // entries of column a of R_t: cos in row a, sin or -sin in that of its partner
                const dimension x = dimension_at(a), y = dimension_at(b);
                const double sum = at(a, b) * cos_cos_(x.pair, y.pair) + y.sign * at(a, y.partner) * cos_sin_(x.pair, y.pair) +
                                   x.sign * at(x.partner, b) * cos_sin_(y.pair, x.pair) +
                                   x.sign * y.sign * at(x.partner, y.partner) * sin_sin_(x.pair, y.pair);
                mean(a, b) = mean(b, a) = sum;
            }
        detail::require_finite(function, "the mean over positions", mean.view());
        return mean;
    }

    /// Refuses heads that have fewer dimensions than it turns.
    void require_head(const char* function, index_t head_size) const {
        if (head_size < rotated())
            detail::raise<shape_error>(
                detail::concat(function, ": a head must have the ", rotated(), " dimensions that rope turns, it has ", head_size));
    }

private:
    /// A dimension of a head. Those that are not turned form pairs with themselves, whose cosine is always 1.
    struct dimension {
        index_t pair;
        index_t partner;
        double sign;  ///< of its sine in the row of its partner
    };

    rope_means(const detail::matrix_ref& cosines, const detail::matrix_ref& sines, rope_layout layout, std::span<const double> weights)
        : pairs_(cosines.cols()), layout_(layout) {
        const char* const function = "rope_means";
        detail::require_enumerator(function, "layout", layout);
        detail::require_not_empty(function, "cosines", cosines);
        detail::require_shape(function, "sines", sines, cosines.rows(), cosines.cols());
        detail::require_finite(function, "cosines", cosines);
        detail::require_finite(function, "sines", sines);
        const double total = checked_total(function, weights, cosines.rows());

        cos_cos_ = cos_sin_ = sin_sin_ = matrix<double>(pairs_ + 1, pairs_ + 1);
        std::vector<double> c(static_cast<std::size_t>(pairs_ + 1)), s(c.size());
        c.back() = 1;
        for (index_t t = 0; t < cosines.rows(); ++t) {
            cosines.load_row(t, 0, pairs_, c.data());
            sines.load_row(t, 0, pairs_, s.data());
            const double share = (weights.empty() ? 1 : weights[static_cast<std::size_t>(t)]) / total;
            for (index_t p = 0; p <= pairs_; ++p) {
                const double cosine = share * c[static_cast<std::size_t>(p)], sine = share * s[static_cast<std::size_t>(p)];
                for (index_t q = 0; q <= pairs_; ++q) {
                    cos_cos_(p, q) += cosine * c[static_cast<std::size_t>(q)];
                    cos_sin_(p, q) += cosine * s[static_cast<std::size_t>(q)];
                    sin_sin_(p, q) += sine * s[static_cast<std::size_t>(q)];
                }
            }
        }
    }

    /// The sum of the weights.
    [[nodiscard]] static double checked_total(const char* function, std::span<const double> weights, index_t positions) {
        if (weights.empty()) return static_cast<double>(positions);
        if (static_cast<index_t>(weights.size()) != positions)
            detail::raise<shape_error>(
                detail::concat(function, ": weights must have ", positions, " entries, one for each position, it has ", weights.size()));
        double total = 0;
        for (const double weight : weights) {
            if (!(weight >= 0) || !detail::is_finite(weight))
                detail::raise<value_error>(detail::concat(function, ": weights must be at least 0 and finite, one is ", weight));
            total += weight;
        }
        if (!(total > 0) || !detail::is_finite(total))
            detail::raise<value_error>(detail::concat(function, ": the sum of weights must be > 0 and finite, it is ", total));
        return total;
    }

    [[nodiscard]] dimension dimension_at(index_t d) const noexcept {
        if (d >= rotated()) return {pairs_, d, 0};
        if (layout_ == rope_layout::interleaved) return d % 2 == 0 ? dimension{d / 2, d + 1, 1} : dimension{d / 2, d - 1, -1};
        return d < pairs_ ? dimension{d, d + pairs_, 1} : dimension{d - pairs_, d - pairs_, -1};
    }

    index_t pairs_;
    rope_layout layout_;
    matrix<double> cos_cos_, cos_sin_, sin_sin_;  // element (p, q): the mean of f(angle p) g(angle q); the last pair is the unturned one
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
