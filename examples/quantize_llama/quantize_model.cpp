// SPDX-License-Identifier: MIT
#include "quantize_llama/quantize_model.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <magr/calibration/gram.hpp>
#include <magr/preprocess.hpp>
#include <stdexcept>

#include "common/parallel_for.hpp"
#include "quantize_llama/forward.hpp"

namespace examples {
namespace {

using gram = magr::gram_accumulator<double>;

/// The calibration text on its way through the model.
struct calibration_state {
    std::span<const sequence> text;
    std::vector<chunk> chunks;
    std::vector<matrix_f> hidden;  ///< input of the current block, per chunk

    [[nodiscard]] std::span<const sequence> sequences(std::size_t c) const { return text.subspan(chunks[c].first, chunks[c].count); }
};

std::array<gram, site_count> empty_grams(const llama_config& config) {
    const auto inputs = [&](linear kind) { return gram(shape_of(config, kind).cols); };
    return {inputs(linear::q_proj), inputs(linear::o_proj), inputs(linear::gate_proj), inputs(linear::down_proj)};
}

/// Gram matrices of the inputs at the four sites of a block.
std::array<gram, site_count> collect_grams(const llama_config& config, const llama_block& block, const rope_table& rope,
                                           const calibration_state& state, int threads,
                                           const std::function<void(std::size_t)>& chunk_done) {
    // Each part sums every eighth chunk; more threads than that find nothing to do, but the sum is the same for any number of threads.
    constexpr std::size_t most_parts = 8;
    std::vector<std::array<gram, site_count>> parts(std::min(most_parts, state.chunks.size()), empty_grams(config));
    parallel_for(parts.size(), threads, [&](std::size_t p) {
        for (std::size_t c = p; c < state.chunks.size(); c += parts.size()) {
            matrix_f hidden = state.hidden[c];
            forward_block(config, block, rope, state.sequences(c), hidden,
                          [&](site where, const matrix_f& inputs) { parts[p][static_cast<std::size_t>(where)].add(inputs); });
            chunk_done(c);
        }
    });
    for (std::size_t p = 1; p < parts.size(); ++p)
        for (std::size_t s = 0; s < site_count; ++s) parts[0][s].merge(parts[p][s]);
    return std::move(parts[0]);
}

std::vector<float> largest_per_row(const matrix_f& W) {
    std::vector<float> largest(static_cast<std::size_t>(W.rows()));
    Eigen::Map<Eigen::VectorXf>(largest.data(), W.rows()) = W.cwiseAbs().rowwise().maxCoeff();
    return largest;
}

/// The weights on the grid that RTN or OPTQ gives them.
magr::matrix<float> round_to_grid(const std::string& name, const matrix_f& W, const magr::matrix<double>& H, const quantization& how) {
    const magr::grid_options grid{.bits = how.bits, .group_size = how.group_size, .beta = how.beta};
    if (!uses_optq(how.method)) return magr::quantize_rtn(W, grid).dequantize();
    magr::optq_options feedback{.order = how.order};
    feedback.damping = how.damping.value_or(feedback.damping);
    const auto result = magr::quantize_optq(W, H, grid, feedback);
    if (result.status == magr::optq_status::failed)
        throw std::runtime_error("the Gram matrix of " + name + " cannot be factored, even with damping " + std::to_string(result.damping));
    return result.quantized.dequantize();
}

/// Replaces the weights of one layer by their quantized values: the whole use of the library is here.
///
/// Which penalty is best differs from layer to layer; unless one is given, the layer is quantized with each and the smallest output
/// error decides. One of them is 0, so MagR is left out where it does not help.
layer_record quantize_layer(const std::string& name, matrix_f& W, const magr::matrix<double>& H, const quantization& how) {
    layer_record record{.name = name, .output_error = std::numeric_limits<double>::infinity()};
    const matrix_f W0 = W;
    std::vector<double> penalties = {0};
    if (uses_magr(how.method)) penalties = how.alpha ? std::vector<double>{*how.alpha} : default_alphas(how.group_size.has_value());
    for (const double alpha : penalties) {
        matrix_f M = W0;
        if (alpha > 0)
            static_cast<void>(
                magr::preprocess(M, H, {.alpha = alpha, .group_size = how.group_size, .solver = how.solver, .damping = how.damping}));
        const magr::matrix<float> Q = round_to_grid(name, M, H, how);
        const double error = magr::output_error(W0, Q, H);
        if (error > record.output_error) continue;
        record.output_error = error;
        record.alpha = alpha;
        if (uses_magr(how.method)) record.largest_after = largest_per_row(M);
        W = Eigen::Map<const matrix_f>(Q.data(), Q.rows(), Q.cols());
    }
    if (uses_magr(how.method)) record.largest_before = largest_per_row(W0);
    return record;
}

}  // namespace

const char* name_of(method m) {
    constexpr std::array names{"rtn", "optq", "magr+rtn", "magr+optq"};
    return names[static_cast<std::size_t>(m)];
}

std::vector<double> default_alphas(bool grouped) {
    if (grouped) return {0, 1e-5, 1e-4, 1e-3};
    return {0, 1e-4, 1e-3, 1e-2, 1e-1};
}

double quantized_llama::mean_output_error() const {
    double sum = 0;
    for (const layer_record& layer : layers) sum += layer.output_error;
    return sum / static_cast<double>(layers.size());
}

quantized_llama quantize_model(const llama_model& model, std::span<const sequence> calibration, const quantization& how, int threads,
                               progress& progress) {
    const auto begin = std::chrono::steady_clock::now();
    quantized_llama result{model, {}, 0};
    const llama_config& config = model.config;
    const rope_table rope = make_rope_table(config, calibration);
    calibration_state state{calibration, split_into_chunks(calibration), {}};
    for (std::size_t c = 0; c < state.chunks.size(); ++c) state.hidden.push_back(embed(model, state.sequences(c)));
    const auto chunk_done = [&](std::size_t c) {
        progress.advance(static_cast<double>(count_tokens(state.sequences(c))) / static_cast<double>(config.num_hidden_layers));
    };

    for (std::size_t layer = 0; layer < result.model.blocks.size(); ++layer) {
        progress.stage(std::string(name_of(how.method)) + " " + std::to_string(how.bits) + " bits, layer " + std::to_string(layer + 1) +
                       "/" + std::to_string(result.model.blocks.size()));
        llama_block& block = result.model.blocks[layer];
        std::array<gram, site_count> grams = collect_grams(config, block, rope, state, threads, chunk_done);
        std::array<const magr::matrix<double>*, site_count> H;
        for (std::size_t s = 0; s < site_count; ++s) H[s] = &grams[s].gram();

        std::array<layer_record, all_linears.size()> records;
        parallel_for(all_linears.size(), threads, [&](std::size_t i) {
            const linear kind = all_linears[all_linears.size() - 1 - i];  // down_proj, the longest, must not be the last to start
            const std::string name = "layers." + std::to_string(layer) + "." + name_of(kind);
            records[static_cast<std::size_t>(kind)] = quantize_layer(name, block[kind], *H[static_cast<std::size_t>(input_of(kind))], how);
        });
        std::move(records.begin(), records.end(), std::back_inserter(result.layers));

        parallel_for(state.chunks.size(), threads, [&](std::size_t c) {
            forward_block(config, block, rope, state.sequences(c), state.hidden[c]);
            chunk_done(c);
        });
    }
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
}

}  // namespace examples
