// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <magr/preprocess/options.hpp>
#include <magr/quantize.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/progress.hpp"
#include "quantize_llama/model.hpp"
#include "quantize_llama/tokens.hpp"

namespace examples {

enum class method { rtn, optq, magr_rtn, magr_optq };
inline constexpr std::array all_methods{method::rtn, method::optq, method::magr_rtn, method::magr_optq};

/// "rtn", "optq", "magr+rtn", "magr+optq"
[[nodiscard]] const char* name_of(method m);

[[nodiscard]] constexpr bool uses_magr(method m) { return m == method::magr_rtn || m == method::magr_optq; }
[[nodiscard]] constexpr bool uses_optq(method m) { return m == method::optq || m == method::magr_optq; }

/// How one model is quantized. All methods use the same grid, so that they can be compared.
struct quantization {
    examples::method method = method::magr_optq;
    int bits = 4;
    std::optional<magr::index_t> group_size = {};  ///< inputs that share a scale; default: all of a row
    std::optional<double> alpha = {};              ///< MagR's penalty; default: the best of default_alphas for each layer
    double beta = 1;                               ///< factor of the grid's range
    std::optional<double> damping = {};            ///< of MagR and OPTQ; default: the library's
    magr::solver solver = magr::solver::admm;
    magr::column_order order = magr::column_order::natural;
};

/// The penalties of which each layer takes the one with the smallest output error; 0 is MagR left out.
[[nodiscard]] std::vector<double> default_alphas(bool grouped);

/// One linear layer after quantization.
struct layer_record {
    std::string name;
    double output_error = 0;                 ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), W the original weights
    double alpha = 0;                        ///< MagR's penalty that was taken
    std::vector<float> largest_before = {};  ///< max |w| of each output channel; only if MagR was used
    std::vector<float> largest_after = {};   ///< the same after MagR, before quantization
};

/// A quantized model, with its weights as float32 values of the grid.
struct quantized_llama {
    llama_model model;
    std::vector<layer_record> layers;
    double seconds = 0;

    [[nodiscard]] double mean_output_error() const;
};

/// Quantizes the linear layers of a model block by block.
///
/// Each block sees what the already quantized blocks before it put out for the calibration text: its own weights are first left as they
/// are to collect the Gram matrices of its linear layers' inputs, then quantized, and then the block is computed again for the next one.
/// Embedding, norms and head keep full precision.
///
/// @param threads  does not influence the result: the Gram matrices are summed in a fixed number of parts
[[nodiscard]] quantized_llama quantize_model(const llama_model& model, std::span<const sequence> calibration, const quantization& how,
                                             int threads, progress& progress);

}  // namespace examples
