// SPDX-License-Identifier: MIT
#include <magr/calibration/hessian.hpp>

#include <Eigen/Core>
#include <limits>
#include <utility>
#include <vector>

#include <magr/compensate_drift.hpp>
#include <magr/gguf/k_quants.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/preprocess.hpp>
#include <magr/quantize.hpp>
#include <magr/quantize_layer.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using magr::hessian;
using magr::index_t;
using tests::random_matrix;

namespace {

MatrixXf gram_of(index_t tokens, index_t inputs, unsigned seed) {
    const MatrixXd X = random_matrix(tokens, inputs, seed);
    return (X.transpose() * X).cast<float>();
}

magr::layer_options with_magr() {
    magr::layer_options options;
    options.grid = {.bits = 3, .group_size = 16};
    options.preprocess = magr::preprocess_options{.alpha = 1e-3, .group_size = 16};
    return options;
}

}  // namespace

TEST_CASE("hessian: every function gives the same bits as with the matrix", "[calibration][hessian]") {
    const MatrixXf H = gram_of(200, 256, 1), W = random_matrix(12, 256, 2).cast<float>(), D = random_matrix(256, 256, 3).cast<float>();
    const hessian shared(H);
    const magr::grid_options grid{.bits = 3, .group_size = 32, .range = magr::range_search::output_error};
    for (int time = 0; time < 2; ++time) {  // the second run uses the remembered results
        MatrixXf a = W, b = W;
        const auto of_matrix = magr::preprocess(a, H), of_hessian = magr::preprocess(b, shared);
        CHECK(a == b);
        CHECK(of_matrix.objective == of_hessian.objective);
        CHECK(of_matrix.gap == of_hessian.gap);
        CHECK(magr::fit_grids(W, H, grid).scales == magr::fit_grids(W, shared, grid).scales);
        CHECK(magr::quantize_rtn(W, H, grid).codes == magr::quantize_rtn(W, shared, grid).codes);
        auto p = magr::quantize_optq(W, H, grid), q = magr::quantize_optq(W, shared, grid);
        CHECK(p.quantized.codes == q.quantized.codes);
        CHECK(p.output_error == q.output_error);
        CHECK(magr::refine_scales(p.quantized, W, H).loss_after == magr::refine_scales(q.quantized, W, shared).loss_after);
        CHECK(p.quantized.scales == q.quantized.scales);
        CHECK(magr::refine_codes(p.quantized, W, H).loss_after == magr::refine_codes(q.quantized, W, shared).loss_after);
        CHECK(p.quantized.codes == q.quantized.codes);
        CHECK(magr::output_error(W, a, H) == magr::output_error(W, a, shared));
        CHECK(magr::compensate_drift(a, H, D).change == magr::compensate_drift(b, shared, D).change);
        CHECK(a == b);
        CHECK(magr::fit_k_quant_grids(W, H, magr::ggml_type::q4_k).scales ==
              magr::fit_k_quant_grids(W, shared, magr::ggml_type::q4_k).scales);
        const auto l = magr::quantize_layer(W, H, with_magr()), m = magr::quantize_layer(W, shared, with_magr());
        CHECK(l.quantized.codes == m.quantized.codes);
        CHECK(l.output_error == m.output_error);
    }
}

TEST_CASE("hessian: three layers factor it once", "[calibration][hessian]") {
    const MatrixXf H = gram_of(300, 96, 4);
    const hessian shared(H);
    std::vector<index_t> made;
    for (unsigned layer = 0; layer < 3; ++layer) {
        const MatrixXf W = random_matrix(20, 96, 10 + layer).cast<float>();
        const auto result = magr::quantize_layer(W, shared, with_magr());
        CHECK(result.status == magr::quantization_status::as_requested);
        made.push_back(shared.made());
    }
    CHECK(made[0] > 0);
    CHECK(made[1] == made[0]);
    CHECK(made[2] == made[0]);
    // another damping needs another factor, and nothing else
    magr::layer_options options = with_magr();
    options.optq.damping = 0.1;
    static_cast<void>(magr::quantize_layer(random_matrix(20, 96, 20).cast<float>().eval(), shared, options));
    CHECK(shared.made() == made[0] + 1);
    shared.forget();
    static_cast<void>(magr::quantize_layer(random_matrix(20, 96, 10).cast<float>().eval(), shared, with_magr()));
    CHECK(shared.made() == 2 * made[0] + 1);
}

TEST_CASE("hessian: what it remembers does not depend on the layers before", "[calibration][hessian][determinism]") {
    MatrixXf H = gram_of(200, 64, 12);
    H.array() += 300;  // a direction that dominates
    const MatrixXd W0 = random_matrix(30, 64, 13);
    const auto solved = [&](auto W, const auto& gram, const magr::preprocess_options& options) {
        const auto result = magr::preprocess(W, gram, options);
        return std::pair(MatrixXd(W.template cast<double>()), std::pair(result.gap, result.products));
    };
    const magr::preprocess_options few{.alpha = 1e-4}, many{.alpha = 0.3}, damped{.alpha = 1e-3, .damping = 0.1};
    for (const bool double_first : {false, true}) {
        const hessian shared(H);
        for (int time = 0; time < 2; ++time)
            for (const auto& options : {few, many, damped}) {
                if (double_first) CHECK(solved(W0, shared, options) == solved(W0, H, options));
                CHECK(solved(MatrixXf(W0.cast<float>()), shared, options) == solved(MatrixXf(W0.cast<float>()), H, options));
                CHECK(solved(W0, shared, options) == solved(W0, H, options));
            }
    }
}

TEST_CASE("hessian: remembers by type and key", "[calibration][hessian]") {
    const MatrixXf H = gram_of(20, 8, 5);
    const hessian shared(H);
    struct one {
        int value;
    };
    struct two {
        int value;
    };
    CHECK(shared.remember<one>({1}, [] { return one{1}; }).value == 1);
    CHECK(shared.remember<one>({1}, [] { return one{2}; }).value == 1);
    CHECK(shared.remember<one>({2}, [] { return one{3}; }).value == 3);
    CHECK(shared.remember<two>({1}, [] { return two{4}; }).value == 4);
    CHECK(shared.made() == 3);
    shared.forget<one>();
    CHECK(shared.remember<one>({1}, [] { return one{5}; }).value == 5);
    CHECK(shared.remember<two>({1}, [] { return two{6}; }).value == 4);
    CHECK_THROWS_AS(shared.remember<two>({9}, []() -> two { throw 1; }), int);
    CHECK(shared.remember<two>({9}, [] { return two{7}; }).value == 7);
}

TEST_CASE("hessian: of an accumulator it owns the sum and knows the tokens", "[calibration][hessian]") {
    const MatrixXf X = random_matrix(150, 48, 6).cast<float>(), W = random_matrix(10, 48, 7).cast<float>();
    magr::gram_accumulator<float> calibration(48);
    calibration.add(X);
    const hessian shared(calibration);
    const MatrixXf more = X.topRows(50);
    calibration.add(more);  // does not affect what was made before
    magr::gram_accumulator<float> same(48);
    same.add(X);
    CHECK(shared.tokens() == 150);
    const auto a = magr::quantize_layer(W, shared), b = magr::quantize_layer(W, same);
    CHECK(a.quantized.codes == b.quantized.codes);
    CHECK(a.tokens == b.tokens);
    CHECK_FALSE(hessian(gram_of(20, 8, 1)).tokens());
}

TEST_CASE("hessian: keeps a temporary, and looks at what it does not own", "[calibration][hessian]") {
    const MatrixXf H = gram_of(50, 16, 3), W = random_matrix(4, 16, 4).cast<float>();
    const auto expected = magr::quantize_optq(W, H);
    const hessian of_temporary(gram_of(50, 16, 3));
    CHECK(magr::quantize_optq(W, of_temporary).quantized.codes == expected.quantized.codes);
    MatrixXf moved = H;
    const hessian of_moved(std::move(moved));
    CHECK(magr::quantize_optq(W, of_moved).quantized.codes == expected.quantized.codes);
    const hessian of_view(magr::matrix_view<const float>(H.data(), 16, 16));
    CHECK(magr::quantize_optq(W, of_view).quantized.codes == expected.quantized.codes);
    CHECK(of_view.given()(3, 5) == static_cast<double>(H(3, 5)));
}

TEST_CASE("hessian: one rule for dead inputs", "[calibration][hessian][dead]") {
    MatrixXf H = gram_of(100, 32, 8);
    H.row(5).setZero();
    H.col(5).setZero();
    H.row(9) *= 1e-3F;
    H.col(9) *= 1e-3F;
    const hessian plain(H), strict(H, 1e-4);
    CHECK(plain.dead_inputs() == 1);
    CHECK(plain.is_dead(5));
    CHECK(strict.dead_inputs() == 2);
    CHECK(strict.is_dead(9));
    CHECK(plain.mean() < strict.mean());
    // options that ask for more than the hessian offers work without sharing
    const MatrixXf W = random_matrix(6, 32, 9).cast<float>();
    const magr::grid_options grid{.bits = 4};
    const magr::optq_options options{.dead_threshold = 1e-4};
    const auto expected = magr::quantize_optq(W, H, grid, options);
    const index_t before = plain.made();
    const auto derived = magr::quantize_optq(W, plain, grid, options), own = magr::quantize_optq(W, strict, grid);
    CHECK(plain.made() == before);
    CHECK(derived.quantized.codes == expected.quantized.codes);
    CHECK(derived.dead_inputs == 2);
    CHECK(own.quantized.codes == expected.quantized.codes);
    CHECK(own.output_error == expected.output_error);
}

TEST_CASE("hessian: refuses what is no Gram matrix", "[calibration][hessian][errors]") {
    MatrixXf H = gram_of(20, 6, 1);
    CHECK_THROWS_AS(hessian(MatrixXf(0, 0)), magr::shape_error);
    CHECK_THROWS_AS(hessian(MatrixXf(2, 3)), magr::shape_error);
    CHECK_THROWS_AS(hessian(H, 1.0), magr::option_error);
    CHECK_THROWS_AS(hessian(H, std::numeric_limits<double>::quiet_NaN()), magr::option_error);
    CHECK_THROWS_AS(hessian(magr::gram_accumulator<float>(4)), magr::value_error);
    H(1, 2) += 100;
    CHECK_THROWS_AS(hessian(H), magr::value_error);
    const MatrixXf good = gram_of(20, 6, 1);
    const hessian shared(good);
    MatrixXf W = random_matrix(3, 7, 2).cast<float>();
    CHECK_THROWS_AS(magr::preprocess(W, shared), magr::shape_error);
    CHECK_THROWS_AS(magr::quantize_layer(W, shared), magr::shape_error);
}
