// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <magr/gguf/gguf_block.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/quantize_layer.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quantize_llama/gguf_mix.hpp"
#include "quantize_llama/model.hpp"

namespace examples {

enum class method {
    rtn,
    optq,
    optq_refine,
    magr_rtn,
    magr_optq,
    magr_optq_refine,
    paper,      ///< the recipe of MagR's authors, to the letter: their iteration, penalty, grid, OPTQ, and coordinate descent
    automatic,  ///< weights make up for what earlier layers lost, rows for each other, in a metric of the outputs
    optq_stochastic,
    quip,
    magr_quip,
    gpfq,
    gptaq,
    qronos,
    magr_qronos,
    boa,
    owq,
    dint,
    aqas
};

/// What the program has to know about a method.
struct method_traits {
    method value;
    const char* name;
    bool is_default = false;      ///< whether it runs unless told otherwise
    bool magr = false;            ///< another method with MagR in front; what that does to the magnitudes is recorded
    bool optq = false;            ///< rounds column by column, each making up for the errors of those before it
    bool refines = false;         ///< refines scales and codes
    bool in_order = false;        ///< quantizes the layers of a block one after the other, and knows the drift of their inputs
    bool weighs_outputs = false;  ///< takes the model's gradients to say what errors at the outputs of a layer cost
    bool rotates = false;         ///< changes the basis of inputs and outputs
    bool published = false;       ///< a method of another paper, followed by `follow_published`
    bool has_codes = true;        ///< codes and grids are all that it stores of a layer, so that --out can write them
};
inline constexpr std::array method_table{
    method_traits{.value = method::rtn, .name = "rtn", .is_default = true},
    method_traits{.value = method::optq, .name = "optq", .is_default = true, .optq = true},
    method_traits{.value = method::optq_refine, .name = "optq+refine", .is_default = true, .optq = true, .refines = true},
    method_traits{.value = method::magr_rtn, .name = "magr+rtn", .is_default = true, .magr = true},
    method_traits{.value = method::magr_optq, .name = "magr+optq", .is_default = true, .magr = true, .optq = true},
    method_traits{
        .value = method::magr_optq_refine, .name = "magr+optq+refine", .is_default = true, .magr = true, .optq = true, .refines = true},
    method_traits{.value = method::paper, .name = "paper", .is_default = true, .optq = true},
    method_traits{.value = method::automatic, .name = "auto", .is_default = true, .optq = true, .in_order = true, .weighs_outputs = true},
    method_traits{.value = method::optq_stochastic, .name = "optq-stochastic", .optq = true, .published = true},
    method_traits{.value = method::quip, .name = "quip", .optq = true, .rotates = true, .published = true, .has_codes = false},
    method_traits{.value = method::magr_quip,
                  .name = "magr+quip",
                  .magr = true,
                  .optq = true,
                  .rotates = true,
                  .published = true,
                  .has_codes = false},
    method_traits{.value = method::gpfq, .name = "gpfq", .optq = true, .in_order = true, .published = true},
    method_traits{.value = method::gptaq, .name = "gptaq", .optq = true, .in_order = true, .published = true},
    method_traits{.value = method::qronos, .name = "qronos", .optq = true, .in_order = true, .published = true},
    method_traits{.value = method::magr_qronos, .name = "magr+qronos", .magr = true, .optq = true, .in_order = true, .published = true},
    method_traits{.value = method::boa, .name = "boa", .optq = true, .published = true},
    method_traits{.value = method::owq, .name = "owq", .optq = true, .published = true, .has_codes = false},
    method_traits{.value = method::dint, .name = "dint", .optq = true, .published = true, .has_codes = false},
    method_traits{.value = method::aqas, .name = "aqas", .optq = true, .published = true, .has_codes = false}};

inline constexpr auto all_methods = [] {
    std::array<method, method_table.size()> methods{};
    for (std::size_t i = 0; i < methods.size(); ++i) methods[i] = method_table[i].value;
    return methods;
}();

[[nodiscard]] constexpr const method_traits& traits_of(method m) { return method_table[static_cast<std::size_t>(m)]; }
[[nodiscard]] constexpr const char* name_of(method m) { return traits_of(m).name; }
[[nodiscard]] constexpr bool uses_magr(method m) { return traits_of(m).magr; }
[[nodiscard]] constexpr bool uses_optq(method m) { return traits_of(m).optq; }
/// The methods that run unless told otherwise.
[[nodiscard]] std::vector<method> default_methods();

/// Options of the command line that mean nothing to some methods.
inline constexpr std::array partial_options{
    "--group-size", "--zero-point", "--storage",           "--range", "--beta",  "--alpha", "--solver", "--target",
    "--damping",    "--order",      "--refinement-rounds", "--drift", "--effort"};
/// Whether a method does what one of these options says.
[[nodiscard]] bool takes(method m, std::string_view option);

/// How one model is quantized. All methods use the same kind of grid, so that they can be compared, except those that bring their own;
/// `takes` says what a method leaves out.
struct quantization {
    examples::method method = method::magr_optq;
    int bits = 4;
    std::optional<magr::index_t> group_size = {};  ///< inputs that share a scale; default: all of a row
    std::optional<double> alpha = {};              ///< MagR's penalty; default: the best of default_alphas for each layer
    double beta = 1;                               ///< factor of the grid's range
    std::optional<double> damping = {};            ///< of MagR, OPTQ and refinement; default: the library's, on k-quants chosen
    magr::preprocess_solver solver = magr::preprocess_solver::admm;
    magr::column_order order = magr::column_order::natural;
    magr::zero_point zero_point = magr::zero_point::integer;
    magr::storage_type storage = magr::storage_type::f32;
    std::optional<magr::range_search> range = {};  ///< default: min_max, the paper's; of `automatic` output_error
    magr::rounding_target target = magr::rounding_target::preprocessed;
    magr::index_t refinement_rounds = 3;  ///< of the methods that refine
    double drift = 1;                     ///< part of the drift of a layer's inputs that `automatic` makes up for
    int effort = 1;  ///< of `automatic`: with 2, scales and norms are tuned together in the end, which takes several times as long
    /// Bits to which a program rounds the inputs of linear layers, token by token; default: none. Calibration sees them rounded as well.
    std::optional<int> activation_bits = {};
    std::optional<gguf_mix> gguf = {};         ///< layers get the types of a GGUF file, and their grids; default: all the grid above
    std::optional<magr::ggml_type> ggml = {};  ///< of one layer: its type there, whose grids it gets
};

/// The same for one layer, on the grids of the type that a GGUF file gives it, if that is what the run is for.
[[nodiscard]] quantization for_layer(const quantization& how, const llama_config& config, std::int64_t layer, linear kind);

/// The penalties of which each layer takes the one with the smallest output error; 0 is MagR left out.
[[nodiscard]] std::vector<double> default_alphas(bool grouped);

/// One linear layer after quantization.
struct layer_record {
    std::string name;
    double output_error = 0;                 ///< tr((Q - W) H (Q - W)^T) / tr(W H W^T), W the original weights
    double alpha = 0;                        ///< MagR's penalty that was taken; 0 without MagR
    double stored_bits = 0;                  ///< all that has to be stored of the layer's weights
    std::int64_t weights = 0;                ///< their number
    std::string remark = {};                 ///< what was not as usual: inputs that are always zero, or a step not done as asked
    std::vector<float> largest_before = {};  ///< max |w| of each output channel; only if MagR was used
    std::vector<float> largest_after = {};   ///< the same after MagR, before quantization
};

/// The change of basis that QuIP gives the inputs at a site. It is the same for all layers there, so that an engine applies it once.
struct input_basis {
    std::uint64_t seed = 0;      ///< of the rotation
    std::vector<double> scales;  ///< by which inputs are divided before
    int layers = 1;              ///< that read these inputs
};

/// What is known of a layer's inputs.
struct layer_calibration {
    magr::matrix<double> gram = {};   ///< of the inputs
    magr::index_t tokens = 0;         ///< over which all of this is summed, and the metric of the outputs as well
    magr::matrix<double> drift = {};  ///< `magr::drift_accumulator` of all sequences; empty unless the method quantizes in order
    /// out x in, the sum over tokens of (r - s) y^T: the drift of the residual stream beside which the layer's output is added, and the
    /// layer's input; empty where there is none, or unless the method quantizes in order
    magr::matrix<double> residual_drift = {};
    std::optional<input_basis> basis = {};  ///< only for methods that rotate
    std::optional<double> damping = {};     ///< chosen on held-out text, see `chooses_damping`
};

/// What errors at the outputs of a layer cost; empty where a method does not ask.
struct output_metric {
    magr::matrix<float> all;                  ///< out x out; one draw of labels a token has more noise than float
    std::vector<magr::matrix<double>> heads;  ///< for consecutive heads of attention's queries or keys
};

/// A layer after quantization.
struct quantized_layer {
    matrix_f values;                                         ///< the weights that a program computes with
    std::optional<magr::quantized_matrix<float>> quantized;  ///< their codes and grids, unless the method stores more than these
    layer_record record;
};

/// Quantizes the weights of one layer: the whole use of the library is here.
/// @param pool  used if the method quantizes in order
/// @throws std::runtime_error  naming the layer, if it cannot be quantized
[[nodiscard]] quantized_layer quantize_layer(const std::string& name, const matrix_f& W, const layer_calibration& calibration,
                                             const output_metric& metric, const quantization& how, magr::thread_pool& pool);

/// max |w| of each output channel
[[nodiscard]] std::vector<float> largest_per_row(const matrix_f& W);

/// What a report says about a layer whose inputs are zero in part, which decide nothing; empty if there are none.
/// @param treatment  of their weights
[[nodiscard]] std::string remark_on_inputs(magr::index_t dead, magr::index_t inputs, const char* treatment);

}  // namespace examples
