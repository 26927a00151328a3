// Uses every part of the library; compiled several times into one program, under the name MAGR_UNIT.
#include <Eigen/Core>
#include <span>
#include <vector>

#include <magr/magr.hpp>

double MAGR_UNIT() {
    constexpr int outputs = 3;
    constexpr int inputs = 8;
    Eigen::MatrixXf W(outputs, inputs);
    Eigen::MatrixXf X(2 * inputs, inputs);
    for (int i = 0; i < W.size(); ++i) W.data()[i] = static_cast<float>((7 * i) % 11 - 5);
    for (int i = 0; i < X.size(); ++i) X.data()[i] = static_cast<float>((5 * i) % 13 - 6);

    magr::gram_accumulator<double> calibration(inputs);
    calibration.add(X);
    calibration.merge(calibration);
    const auto& H = calibration.gram();

    std::vector<float> v = {3, -1, 2};
    const float tau = magr::project_l1_ball(std::span(v), 1.0);
    magr::prox_linf(std::span(v), 0.1);
    magr::prox_linf(W, 0.01, {.group_size = 3});

    const auto by_admm = magr::preprocess(W, H);
    const auto by_gradient = magr::preprocess(W, H, {.solver = magr::solver::proximal_gradient});
    const auto rtn = magr::quantize_rtn(W, {.bits = 3});
    const auto optq = magr::quantize_optq(W, H, {.bits = 3, .group_size = 4, .range = magr::range_search::mse},
                                          {.order = magr::column_order::act_order, .groups = magr::group_update::live});
    return static_cast<double>(tau) + by_admm.objective + by_gradient.objective + magr::output_error(W, rtn.dequantize(), H) +
           optq.output_error;
}
