// SPDX-License-Identifier: MIT
#include <magr/calibration/output_error.hpp>
#include <magr/refine/refine_codes.hpp>
#include <magr/refine/refine_scales.hpp>

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <magr/grid/storage.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/quantize/optq.hpp>
#include <magr/quantize/rtn.hpp>
#include <magr/refine/error_state.hpp>
#include <magr/refine/refine_rounds.hpp>

#include "quantize/layers.hpp"
#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using Eigen::MatrixXd;
using magr::code_refinement_options;
using magr::grid_options;
using magr::index_t;
using magr::quantized_matrix;
using magr::refine_codes;
using magr::refine_scales;
using magr::storage_type;
using magr::zero_point;

namespace {

template <class Scalar>
MatrixXd values_of(const quantized_matrix<Scalar>& q) {
    const auto values = q.dequantize();
    MatrixXd out(values.rows(), values.cols());
    for (index_t i = 0; i < values.rows(); ++i)
        for (index_t j = 0; j < values.cols(); ++j) out(i, j) = static_cast<double>(values(i, j));
    return out;
}

MatrixXd damped(MatrixXd H, double damping) {
    const double mean = H.trace() / static_cast<double>((H.diagonal().array() > 0).count());
    for (index_t j = 0; j < H.cols(); ++j)
        if (H(j, j) > 0) H(j, j) += damping * mean;
    return H;
}

double loss(const MatrixXd& W, const MatrixXd& Q, const MatrixXd& H) { return 0.5 * ((Q - W) * H * (Q - W).transpose()).trace(); }

/// Kinds of grids: zero points, storage, levels.
std::vector<grid_options> kinds(int bits) {
    std::vector<grid_options> all;
    for (const auto zero : {zero_point::none, zero_point::middle, zero_point::integer, zero_point::real, zero_point::offset})
        for (const auto storage : {storage_type::native, storage_type::f16})
            all.push_back({.bits = bits, .zero_point = zero, .storage = storage});
    all.push_back({.bits = bits, .zero_point = zero_point::none, .levels = {-1, -0.4, -0.1, 0.2, 0.5, 1}});
    all.back().bits = std::max(bits, 3);
    return all;
}

/// Grids with shared scales: 16 groups of 4 columns, four groups per block.
quantized_matrix<double> with_shared_scales(const MatrixXd& W) {
    magr::weight_grids<double> grids = magr::fit_grids(W, {.bits = 3, .zero_point = zero_point::offset, .group_size = 4});
    const index_t groups = grids.scales.cols(), blocks = groups / 4;
    auto& shared = grids.shared;
    shared.groups = 4;
    shared.scales = magr::matrix<double>(W.rows(), blocks);
    shared.offsets = magr::matrix<double>(W.rows(), blocks);
    shared.scale_codes = magr::matrix<std::int8_t>(W.rows(), groups);
    shared.offset_codes = magr::matrix<std::uint8_t>(W.rows(), groups);
    for (index_t i = 0; i < W.rows(); ++i)
        for (index_t g = 0; g < groups; ++g) {
            double& d = shared.scales(i, g / 4);
            double& m = shared.offsets(i, g / 4);
            if (g % 4 == 0) d = m = static_cast<double>(Eigen::half(0.05F));
            shared.scale_codes(i, g) = static_cast<std::int8_t>(std::max(1.0, std::nearbyint(grids.scales(i, g) / d)));
            shared.offset_codes(i, g) = static_cast<std::uint8_t>(std::max(0.0, std::nearbyint(-grids.zeros(i, g) / m)));
            grids.scales(i, g) = d * shared.scale_codes(i, g);
            grids.zeros(i, g) = -(m * shared.offset_codes(i, g));
        }
    return magr::quantize_rtn(W, grids);
}

}  // namespace

TEST_CASE("refine_codes, refine_scales: no step raises the loss, and the report is true", "[quantize][refine][property]") {
    double before = 0, after = 0;
    for (const auto kind : layers::all_inputs)
        for (const index_t group : {7, 40})
            for (const double damping : {0.0, 0.01, 0.75})
                for (grid_options grid : kinds(2)) {
                    grid.group_size = group;
                    const auto [W, H] = layers::make_layer(39, 40, kind, 3);  // two panels of rows
                    const MatrixXd Hd = damped(H, damping);
                    auto q = magr::quantize_optq(W, H, grid).quantized;
                    double now = loss(W, values_of(q), Hd);
                    const double scale = now;
                    before += magr::output_error(W, q.dequantize(), H);
                    CAPTURE(kind, group, damping, static_cast<int>(grid.zero_point), static_cast<int>(grid.storage), grid.levels.size());
                    for (int round = 0; round < 3; ++round) {
                        const auto scales = refine_scales(q, W, H, {.damping = damping});
                        CHECK(scales.loss_before == Approx(now).epsilon(1e-9));
                        CHECK(scales.loss_after <= scales.loss_before * (1 + 1e-13));
                        CHECK(scales.loss_after == Approx(loss(W, values_of(q), Hd)).epsilon(1e-8).margin(1e-10 * scale));
                        now = scales.loss_after;
                        const auto codes = refine_codes(q, W, H, {.max_passes = 1, .damping = damping});
                        CHECK(codes.loss_before == Approx(now).epsilon(1e-8).margin(1e-10 * scale));
                        CHECK(codes.loss_after <= codes.loss_before * (1 + 1e-13));
                        CHECK(codes.loss_after == Approx(loss(W, values_of(q), Hd)).epsilon(1e-8).margin(1e-10 * scale));
                        now = codes.loss_after;
                    }
                    after += magr::output_error(W, q.dequantize(), H);
                    for (index_t i = 0; i < q.scales.rows(); ++i)
                        for (index_t g = 0; g < q.scales.cols(); ++g) {
                            CHECK(q.scales(i, g) > 0);
                            CHECK(q.scales(i, g) == magr::round_to_storage<double>(q.scales(i, g), grid.storage));
                            CHECK(q.zeros(i, g) == magr::round_to_storage<double>(q.zeros(i, g), grid.storage));
                        }
                }
    CHECK(after < 0.9 * before);
}

TEST_CASE("refine_rounds: the same as one call after the other, and what is left of the weights", "[quantize][refine][property]") {
    for (const auto kind : layers::all_inputs)
        for (grid_options grid : kinds(3)) {
            grid.group_size = 8;
            const auto [W, H] = layers::make_layer(39, 40, kind, 4);  // two panels of rows
            const quantized_matrix<double> nearest = magr::quantize_rtn(W, grid);
            CAPTURE(kind, static_cast<int>(grid.zero_point), static_cast<int>(grid.storage), grid.levels.size());

            quantized_matrix<double> together = nearest, in_turn = nearest;
            magr::detail::row_errors left;
            const magr::hessian h(H);
            const auto report = magr::detail::refine_rounds(together, magr::as_const_view(W), h, {.rounds = 2}, &left, {});
            index_t changes = 0;
            for (int round = 0; round < 2; ++round) changes += refine_scales(in_turn, W, H).changes + refine_codes(in_turn, W, H).changes;

            CHECK(report.changes == changes);
            CHECK((values_of(together) - values_of(in_turn)).cwiseAbs().maxCoeff() <= 1e-9 * W.cwiseAbs().maxCoeff());
            const MatrixXd E = values_of(together) - W, gradient = E * damped(H, 0.01);
            CHECK(report.loss_before == Approx(loss(W, values_of(nearest), damped(H, 0.01))).epsilon(1e-9));
            CHECK(report.loss_after == Approx(loss(W, values_of(together), damped(H, 0.01))).epsilon(1e-8));
            using row_map = Eigen::Map<const magr::detail::row_major_matrix<double>>;
            CHECK((row_map(left.error.data(), 39, 40) - E).cwiseAbs().maxCoeff() <= 1e-12 * W.cwiseAbs().maxCoeff());
            const double largest = (values_of(nearest) - W).cwiseAbs().maxCoeff() * H.cwiseAbs().rowwise().sum().maxCoeff();
            CHECK((row_map(left.gradient.data(), 39, 40) - gradient).cwiseAbs().maxCoeff() <= 1e-12 * largest);
        }
}

TEST_CASE("refine_rounds: one row's rounds do not depend on the rows beside it", "[quantize][refine][property]") {
    const auto [W, H] = layers::make_layer(40, 24, layers::inputs::neighbours, 6);
    const magr::hessian h(H);
    quantized_matrix<double> all = magr::quantize_rtn(W, {.bits = 2});
    magr::detail::refine_rounds(all, magr::as_const_view(W), h, {.rounds = 5}, nullptr, {});
    for (const index_t i : {0, 35, 36, 39}) {
        const MatrixXd w = W.row(i);
        quantized_matrix<double> one = magr::quantize_rtn(w, {.bits = 2});
        magr::detail::refine_rounds(one, magr::as_const_view(w), h, {.rounds = 5}, nullptr, {});
        CHECK((values_of(one) - values_of(all).row(i)).cwiseAbs().maxCoeff() <= 1e-9 * W.cwiseAbs().maxCoeff());
    }
}

TEST_CASE("refine_codes: where it ends, no single code could be better", "[quantize][refine][certificate]") {
    for (const auto kind : layers::all_inputs)
        for (const grid_options& grid : kinds(3))
            for (const auto order : {magr::column_order::natural, magr::column_order::act_order}) {
                const auto [W, H] = layers::make_layer(3, 70, kind, 5);
                const MatrixXd Hd = damped(H, 0.01);
                auto q = magr::quantize_rtn(W, grid);
                const auto result = refine_codes(q, W, H, {.max_passes = 1000, .order = order});
                CHECK(result.passes < 1000);
                CHECK(result.changes > 0);
                const MatrixXd Q = values_of(q);
                const MatrixXd gradient = (Q - W) * Hd;
                const int codes = grid.levels.empty() ? 1 << grid.bits : static_cast<int>(grid.levels.size());
                for (index_t i = 0; i < 3; ++i)
                    for (index_t j = 0; j < 70; ++j) {
                        const std::uint8_t best = q.codes(i, j);
                        for (int c = 0; c < codes; ++c) {
                            q.codes(i, j) = static_cast<std::uint8_t>(c);
                            const double step = static_cast<double>(q.dequantize()(i, j)) - Q(i, j);
                            CHECK(step * (gradient(i, j) + 0.5 * Hd(j, j) * step) >= -1e-9 * result.loss_after);
                        }
                        q.codes(i, j) = best;
                    }
                // a second call changes nothing
                CHECK(refine_codes(q, W, H, {.order = order}).changes == 0);
            }
}

TEST_CASE("refine_scales: each is the least-squares scale, or the storage's number next to it", "[quantize][refine][certificate]") {
    for (const auto storage : {storage_type::native, storage_type::f16, storage_type::bf16}) {
        const auto [W, H] = layers::make_layer(5, 30, layers::inputs::neighbours, 7);
        const MatrixXd Hd = damped(H, 0.02);
        auto q = magr::quantize_rtn(W, {.bits = 2, .storage = storage});
        const auto result = refine_scales(q, W, H, {.damping = 0.02});
        CHECK(result.passes == 1);
        CHECK(result.changes == 5);
        for (index_t i = 0; i < 5; ++i) {
            Eigen::RowVectorXd c(30);
            for (index_t j = 0; j < 30; ++j) c[j] = q.codes(i, j) - q.zeros(i, 0);
            const double best = c.dot(W.row(i) * Hd) / c.dot(c * Hd);  // the minimiser of (s c - w) H (s c - w)
            CHECK(q.scales(i, 0) == Approx(magr::round_to_storage<double>(best, storage)).epsilon(1e-12));
            CHECK(q.scales(i, 0) == Approx(best).epsilon(storage == storage_type::native ? 1e-12 : 4e-3));
        }
    }
}

TEST_CASE("refine_scales: with one offset per row, repeated passes reach the least-squares line", "[quantize][refine][certificate]") {
    for (const auto zero : {zero_point::real, zero_point::offset}) {
        const auto [W, H] = layers::make_layer(4, 24, layers::inputs::neighbours, 8);
        const MatrixXd Hd = damped(H, 0.01);
        auto q = magr::quantize_rtn(W, {.bits = 2, .zero_point = zero});
        const auto result = refine_scales(q, W, H, {.max_passes = 2000});
        const MatrixXd gradient = (values_of(q) - W) * Hd;
        for (index_t i = 0; i < 4; ++i) {
            double by_scale = 0, by_offset = 0;
            for (index_t j = 0; j < 24; ++j) {
                by_scale += gradient(i, j) * q.codes(i, j);
                by_offset += gradient(i, j);
            }
            CHECK(std::abs(by_scale * q.scales(i, 0)) < 1e-4 * result.loss_after);
            CHECK(std::abs(by_offset * q.scales(i, 0)) < 1e-4 * result.loss_after);
        }
    }
}

TEST_CASE("refine_scales: numbers that groups share stay f16 numbers and make up all scales", "[quantize][refine][property]") {
    const auto [W, H] = layers::make_layer(6, 64, layers::inputs::neighbours, 9);
    auto q = with_shared_scales(W);
    const double start = loss(W, values_of(q), damped(H, 0.01));
    const auto result = refine_scales(q, W, H, {.max_passes = 3});
    CHECK(result.loss_before == Approx(start));
    CHECK(result.loss_after < 0.99 * start);
    CHECK(result.loss_after == Approx(loss(W, values_of(q), damped(H, 0.01))));
    for (index_t i = 0; i < 6; ++i)
        for (index_t g = 0; g < 16; ++g) {
            const double d = q.shared.scales(i, g / 4);
            const double m = q.shared.offsets(i, g / 4);
            CHECK(d == static_cast<double>(Eigen::half(static_cast<float>(d))));
            CHECK(m == static_cast<double>(Eigen::half(static_cast<float>(m))));
            CHECK(q.scales(i, g) == d * q.shared.scale_codes(i, g));
            CHECK(q.zeros(i, g) == -(m * q.shared.offset_codes(i, g)));
        }
    const auto codes = refine_codes(q, W, H);
    CHECK(codes.loss_after < codes.loss_before);
}

TEST_CASE("refine_codes: dead columns keep their codes, and columns of any order of groups are refined", "[quantize][refine][edge]") {
    auto [W, H] = layers::make_layer(4, 20, layers::inputs::outliers, 4);
    for (const index_t dead : {0, 13}) {
        H.row(dead).setZero();
        H.col(dead).setZero();
    }
    auto q = magr::quantize_optq(W, H, {.bits = 2, .group_size = 6},
                                 {.order = magr::column_order::act_order, .groups = magr::group_update::live})
                 .quantized;
    for (const index_t dead : {0, 13})
        for (index_t i = 0; i < 4; ++i) q.codes(i, dead) = 3;
    const double start = loss(W, values_of(q), damped(H, 0.01));
    const auto scales = refine_scales(q, W, H);
    const auto codes = refine_codes(q, W, H);
    CHECK(scales.loss_before == Approx(start));
    CHECK(codes.loss_after == Approx(loss(W, values_of(q), damped(H, 0.01))));
    CHECK(codes.loss_after < 0.98 * start);
    for (const index_t dead : {0, 13})
        for (index_t i = 0; i < 4; ++i) CHECK(q.codes(i, dead) == 3);
}

TEST_CASE("refine_codes: the authors' constants shorten the steps and still never raise the loss", "[quantize][refine][property]") {
    const auto [W, H] = layers::make_layer(10, 40, layers::inputs::neighbours, 12);
    auto q = magr::quantize_rtn(W, {.bits = 2});
    auto exact = q;
    const double offset = 0.1 * H.diagonal().maxCoeff();
    const auto result = refine_codes(q, W, H, {.max_passes = 30, .damping = 0.75, .denominator_offset = offset});
    CHECK(result.loss_after < result.loss_before);
    CHECK(result.loss_before == Approx(loss(W, values_of(magr::quantize_rtn(W, {.bits = 2})), damped(H, 0.75))));
    auto careful = exact;
    const auto exact_steps = refine_codes(exact, W, H, {.max_passes = 1, .damping = 0.75});
    const auto short_steps = refine_codes(careful, W, H, {.max_passes = 1, .damping = 0.75, .denominator_offset = 100 * offset});
    CHECK(short_steps.changes < exact_steps.changes);
}

TEST_CASE("refine_codes: float weights of any scale", "[quantize][refine][edge]") {
    const auto [weights, H] = layers::make_layer(6, 30, layers::inputs::neighbours, 13);
    const Eigen::MatrixXf W = weights.cast<float>();
    auto expected = magr::quantize_rtn(W, {.bits = 3});
    const auto reference = refine_codes(expected, W, H);
    for (const int exponent : {-100, 100})
        for (const double gram : {0x1p-100, 0x1p100}) {
            const Eigen::MatrixXf scaled = W * std::ldexp(1.0F, exponent);
            auto q = magr::quantize_rtn(scaled, {.bits = 3});
            const auto result = refine_codes(q, scaled, MatrixXd(gram * H));
            CHECK(q.codes == expected.codes);
            CHECK(result.changes == reference.changes);
            CHECK(refine_scales(q, scaled, MatrixXd(gram * H)).changes > 0);
        }
}

TEST_CASE("refine_scales: squares that overflow leave everything as it was", "[quantize][refine][edge][regression]") {
    MatrixXd W(1, 3);
    W << 4.5e307, -1e307, 2e307;
    const MatrixXd H = MatrixXd::Ones(3, 3) + MatrixXd::Identity(3, 3);
    auto q = magr::quantize_rtn(W, {.bits = 2});
    const auto before = q;
    refine_scales(q, W, H);
    refine_codes(q, W, H);
    CHECK(values_of(q).allFinite());
    CHECK((values_of(q) - W).cwiseAbs().maxCoeff() <= 1.0001 * (values_of(before) - W).cwiseAbs().maxCoeff());
}

TEST_CASE("refine_codes, refine_scales: refuse what they cannot work with and leave Q alone", "[quantize][refine][edge]") {
    const auto [W, H] = layers::make_layer(3, 8, layers::inputs::neighbours, 2);
    const auto good = magr::quantize_rtn(W, {.bits = 3, .group_size = 4});
    auto q = good;
    const auto refused = [&](const MatrixXd& w, const MatrixXd& h, const code_refinement_options& codes,
                             const magr::scale_refinement_options& scales) {
        const auto before = q;
        std::string message;
        try {
            refine_codes(q, w, h, codes);
            message = "codes accepted";
        } catch (const std::exception& e) {
            message = e.what();
        }
        try {
            refine_scales(q, w, h, scales);
            message += "; scales accepted";
        } catch (const std::exception& e) {
            message += std::string("; ") + e.what();
        }
        CHECK(q.codes == before.codes);
        return message;
    };
    CHECK(refused(W, H, {.max_passes = 0}, {.max_passes = 0}) ==
          "code_refinement_options: max_passes must be at least 1, it is 0; scale_refinement_options: max_passes must be at least 1, it is "
          "0");
    CHECK(refused(W, H, {.damping = -1}, {.damping = HUGE_VAL}) ==
          "code_refinement_options: damping must be at least 0 and finite, it is -1; scale_refinement_options: damping must be at least 0 "
          "and finite, it "
          "is inf");
    CHECK(refused(W, H, {.denominator_offset = -1}, {.damping = -1}).find("code_refinement_options: denominator_offset") == 0);
    CHECK(refused(W.topRows(2), H, {}, {}) ==
          "refine_codes: Q.codes must be 2 x 8, it is 3 x 8; refine_scales: Q.codes must be 2 x 8, it is 3 x 8");
    CHECK(refused(W, H.topLeftCorner(7, 7), {}, {}).find("refine_codes: H must be 8 x 8") == 0);
    MatrixXd bad = W;
    bad(2, 1) = std::nan("");
    CHECK(refused(bad, H, {}, {}).find("refine_codes: W must be finite, entry (row 2, column 1) is nan") == 0);
    q.codes(1, 5) = 8;
    CHECK(refused(W, H, {}, {}).find("refine_codes: Q.codes must be in 0..7, entry (row 1, column 5) is 8") == 0);
    q = good;
    q.scales(1, 1) = 0;
    CHECK(refused(W, H, {}, {}).find("refine_codes: grids: scale (row 1, group 1) must be > 0 and finite, it is 0") == 0);
    q = good;
    q.zeros(0, 1) = 2.5;
    CHECK(refused(W, H, {}, {}).find("refine_codes: grids: zero point (row 0, group 1) must be a code, it is 2.5") == 0);
    q = good;
    q.group_of_column[3] = 2;
    CHECK(refused(W, H, {}, {}).find("refine_codes: grids: group_of_column must be in 0..1, one is 2") == 0);
    q = good;
    q.group_of_column.pop_back();
    CHECK(refused(W, H, {}, {}).find("refine_codes: grids.group_of_column must have 8 entries, it has 7") == 0);
}

TEST_CASE("refine_codes: a small row beside a large one gets as far as alone", "[refine][edge]") {
    const Eigen::Index n = 40;
    const Eigen::MatrixXd X = tests::random_matrix(90, n, 5) * (tests::random_matrix(n, n, 6) + 2 * Eigen::MatrixXd::Identity(n, n));
    const Eigen::MatrixXd H = X.transpose() * X, small = tests::random_matrix(8, n, 7);
    Eigen::MatrixXd both(9, n);
    both << small, 1e7 * tests::random_matrix(1, n, 8);
    auto alone = magr::quantize_rtn(small, {.bits = 2}), together = magr::quantize_rtn(both, {.bits = 2});
    static_cast<void>(magr::refine_codes(alone, small, H));
    static_cast<void>(magr::refine_codes(together, both, H));
    magr::index_t different = 0;
    for (magr::index_t i = 0; i < 8; ++i)
        for (magr::index_t j = 0; j < n; ++j) different += alone.codes(i, j) != together.codes(i, j);
    CHECK(different == 0);
}
