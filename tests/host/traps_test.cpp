// SPDX-License-Identifier: MIT
// Hosts may let the processor trap invalid operations, divisions by zero and overflow. Operations that would end such a host leave flags
// behind. These tests look at the flags, so that one run names all functions and inputs.
#include <Eigen/Core>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <magr/magr.hpp>

#include "host/edge_rows.hpp"
#include "support/catch.hpp"

namespace {

/// The exceptions that f raises, in words.
template <class F>
std::string exceptions_of(const F& f) {
    std::feclearexcept(FE_ALL_EXCEPT);
    f();
    const int raised = std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
    std::string words;
    if ((raised & FE_INVALID) != 0) words += " invalid";
    if ((raised & FE_DIVBYZERO) != 0) words += " division by zero";
    if ((raised & FE_OVERFLOW) != 0) words += " overflow";
    return words;
}

#define CHECK_NO_TRAP(...) CHECK(exceptions_of([&] { static_cast<void>(__VA_ARGS__); }) == "")

constexpr magr::zero_point zero_points[] = {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer,
                                            magr::zero_point::real, magr::zero_point::offset};
constexpr magr::storage_type storages[] = {magr::storage_type::native, magr::storage_type::f32, magr::storage_type::f16,
                                           magr::storage_type::bf16};
constexpr magr::range_search searches[] = {magr::range_search::min_max, magr::range_search::mse, magr::range_search::output_error,
                                           magr::range_search::row_output_error};

/// All kinds of grids.
std::vector<magr::grid_options> all_grids() {
    std::vector<magr::grid_options> all;
    for (const auto zero : zero_points)
        for (const auto storage : storages)
            for (const auto search : searches)
                for (const int bits : {2, 4}) {
                    if (bits == 4 && storage != magr::storage_type::native && storage != magr::storage_type::f16) continue;
                    all.push_back({.bits = bits,
                                   .zero_point = zero,
                                   .group_size = bits == 2 ? std::optional<index_t>(8) : std::nullopt,
                                   .storage = storage,
                                   .range = search,
                                   .candidates = magr::range_candidates::joint});
                }
    all.push_back({.bits = 3, .range = magr::range_search::mse, .candidates = magr::range_candidates::shrink, .error_exponent = 2.4});
    all.push_back({.bits = 4, .range = magr::range_search::mse, .error_exponent = 8});
    all.push_back({.bits = 2, .range_factor = 0.8});
    for (const auto search : searches)
        for (const auto& levels : {std::vector<double>{-1, 0, 1}, std::vector<double>{0, 1, 2, 4}, std::vector<double>{-4, -2, -1}})
            all.push_back({.bits = 2, .zero_point = magr::zero_point::none, .range = search, .levels = levels});
    return all;
}

std::string words_of(const magr::grid_options& options) {
    return "bits " + std::to_string(options.bits) + ", zero point " + std::to_string(static_cast<int>(options.zero_point)) + ", storage " +
           std::to_string(static_cast<int>(options.storage)) + ", range " +
           std::to_string(static_cast<int>(options.range.value_or(magr::range_search::min_max))) + ", levels " +
           std::to_string(options.levels.size());
}

}  // namespace

TEMPLATE_TEST_CASE("traps: grids of edge rows and the codes on them", "[host][traps]", float, double) {
    constexpr index_t cols = 16;
    constexpr TestType largest = std::numeric_limits<TestType>::max() / (sizeof(TestType) == sizeof(float) ? 1 : 2);
    const auto H = grams(cols);
    const auto check = [&](const matrix_of<TestType>& W, const magr::grid_options& options, const Eigen::MatrixXd& gram) {
        const std::string raised = exceptions_of([&] {
            const auto grids = magr::fit_grids(W, gram, options);
            const auto q = magr::quantize_rtn(W, grids);
            static_cast<void>(q.dequantize());
            static_cast<void>(magr::count_storage_limits(q));
            if constexpr (sizeof(TestType) == sizeof(float)) {  // losses of the largest doubles overflow
                auto scales = q, codes = q;
                magr::refine_scales(scales, W, gram);
                magr::refine_codes(codes, W, gram);
            }
        });
        if (raised == "") return;
        INFO(words_of(options) << ", row " << W);
        CHECK(raised == "");
    };
    for (const auto& options : all_grids())
        for (const auto& rows : {edge_rows<TestType>(cols), huge_rows<TestType>(cols, largest / 4), huge_rows<TestType>(cols, largest)})
            for (index_t i = 0; i < rows.rows(); ++i) check(rows.row(i), options, H[static_cast<std::size_t>(i) % H.size()]);
}

TEMPLATE_TEST_CASE("traps: k-quants of edge rows, packed and unpacked", "[host][traps]", float, double) {
    constexpr index_t cols = 256;
    const matrix_of<TestType> W = edge_rows<TestType>(cols), huge = huge_rows<TestType>(cols, std::numeric_limits<TestType>::max());
    const Eigen::MatrixXd H = Eigen::VectorXd::LinSpaced(cols, 0, 3).asDiagonal();
    for (const auto type :
         {magr::ggml_type::q2_k, magr::ggml_type::q3_k, magr::ggml_type::q4_k, magr::ggml_type::q5_k, magr::ggml_type::q6_k})
        for (const auto* rows : {&W, &huge}) {
            CAPTURE(static_cast<int>(type), rows == &huge);
            CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(magr::quantize_rtn(*rows, magr::fit_k_quant_grids(*rows, type)), type)));
            CHECK_NO_TRAP(magr::fit_k_quant_grids(*rows, H, type));
        }
}

TEST_CASE("traps: packers of edge rows", "[host][traps]") {
    const matrix_of<float> all = edge_rows<float>(256);
    const matrix_of<float> W = all.topRows(all.rows() / 32 * 32);
    const auto quantized = [&](magr::packed_format format, auto... zero) {
        magr::grid_options options = magr::grid_options_for(format);
        ((options.zero_point = zero), ...);
        return magr::quantize_rtn(W, options);
    };
    using format = magr::packed_format;
    CHECK_NO_TRAP(magr::unpack_gptq(magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2)));
    CHECK_NO_TRAP(magr::unpack_awq(magr::pack_awq(quantized(format::awq))));
    CHECK_NO_TRAP(magr::unpack_compressed_tensors(magr::pack_compressed_tensors(quantized(format::compressed_tensors))));
    CHECK_NO_TRAP(magr::unpack_matmul_nbits(magr::pack_matmul_nbits(quantized(format::matmul_nbits))));
    CHECK_NO_TRAP(magr::unpack_mlx(magr::pack_mlx(quantized(format::mlx))));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q4_0), magr::ggml_type::q4_0)));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q4_1), magr::ggml_type::q4_1)));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q5_0), magr::ggml_type::q5_0)));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q5_1), magr::ggml_type::q5_1)));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q8_0), magr::ggml_type::q8_0)));
    CHECK_NO_TRAP(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q2_0), magr::ggml_type::q2_0)));
}

TEST_CASE("traps: projections and proximal operators of edge rows", "[host][traps]") {
    constexpr index_t cols = 40;
    const std::vector<float> d = [] {
        std::vector<float> numbers;
        for (index_t j = 0; j < cols; ++j) numbers.push_back(j % 3 == 0 ? 1e-3F : j % 3 == 1 ? 1.0F : 20.0F);
        return numbers;
    }();
    for (const double size : {0.0, 1e-45, 1e-30, 0.1, 1e3, 1e30}) {
        CAPTURE(size);
        matrix_of<float> W = edge_rows<float>(cols), V = W, P = W, R = W;
        CHECK_NO_TRAP([&] { magr::prox_linf(W, size); }());
        CHECK_NO_TRAP([&] { magr::prox_linf(V, d, size); }());
        CHECK_NO_TRAP([&] { magr::project_l1_ball(P, size); }());
        CHECK_NO_TRAP([&] { magr::project_l1_ball(R, d, size); }());
    }
    matrix_of<float> W = edge_rows<float>(2);
    for (const float small : {1e-45F, 1e-39F, 2.9e-39F}) {  // their reciprocals may overflow
        const std::vector<float> tiny(2, small);
        CHECK_NO_TRAP([&] {
            try {
                magr::prox_linf(W, tiny, 0.1);
            } catch (const magr::value_error&) {
            }
        }());
    }
}

TEST_CASE("traps: layers of edge rows with Gram matrices of all kinds", "[host][traps]") {
    constexpr index_t cols = 24;
    const matrix_of<float> W = edge_rows<float>(cols);
    for (const Eigen::MatrixXd& H : grams(cols)) {
        CAPTURE(H(0, 0), H(3, 3), H(1, 0));
        matrix_of<float> V = W, U = W, D = W;
        CHECK_NO_TRAP(magr::preprocess(V, H));
        CHECK_NO_TRAP(magr::preprocess(U, H, {.group_size = 8, .solver = magr::preprocess_solver::proximal_gradient}));
        CHECK_NO_TRAP(magr::compensate_drift(D, H, Eigen::MatrixXd(0.01 * H)));
        for (const auto dead : {magr::dead_columns::round, magr::dead_columns::zero})
            for (const auto groups : {magr::group_update::fixed, magr::group_update::live, magr::group_update::stale}) {
                CAPTURE(static_cast<int>(dead), static_cast<int>(groups));
                CHECK_NO_TRAP(magr::quantize_optq(W, H, {.bits = 3, .group_size = 8, .range = magr::range_search::row_output_error},
                                                  {.damping = 0, .order = magr::column_order::act_order, .groups = groups, .dead = dead}));
            }
        CHECK_NO_TRAP(magr::quantize_optq(W, H, {.zero_point = magr::zero_point::offset, .storage = magr::storage_type::f16},
                                          {.dead_threshold = 0.5, .rounding = magr::rounding_mode::stochastic}));
        for (const Eigen::MatrixXd& H_row : grams(8)) {
            CAPTURE(H_row(0, 0), H_row(3, 3), H_row(1, 0));
            const matrix_of<float> heads = W.topRows(W.rows() / 8 * 8);
            for (const index_t step : {1, 3})
                CHECK_NO_TRAP(magr::quantize_boa(heads, H, H_row, {.bits = 3}, {.rows_per_step = step, .scale_passes = 2}));
        }
        CHECK_NO_TRAP(magr::quantize_layer(W, H, {.grid = {.bits = 3}, .preprocess = magr::preprocess_options{}}));
        CHECK_NO_TRAP(magr::quantize_layer(W, H, {.grid = {.bits = 3, .zero_point = magr::zero_point::real, .group_size = 8}}));
        CHECK_NO_TRAP(magr::quantize_automatic(W, H, H));
        for (index_t i = 0; i < W.rows(); ++i) {
            const matrix_of<float> one = W.row(i);
            INFO(one);
            const std::string raised = exceptions_of([&] { static_cast<void>(magr::quantize_layer(one, H)); });
            if (raised != "") CHECK(raised == "");
        }
    }
}
