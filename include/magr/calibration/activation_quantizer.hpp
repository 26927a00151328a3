// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/validate.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// Which activations share a scale.
enum class activation_scale {
    per_token,  ///< those of one token
    per_tensor  ///< all of the matrix
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(activation_scale scale) noexcept {
    switch (scale) {
        case activation_scale::per_token: return "per_token";
        case activation_scale::per_tensor: return "per_tensor";
    }
    return "unknown";
}

/// How an engine rounds the inputs of a layer.
struct activation_options {
    int bits = 8;                                          ///< 2..8; the levels are the integers up to 2^(bits-1) - 1 and their negatives
    activation_scale scale = activation_scale::per_token;  ///< which activations share a scale
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options, with option, expected and actual; empty if there is none.
[[nodiscard]] inline std::vector<std::string> problems(const activation_options& options) {
    detail::problem_list found("activation_options");
    found.require(options.bits >= 2 && options.bits <= 8, "bits", "in 2..8", options.bits);
    found.require_enumerator("scale", options.scale);
    return found.take();
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The largest level.
[[nodiscard]] constexpr int largest_level_of(const activation_options& options) noexcept { return (1 << (options.bits - 1)) - 1; }

[[nodiscard]] inline double largest_magnitude(const double* x, index_t count) noexcept {
    double largest = 0;
    for (index_t k = 0; k < count; ++k) largest = (std::max)(largest, std::abs(x[k]));
    return largest;
}

/// Rounds numbers of at most `largest` to multiples of largest / level.
inline void round_to_levels(double* x, index_t count, double largest, int level) noexcept {
    if (largest == 0) return;
    const double unit = largest < 0x1p-900 ? 0x1p100 : 1;  // so that the step of the smallest numbers is not rounded to 0
    const double step = largest * unit / level;
    for (index_t k = 0; k < count; ++k) {
        const double steps = std::nearbyint(x[k] * unit / step);
        // the largest number stays what it is to the last bit, or a second rounding would find another scale
        x[k] = std::abs(steps) < level ? steps * step / unit : std::copysign(largest, steps);
    }
}

inline void run_round_activations(const mutable_matrix_ref& X, const activation_options& options) {
    validate(options);
    require_not_empty("round_activations", "X", X);
    require_distinct("round_activations", "X", X);
    require_finite("round_activations", "X", X);
    std::vector<double> token(static_cast<std::size_t>(X.cols()));
    double of_tensor = 0;
    for (index_t t = 0; options.scale == activation_scale::per_tensor && t < X.rows(); ++t) {
        X.load_row(t, 0, X.cols(), token.data());
        of_tensor = (std::max)(of_tensor, largest_magnitude(token.data(), X.cols()));
    }
    for (index_t t = 0; t < X.rows(); ++t) {
        X.load_row(t, 0, X.cols(), token.data());
        const bool alone = options.scale == activation_scale::per_token;
        round_to_levels(token.data(), X.cols(), alone ? largest_magnitude(token.data(), X.cols()) : of_tensor, largest_level_of(options));
        X.store_row(t, 0, X.cols(), token.data());
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Replaces activations by what an engine computes with that rounds the inputs of a layer to integers:
///
///   x <- scale * round(x / scale),   scale = max |x| / L,   L = 2^(bits-1) - 1
///
/// with the maximum over the token or over the matrix. A token of zeros stays one. The largest activation stays as it is, so that to round
/// again changes nothing.
///
/// @par Shapes    X: tokens x inputs, any storage and layout; in and out
/// @par Errors    option_error; shape_error if X is empty; value_error if an entry is NaN or infinite. All before any write
/// @par Cost      O(tokens * inputs); allocates one token
/// @par Numerics  in double, rounded to the storage type at the end; half-way cases go to the even level
template <class Activations>
void round_activations(Activations&& X, const activation_options& options = {}) {
    detail::run_round_activations(as_mutable_view(std::forward<Activations>(X)), options);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr
