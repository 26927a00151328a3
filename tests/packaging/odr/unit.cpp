// SPDX-License-Identifier: MIT
// Uses every part of the library. It is compiled several times into one program, under the name MAGR_UNIT.
#include <Eigen/Core>
#include <cstddef>
#include <span>
#include <vector>

#include <magr/drift/gpfq_drift.hpp>
#include <magr/drift/gptaq.hpp>
#include <magr/drift/qronos.hpp>
#include <magr/drift/round_onto_drift.hpp>
#include <magr/feedback/gpfq.hpp>
#include <magr/magr.hpp>
#include <magr/parallel/callback.hpp>
#include <magr/parallel/thread_pool.hpp>
#include <magr/parallel/watched.hpp>
#include <magr/quantize/round_onto.hpp>
#include <magr/sequential/sequential.hpp>

namespace {

void run_on_pool(void* pool, std::size_t count, magr::callback_executor::task_function task, void* task_data) {
    static_cast<magr::thread_pool*>(pool)->parallel_for(static_cast<magr::index_t>(count), [=](magr::index_t i, magr::index_t worker) {
        task(task_data, static_cast<std::size_t>(i), static_cast<std::size_t>(worker));
    });
}

}  // namespace

double MAGR_UNIT() {
    constexpr int outputs = 4;
    constexpr int inputs = 8;
    Eigen::MatrixXf W(outputs, inputs);
    Eigen::MatrixXf X(2 * inputs, inputs);
    for (int i = 0; i < W.size(); ++i) W.data()[i] = static_cast<float>((7 * i) % 11 - 5);
    for (int i = 0; i < X.size(); ++i) X.data()[i] = static_cast<float>((5 * i) % 13 - 6);

    magr::gram_accumulator<double> calibration(inputs);
    calibration.add(X);
    calibration.merge(calibration);
    const auto& H = calibration.gram();
    magr::gram_accumulator<float> in_float(inputs);
    in_float.add(X);

    std::vector<float> v = {3, -1, 2};
    const float tau = magr::project_l1_ball(std::span(v), 1.0);
    magr::prox_linf(std::span(v), 0.1);
    magr::prox_linf(W, 0.01, {.group_size = 3});

    Eigen::MatrixXf M = W;
    magr::preprocess(M, H);  // the result may be ignored
    const auto by_admm = magr::preprocess(W, H);
    const auto by_gradient = magr::preprocess(W, H, {.solver = magr::preprocess_solver::proximal_gradient});
    const auto rtn = magr::quantize_rtn(W, {.bits = 3});
    const auto optq = magr::quantize_optq(W, H, {.bits = 3, .group_size = 4, .range = magr::range_search::mse},
                                          {.order = magr::column_order::act_order, .groups = magr::group_update::live});
    const auto rotated = magr::quantize_quip(W, H, {.bits = 4, .greedy_passes = 1});
    const auto hadamard = magr::quantize_quip(M, H, {.incoherence = {.kind = magr::rotation_kind::hadamard}, .optq = {.damping = 0.1}});
    auto layer =
        magr::quantize_layer(W, calibration,
                             {.grid = {.bits = 2, .zero_point = magr::zero_point::real, .storage = magr::storage_type::f16},
                              .preprocess = magr::preprocess_options{},
                              .optq = {.rounding = magr::rounding_mode::stochastic, .precision = magr::factor_precision::float32}});
    const auto levels = magr::quantize_rtn(
        W, H, {.bits = 2, .zero_point = magr::zero_point::none, .range = magr::range_search::row_output_error, .levels = {-1, 0, 1}});

    const auto H_row = magr::row_hessian_from_keys(magr::as_const_view(X).block(0, 0, X.rows(), outputs));
    const Eigen::MatrixXf A = Eigen::MatrixXf::Constant(outputs, X.rows(), 1.0F / static_cast<float>(X.rows()));
    const auto boa = magr::quantize_boa(W, magr::value_hessian(X, A), H_row, {.bits = 3});
    const auto owq = magr::quantize_owq(W, H, {.weak_columns = 2, .clips = 3});
    const auto dint = magr::round_onto(magr::fit_dint_grids(W), W, H, magr::ldl_feedback{});
    const auto grids = magr::fit_grids(W, {.bits = 4});
    const Eigen::MatrixXf drift = Eigen::MatrixXf::Constant(inputs, inputs, 0.01F);
    const bool drifted =
        magr::round_onto_drift(grids, W, H, drift, magr::qronos{}) && magr::round_onto_drift(grids, W, H, drift, magr::gptaq{}) &&
        magr::round_onto_drift(grids, W, H, drift, magr::gpfq_drift{}) && magr::round_onto(grids, W, H, magr::gpfq_feedback{});
    magr::matrix<double> weaker = H;
    magr::weaken_correlations(weaker, 0.1);
    const double underflow = magr::measure_underflow(W, magr::unpack_dint(magr::pack_dint(*dint)).dequantize(), H).cross;

    constexpr int rows = 32;
    constexpr int cols = 256;
    Eigen::MatrixXf V(rows, cols);
    for (int i = 0; i < V.size(); ++i) V.data()[i] = static_cast<float>((7 * i) % 31 - 15);
    const auto quantized = [&](magr::packed_format format) {
        magr::validate({rows, cols}, {.grid = magr::grid_options_for(format)}, format);
        return magr::quantize_rtn(V, magr::grid_options_for(format));
    };
    using format = magr::packed_format;
    const auto k_quant = magr::quantize_rtn(V, magr::fit_k_quant_grids(V, magr::ggml_type::q4_k));
    const magr::quantized_matrix<float> unpacked[] = {
        magr::unpack_gptq(magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2)),
        magr::unpack_awq(magr::pack_awq(quantized(format::awq))),
        magr::unpack_compressed_tensors(magr::pack_compressed_tensors(quantized(format::compressed_tensors))),
        magr::unpack_matmul_nbits(magr::pack_matmul_nbits(quantized(format::matmul_nbits))),
        magr::unpack_mlx(magr::pack_mlx(quantized(format::mlx))),
        magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q4_0), magr::ggml_type::q4_0)),
        magr::unpack_gguf(magr::pack_gguf(k_quant, magr::ggml_type::q4_k))};
    double packing = 0;
    const magr::gptq_tensors tensors = magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2);
    for (const auto& tensor : magr::named_tensors(tensors)) packing += static_cast<double>(tensor.bytes.size());
    for (const auto& q : unpacked) packing += static_cast<double>(q.dequantize()(1, 1));
    if (layer && layer.optq->bound_held().value_or(true)) packing += *layer.output_error;
    packing += boa.loss;

    magr::thread_pool pool(2);
    const magr::callback_executor exec(run_on_pool, &pool, pool.concurrency());
    magr::watched_executor watched(exec, [](const magr::loop_progress&) {});
    watched.parallel_for(1, [&](magr::index_t, magr::index_t) { packing += drifted ? 1 : 0; });
    magr::index_t tasks[2] = {};
    exec.parallel_for(10, [&](magr::index_t, magr::index_t worker) { ++tasks[worker]; });
    magr::serial_executor{}.parallel_for(2, [&](magr::index_t task, magr::index_t) { packing += static_cast<double>(tasks[task]); });

    return packing + magr::output_error(W, levels.dequantize(), H) + static_cast<double>(tau) + by_admm.objective + by_gradient.objective +
           magr::output_error(W, rtn.dequantize(), in_float.gram()) + optq.output_error.value() + underflow + weaker(0, 0) +
           owq.quantized.bits_per_weight() + static_cast<double>(owq.quantized.dequantize()(0, 0));
}
