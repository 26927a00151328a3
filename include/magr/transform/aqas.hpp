// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/calibration/activation_quantizer.hpp>
#include <magr/detail/contract.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/grid/grid.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>
#include <magr/transform/column_scaling.hpp>

namespace magr {

/// Where the scales of a search come from. Maxima and means are those of |X| and |W| in an input, or over tied inputs.
enum class aqas_form {
    identity,  ///< 1
    maxima,    ///< max|X_j|^a / max|W_:j|^(1-a), as SmoothQuant; b = 1 - a
    means      ///< mean|X_j|^a / max|W_:j|^b, as AWQ
};

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(aqas_form form) noexcept {
    switch (form) {
        case aqas_form::identity: return "identity";
        case aqas_form::maxima: return "maxima";
        case aqas_form::means: return "means";
    }
    return "unknown";
}

/// Options of `aqas_search`.
struct aqas_options {
    std::optional<activation_options> activations = activation_options{};  ///< how inputs are rounded; no value: not at all
    int steps = 20;                                                        ///< a and b are 0, 1/steps, .. 1; 1..1000
    std::vector<index_t> tie = {};  ///< inputs with the same number, in 0..inputs-1, share a scale; empty: each has its own
    int refine_passes = 0;          ///< passes over single scales after the search, at least 0; one ends them if it changes nothing
    double refine_ratio = 1.25;     ///< by which a pass tries to raise and to lower each scale, in (1, 16]
};

inline namespace MAGR_ISA_NAMESPACE {

/// Every problem of these options, with option, expected and actual; empty if there is none.
[[nodiscard]] MAGR_CORE std::vector<std::string> problems(const aqas_options& options);

/// What a search found.
struct aqas_result {
    column_scaling scaling;
    aqas_form form = aqas_form::identity;  ///< the form that won
    double a = 0, b = 0;                   ///< its exponents
    index_t refined = 0;                   ///< how often the refinement changed a scale afterwards
    double loss_identity = 0;              ///< without scaling. Like `loss`, infinite if the square of the outputs is beyond double
    double loss = 0;                       ///< with the scales found, at most `loss_identity`
};

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A container of weight matrices.
template <class Weights>
concept layer_list = requires { typename Weights::value_type; } && dense_matrix<const typename Weights::value_type>;

/// Replaces scaled weights by what their codes represent; does not own what it calls.
template <compute_scalar Scalar>
struct weight_rounding {
    const void* quantizer;
    void (*round)(const void* quantizer, matrix_view<Scalar> w, executor_ref exec);
};

template <compute_scalar Scalar>
void round_to_fitted_grids(matrix_view<Scalar> w, const grid_options& options, executor_ref exec);

/// w <- what the caller's function makes of it
template <compute_scalar Scalar, class Quantizer>
void round_by_caller(matrix_view<Scalar> w, const Quantizer& quantizer) {
    const auto rounded = quantizer(matrix_view<const Scalar>(w));
    const matrix_ref q = as_const_view(rounded);
    require_shape("aqas_search", "the result of the quantizer", q, w.rows(), w.cols());
    require_finite("aqas_search", "the result of the quantizer", q);
    for (index_t i = 0; i < w.rows(); ++i) q.load_row(i, 0, w.cols(), &w(i, 0));
}

template <compute_scalar Scalar, class Quantizer>
[[nodiscard]] weight_rounding<Scalar> rounding_by(const Quantizer& quantizer) {
    static_assert(std::is_same_v<Quantizer, grid_options> || std::is_invocable_v<const Quantizer&, matrix_view<const Scalar>>,
                  "magr: the quantizer must be grid_options or a function of a matrix_view<const Scalar>, where Scalar is double for "
                  "double weights and float for others");
    return {&quantizer, [](const void* object, matrix_view<Scalar> w, executor_ref exec) {
                if constexpr (std::is_same_v<Quantizer, grid_options>)
                    round_to_fitted_grids(w, *static_cast<const grid_options*>(object), exec);
                else
                    round_by_caller(w, *static_cast<const Quantizer*>(object));
            }};
}

template <compute_scalar Scalar>
[[nodiscard]] aqas_result run_aqas(std::span<const matrix_ref> W, const matrix_ref& X, const weight_rounding<Scalar>& rounding,
                                   const aqas_options& options, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail

inline namespace MAGR_ISA_NAMESPACE {

/// Finds scales of a layer's inputs such that weights and inputs can both be rounded:
///
///   S = argmin || X W^T - Qa(X inv(S)) Qw(W S)^T ||_F^2
///
/// over diagonal S of the forms of `aqas_form`. To divide inputs by s evens out their channels, which helps rounding them, and makes
/// columns of W uneven; the loss weighs the two against each other, for the very quantizers that are used. Candidates are tried in the
/// order of `aqas_form`, then of a, then of b, and only a smaller loss replaces an earlier candidate. So the loss is never above that of no
/// scaling, for these tokens and this rounding of the weights.
///
/// Candidates are divided by sqrt(max s * min s): a common factor changes no loss, rounding aside. An input whose activations or weights
/// are all zero keeps the scale 1. A candidate with which numbers overflow is passed over.
///
/// Apply the result to W and H before anything else, `scaling.weights(W)` and `scaling.gram(H)`: H is damped after it was scaled, because
/// the two do not commute. `fuse_scaling.hpp` moves the division of inputs into the layer before. For Gram matrices that include the error
/// of the inputs, sum them over the tokens of `round_activations(X inv(S))`.
///
/// @par Shapes    W: rows x inputs, or a vector of such matrices (or views) that read the same input: their losses are added, and they
///                share S; X: tokens x inputs. Any storage and layout; not written
/// @param Qw      how weights are rounded: `grid_options` whose range needs no H, to the nearest code of fitted grids. Or a function object
///                that gets a `matrix_view<const Scalar>` of scaled weights, for each layer and candidate in turn, and returns a dense
///                matrix of what they become: `[](auto w) { return magr::quantize_rtn(w).dequantize(); }`. `[](auto w) { return w; }`
///                rounds nothing
/// @par Units     losses: those of (X W^T)^2
/// @par Errors    option_error; shape_error if W or X is empty, or they have different numbers of inputs; value_error if an entry is NaN or
///                infinite, also one of the function's result. Exceptions of the function pass through
/// @par Cost      463 candidates with 20 steps: each tokens * rows * inputs multiply-adds, and a quantization of W, which costs more than
///                that if it searches ranges. A refinement pass has up to 2 * inputs candidates. Allocates rows x inputs, tokens x rows,
///                and for each worker 192 tokens and their outputs
/// @par Numerics  products in Scalar, float unless the weights are double, which powers of two keep in range; scales and sums of losses in
///                double. Tasks are 192 tokens: the same bits for every executor
/// @par Source    AQAS (arXiv 2311.05161) for the objective. Its candidates were not at hand: these are those of SmoothQuant (arXiv
///                2211.10438) and AWQ (arXiv 2306.00978), and the refinement is this library's
template <class Weights, class Activations, class Quantizer = grid_options>
[[nodiscard]] aqas_result aqas_search(const Weights& W, const Activations& X, const Quantizer& Qw = {}, const aqas_options& options = {},
                                      executor_ref exec = {}) {
    const auto x = as_const_view(X);
    if constexpr (detail::layer_list<Weights>) {
        using scalar = compute_t<typename detail::view_of_t<const typename Weights::value_type>::value_type>;
        std::vector<detail::matrix_ref> layers;
        for (const auto& layer : W) layers.push_back(as_const_view(layer));
        return detail::run_aqas<scalar>(layers, x, detail::rounding_by<scalar>(Qw), options, exec);
    } else {
        const auto w = as_const_view(W);
        using scalar = compute_t<typename decltype(w)::value_type>;
        const detail::matrix_ref layer = w;
        return detail::run_aqas<scalar>({&layer, 1}, x, detail::rounding_by<scalar>(Qw), options, exec);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/transform/aqas_impl.hpp>
#endif
