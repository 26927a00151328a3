// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_layer.hpp>
#include <optional>
#include <string>
#include <vector>

#include "quantize_llama/model.hpp"

namespace examples {

enum class method {
    rtn,
    optq,
    optq_refine,
    magr_rtn,
    magr_optq,
    magr_optq_refine,
    paper,     ///< the recipe of MagR's authors, to the letter: their iteration, penalty, grid, OPTQ, and coordinate descent
    automatic  ///< everything chosen on held-out calibration texts, and the error of earlier layers compensated
};
inline constexpr std::array all_methods{method::rtn,      method::optq,      method::optq_refine,
                                        method::magr_rtn, method::magr_optq, method::magr_optq_refine,
                                        method::paper,    method::automatic};

/// "rtn", "optq", "optq+refine", "magr+rtn", "magr+optq", "magr+optq+refine", "paper", "auto"
[[nodiscard]] const char* name_of(method m);

/// Whether the method is another one with MagR in front; what that does to the magnitudes is recorded.
[[nodiscard]] constexpr bool uses_magr(method m) {
    return m == method::magr_rtn || m == method::magr_optq || m == method::magr_optq_refine;
}
[[nodiscard]] constexpr bool uses_optq(method m) { return m != method::rtn && m != method::magr_rtn; }
[[nodiscard]] constexpr bool refines(method m) { return m == method::optq_refine || m == method::magr_optq_refine; }

/// Whether the method chooses on calibration texts that it does not fit to, and quantizes the layers of a block one after the other: then
/// `layer_calibration` has a validation part and the drift.
[[nodiscard]] constexpr bool validates(method m) { return m == method::automatic; }

/// How one model is quantized. All methods use the same kind of grid, so that they can be compared; `paper` and `automatic` choose its
/// range and everything about MagR themselves.
struct quantization {
    examples::method method = method::magr_optq;
    int bits = 4;
    std::optional<magr::index_t> group_size = {};  ///< inputs that share a scale; default: all of a row
    std::optional<double> alpha = {};              ///< MagR's penalty; default: the best of default_alphas for each layer
    double beta = 1;                               ///< factor of the grid's range
    std::optional<double> damping = {};            ///< of MagR, OPTQ and refinement; default: the library's
    magr::preprocess_solver solver = magr::preprocess_solver::admm;
    magr::column_order order = magr::column_order::natural;
    magr::zero_point zero_point = magr::zero_point::integer;
    magr::storage_type storage = magr::storage_type::f32;
    std::optional<magr::range_search> range = {};  ///< default: min_max, the paper's; of `automatic` output_error
    magr::rounding_target target = magr::rounding_target::preprocessed;
    magr::index_t refinement_rounds = 3;  ///< of the methods that refine
    double drift = 0.5;                   ///< part of the drift of a layer's inputs that `automatic` makes up for
};

/// The penalties of which each layer takes the one with the smallest output error; 0 is MagR left out.
[[nodiscard]] std::vector<double> default_alphas(bool grouped);

/// One linear layer after quantization.
struct layer_record {
    std::string name;
    double output_error = 0;                 ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), W the original weights
    double alpha = 0;                        ///< MagR's penalty that was taken; 0 without MagR
    std::string remark = {};                 ///< what was not as usual: inputs that are always zero, or a step not done as asked
    std::vector<float> largest_before = {};  ///< max |w| of each output channel; only if MagR was used
    std::vector<float> largest_after = {};   ///< the same after MagR, before quantization
};

/// Gram matrices of a layer's inputs, in x in.
struct layer_calibration {
    magr::matrix<double> fitting;     ///< from all sequences, or from those that are not held out
    magr::matrix<double> validation;  ///< from the others; empty unless the method `validates`
    magr::matrix<double> drift;       ///< `magr::drift_accumulator` of all sequences; empty unless the method `validates`
};

/// What one layer became.
struct quantized_layer {
    magr::quantized_matrix<float> quantized;
    layer_record record;
};

/// Quantizes the weights of one layer: the whole use of the library is here.
/// @param pool  used if the method `validates`, as its layers come one after the other
/// @throws std::runtime_error  naming the layer, if it cannot be quantized
[[nodiscard]] quantized_layer quantize_layer(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                             const quantization& how, magr::thread_pool& pool);

}  // namespace examples
