// SPDX-License-Identifier: MIT
// Compiled with -ffast-math, which lets compilers assume that there is no NaN and no infinity.
#include <Eigen/Core>
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <magr/linalg/cholesky.hpp>
#include <magr/magr.hpp>

#include "support/catch.hpp"

static_assert(__FINITE_MATH_ONLY__ == 1, "this file must be compiled with -ffast-math");

using magr::index_t;

namespace {

/// A number made from its bits, in memory that the compiler cannot see through.
template <class T>
T from_bits(std::uint64_t bits) {
    volatile std::uint64_t hidden = bits;
    const std::uint64_t given = hidden;
    if constexpr (sizeof(T) == 8) return std::bit_cast<T>(given);
    if constexpr (sizeof(T) == 4) return std::bit_cast<T>(static_cast<std::uint32_t>(given));
    if constexpr (sizeof(T) == 2) return std::bit_cast<T>(static_cast<std::uint16_t>(given));
}

/// A quiet and a negative NaN, and both infinities.
template <class T>
std::vector<T> not_finite() {
    std::vector<std::uint64_t> bits = {0x7f800001u, 0xffc00000u, 0x7f800000u, 0xff800000u};
    if constexpr (sizeof(T) == 8) bits = {0x7ff0000000000001u, 0xfff8000000000000u, 0x7ff0000000000000u, 0xfff0000000000000u};
    if constexpr (std::is_same_v<T, Eigen::half>) bits = {0x7c01u, 0xfe00u, 0x7c00u, 0xfc00u};
    if constexpr (std::is_same_v<T, Eigen::bfloat16>) bits = {0x7f81u, 0xffc0u, 0x7f80u, 0xff80u};
    std::vector<T> numbers;
    for (const std::uint64_t b : bits) numbers.push_back(from_bits<T>(b));
    return numbers;
}

std::vector<double> nans() { return {not_finite<double>()[0], not_finite<double>()[1]}; }

constexpr index_t rows = 4, cols = 32;

template <class T>
using weights_of = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
weights_of<T> weights(index_t m = rows, index_t n = cols) {
    weights_of<T> W(m, n);
    for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j) W(i, j) = static_cast<T>(static_cast<float>((7 * i + 5 * j) % 13 - 6) / 8);
    return W;
}

Eigen::MatrixXd gram(index_t n = cols) {
    Eigen::MatrixXd H = Eigen::MatrixXd::Constant(n, n, 0.1);
    H.diagonal().array() += 1;
    return H;
}

template <class Error, class F>
bool is_refused(const F& f, const std::string& words) {
    try {
        f();
    } catch (const Error& error) {
        return std::string(error.what()).find(words) != std::string::npos;
    }
    return false;
}

#define CHECK_REFUSED(words, ...) CHECK(is_refused<magr::value_error>([&] { static_cast<void>(__VA_ARGS__); }, words))
#define CHECK_OPTION_REFUSED(words, ...) CHECK(is_refused<magr::option_error>([&] { static_cast<void>(__VA_ARGS__); }, words))

}  // namespace

TEST_CASE("fast math: NaN and infinity in weights are refused by all functions that take weights", "[host][fast_math]") {
    const Eigen::MatrixXd H = gram(), H256 = gram(256), D = 0.01 * gram();
    const auto good = weights<float>();
    const auto grids = magr::fit_grids(good, {.bits = 4});
    magr::gram_accumulator<double> inputs(cols), more(cols);
    inputs.add(good);
    more.add(good);
    const std::vector<float> d(static_cast<std::size_t>(cols), 2);

    for (const float bad : not_finite<float>()) {
        auto W = good;
        W(3, 5) = bad;
        const std::string words = "must be finite, entry (row 3, column 5) is";
        CHECK_REFUSED(words, magr::preprocess(W, H));
        CHECK_REFUSED(words, magr::quantize_rtn(W));
        CHECK_REFUSED(words, magr::quantize_rtn(W, H, {.range = magr::range_search::output_error}));
        CHECK_REFUSED(words, magr::quantize_rtn(W, grids));
        CHECK_REFUSED(words, magr::quantize_optq(W, H));
        CHECK_REFUSED(words, magr::quantize_optq(W, H, grids));
        CHECK_REFUSED(words, magr::quantize_boa(W, H, gram(rows)));
        CHECK_REFUSED(words, magr::row_hessian_from_keys(W));
        CHECK_REFUSED(words, magr::row_hessian_from_queries(W, 2));
        CHECK_REFUSED(words, magr::value_hessian(W, gram(rows)));
        CHECK_REFUSED(words, magr::value_hessian(H, W));
        CHECK_REFUSED(words, magr::rope_means(W, good));
        CHECK_REFUSED(words, magr::rope_means(good, W));
        CHECK_REFUSED(words, magr::fit_grids(W));
        CHECK_REFUSED(words, magr::fit_grids(W, H, {.range = magr::range_search::output_error}));
        CHECK_REFUSED(words, magr::quantize_layer(W, H));
        CHECK_REFUSED(words, magr::quantize_layer(W, inputs));
        CHECK_REFUSED(words, magr::quantize_automatic(W, H, H));
        CHECK_REFUSED(words, magr::quantize_automatic(W, inputs, more));
        CHECK_REFUSED(words, magr::output_error(W, good, H));
        CHECK_REFUSED(words, magr::output_error(good, W, H));
        CHECK_REFUSED(words, magr::compensate_drift(W, H, D));
        CHECK_REFUSED(words, [&] { magr::prox_linf(W, 0.1); }());
        CHECK_REFUSED(words, [&] { magr::prox_linf(W, d, 0.1); }());
        CHECK_REFUSED(words, [&] { magr::project_l1_ball(W, 0.1); }());
        CHECK_REFUSED(words, [&] { magr::project_l1_ball(W, d, 0.1); }());
        auto q = magr::quantize_rtn(good, grids);
        CHECK_REFUSED(words, magr::refine_codes(q, W, H));
        CHECK_REFUSED(words, magr::refine_scales(q, W, H));
        CHECK_REFUSED(words, inputs.add(W));
        magr::drift_accumulator<double> drift(cols);
        CHECK_REFUSED(words, drift.add(W, good));
        CHECK_REFUSED(words, drift.add(good, W));
        auto wide = weights<float>(4, 256);
        wide(3, 5) = bad;
        CHECK_REFUSED(words, magr::fit_k_quant_grids(wide, magr::ggml_type::q4_k));
        CHECK_REFUSED(words, magr::fit_k_quant_grids(wide, H256, magr::ggml_type::q4_k));
    }
}

TEMPLATE_TEST_CASE("fast math: NaN and infinity are refused in every storage type", "[host][fast_math]", double, Eigen::half,
                   Eigen::bfloat16) {
    for (const TestType bad : not_finite<TestType>()) {
        auto W = weights<TestType>();
        W(3, 5) = bad;
        const std::string words = "must be finite, entry (row 3, column 5) is";
        CHECK_REFUSED(words, magr::quantize_rtn(W));
        CHECK_REFUSED(words, magr::output_error(W, weights<TestType>(), gram()));
        CHECK_REFUSED(words, [&] { magr::prox_linf(W, 0.1); }());
        CHECK_REFUSED(words, magr::gram_accumulator<double>(cols).add(W));
    }
}

TEST_CASE("fast math: NaN and infinity in H are refused by all functions that take H", "[host][fast_math]") {
    const auto W = weights<float>();
    const Eigen::MatrixXd good = gram(), D = 0.01 * gram();
    for (const double bad : not_finite<double>()) {
        Eigen::MatrixXd H = good;
        H(7, 2) = bad;
        const std::string words = "must be finite, entry (row 7, column 2) is";
        auto out = W;
        CHECK_REFUSED(words, magr::preprocess(out, H));
        CHECK_REFUSED(words, magr::quantize_rtn(W, H, {.range = magr::range_search::output_error}));
        CHECK_REFUSED(words, magr::quantize_optq(W, H));
        CHECK_REFUSED(words, magr::quantize_boa(W, H, gram(rows)));
        CHECK_REFUSED(words, magr::quantize_boa(weights<float>(cols), good, H));
        CHECK_REFUSED(words, magr::rope_means(W, W).unrotated(H));
        CHECK_REFUSED("weights must be", magr::rope_means(W, W, magr::rope_layout::halves, std::vector<double>{1, 1, bad, 1}));
        CHECK_REFUSED(words, magr::fit_grids(W, H, {.range = magr::range_search::output_error}));
        CHECK_REFUSED(words, magr::quantize_layer(W, H));
        CHECK_REFUSED(words, magr::quantize_automatic(W, H, good));
        CHECK_REFUSED(words, magr::quantize_automatic(W, good, H));
        CHECK_REFUSED(words, magr::output_error(W, W, H));
        CHECK_REFUSED(words, magr::compensate_drift(out, H, D));
        CHECK_REFUSED(words, magr::compensate_drift(out, good, H));
        auto q = magr::quantize_rtn(W);
        CHECK_REFUSED(words, magr::refine_codes(q, W, H));
        CHECK_REFUSED(words, magr::refine_scales(q, W, H));
        Eigen::MatrixXd wide = gram(256);
        wide(7, 2) = bad;
        CHECK_REFUSED(words, magr::fit_k_quant_grids(weights<float>(4, 256), wide, magr::ggml_type::q4_k));
    }
}

TEST_CASE("fast math: metrics and grids that are not finite are refused", "[host][fast_math]") {
    const auto good = weights<float>();
    for (const float bad : not_finite<float>()) {
        std::vector<float> d(static_cast<std::size_t>(cols), 2);
        d[3] = bad;
        auto W = good;
        CHECK_REFUSED("element 3", [&] { magr::prox_linf(W, d, 0.1); }());
        CHECK_REFUSED("element 3", [&] { magr::project_l1_ball(W, d, 0.1); }());

        auto q = magr::quantize_rtn(good, {.zero_point = magr::zero_point::offset, .storage = magr::storage_type::f32});
        auto scales = q, zeros = q;
        scales.scales(2, 0) = bad;
        zeros.zeros(2, 0) = bad;
        for (const auto* grids : {&scales, &zeros}) {
            CHECK_REFUSED("(row 2, group 0)", magr::require_grids<float>("f", *grids, rows, cols));
            CHECK_REFUSED("(row 2, group 0)", magr::quantize_rtn(good, static_cast<const magr::weight_grids<float>&>(*grids)));
            CHECK_REFUSED("(row 2, group 0)", magr::pack_mlx(*grids));
        }
        auto levels = magr::fit_grids(good, {.bits = 2, .zero_point = magr::zero_point::none, .levels = {-1, 0, 1}});
        levels.levels[1] = bad;
        CHECK_REFUSED("increasing numbers of at most 1e6", magr::require_grids("f", levels, rows, cols));

        const auto wide = weights<float>(1, 256);
        auto k_quant = magr::quantize_rtn(wide, magr::fit_k_quant_grids(wide, magr::ggml_type::q4_k));
        auto k_scales = k_quant, k_offsets = k_quant;
        k_scales.shared.scales(0, 0) = bad;
        k_offsets.shared.offsets(0, 0) = bad;
        CHECK_REFUSED("pack_gguf", magr::pack_gguf(k_scales, magr::ggml_type::q4_k));
        CHECK_REFUSED("pack_gguf", magr::pack_gguf(k_offsets, magr::ggml_type::q4_k));
    }
}

TEST_CASE("fast math: files with scales that are not finite are refused", "[host][fast_math]") {
    const auto W = weights<float>(32, 256);
    using format = magr::packed_format;
    const auto quantized = [&](format f) { return magr::quantize_rtn(W, magr::grid_options_for(f)); };
    for (const std::uint16_t bad : {std::uint16_t{0x7c01}, std::uint16_t{0xfe00}, std::uint16_t{0x7c00}, std::uint16_t{0xfc00}}) {
        auto gptq = magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2);
        gptq.scales(0, 1) = bad;
        CHECK_REFUSED("finite", magr::unpack_gptq(gptq));
        auto awq = magr::pack_awq(quantized(format::awq));
        awq.scales(0, 1) = bad;
        CHECK_REFUSED("finite", magr::unpack_awq(awq));
        for (const magr::ggml_type type : {magr::ggml_type::q4_0, magr::ggml_type::q4_1}) {
            auto gguf = magr::pack_gguf(quantized(type == magr::ggml_type::q4_0 ? format::gguf_q4_0 : format::gguf_q4_1), type);
            const std::size_t at = type == magr::ggml_type::q4_0 ? 0 : 2;  // scale or offset
            gguf.data[at] = static_cast<std::uint8_t>(bad & 0xff);
            gguf.data[at + 1] = static_cast<std::uint8_t>(bad >> 8);
            CHECK_REFUSED("finite", magr::unpack_gguf(gguf));
        }
        const auto put = [&](magr::stored_matrix& scales) {
            const bool half = scales.type == magr::storage_type::f16;
            const std::uint32_t wide = std::uint32_t{bad & 0x8000u} << 16 | 0x7f800000u | (bad & 0x3ffu);
            const std::uint32_t bits = half ? bad : wide;
            for (std::size_t b = 0; b < (half ? 2u : 4u); ++b) scales.bytes[b] = static_cast<std::uint8_t>(bits >> 8 * b);
        };
        auto compressed = magr::pack_compressed_tensors(quantized(format::compressed_tensors));
        put(compressed.weight_scale);
        CHECK_REFUSED("finite", magr::unpack_compressed_tensors(compressed));
        auto nbits = magr::pack_matmul_nbits(quantized(format::matmul_nbits));
        put(nbits.scales);
        CHECK_REFUSED("finite", magr::unpack_matmul_nbits(nbits));
        auto mlx = magr::pack_mlx(quantized(format::mlx));
        put(mlx.scales);
        CHECK_REFUSED("finite", magr::unpack_mlx(mlx));
        mlx = magr::pack_mlx(quantized(format::mlx));
        put(mlx.biases);
        CHECK_REFUSED("finite", magr::unpack_mlx(mlx));
    }
}

TEST_CASE("fast math: options that are NaN, and infinite ones that must be finite, are refused", "[host][fast_math]") {
    for (const double bad : not_finite<double>()) {
        CHECK_OPTION_REFUSED("alpha must", magr::validate(magr::preprocess_options{.alpha = bad}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::preprocess_options{.damping = bad}));
        CHECK_OPTION_REFUSED("tolerance must", magr::validate(magr::preprocess_options{.tolerance = bad}));
        CHECK_OPTION_REFUSED("rho must", magr::validate(magr::preprocess_options{.rho = bad}));
        CHECK_OPTION_REFUSED("relaxation must", magr::validate(magr::preprocess_options{.relaxation = bad}));
        CHECK_OPTION_REFUSED("error_exponent must", magr::validate(magr::grid_options{.error_exponent = bad}));
        CHECK_OPTION_REFUSED("range_factor must", magr::validate(magr::grid_options{.range_factor = bad}));
        CHECK_OPTION_REFUSED("levels must be finite",
                             magr::validate(magr::grid_options{.zero_point = magr::zero_point::none, .levels = {-1, bad}}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::optq_options{.damping = bad}));
        CHECK_OPTION_REFUSED("dead_threshold must", magr::validate(magr::optq_options{.dead_threshold = bad}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::boa_options{.damping = bad}));
        CHECK_OPTION_REFUSED("dead_threshold must", magr::validate(magr::boa_options{.dead_threshold = bad}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::code_refinement_options{.damping = bad}));
        CHECK_OPTION_REFUSED("denominator_offset must", magr::validate(magr::code_refinement_options{.denominator_offset = bad}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::scale_refinement_options{.damping = bad}));
        CHECK_OPTION_REFUSED("fraction must", magr::validate(magr::drift_options{.fraction = bad}));
        CHECK_OPTION_REFUSED("damping must", magr::validate(magr::drift_options{.damping = bad}));
        CHECK_OPTION_REFUSED("alphas must", magr::validate(magr::automatic_options{.alphas = {bad}}));
        CHECK_OPTION_REFUSED("dampings must", magr::validate(magr::automatic_options{.dampings = {bad}}));
        CHECK_OPTION_REFUSED("range_factors must", magr::validate(magr::automatic_options{.range_factors = {bad}}));
        CHECK_OPTION_REFUSED("required_gain must", magr::validate(magr::automatic_options{.required_gain = bad}));
    }
    auto W = weights<float>();
    for (const double bad : nans()) {
        CHECK_OPTION_REFUSED("t must", [&] { magr::prox_linf(W, bad); }());
        CHECK_OPTION_REFUSED("radius must", [&] { magr::project_l1_ball(W, bad); }());
    }
    CHECK(W == weights<float>());
}

TEST_CASE("fast math: a layer that overflows says so, and an ordinary one is quantized", "[host][fast_math]") {
    const auto layer = magr::quantize_layer(weights<float>(), gram(), {.measure_rtn = true});
    CHECK(layer.status == magr::quantization_status::as_requested);
    CHECK(layer.output_error.value() < 0.1);
    CHECK(layer.output_error.value() < layer.output_error_rtn.value() * 1.0001);

    const weights_of<double> huge = 1e200 * weights<double>();  // their squares overflow
    const auto overflowed = magr::quantize_optq(huge, gram());
    CHECK(overflowed.status == magr::quantization_status::overflowed);
    CHECK(!overflowed);
    const auto boa = magr::quantize_boa(huge, gram(), gram(rows));
    CHECK(boa.status == magr::boa_status::overflowed);
    CHECK(!boa);
}

TEST_CASE("fast math: a matrix that is not positive definite is not factored", "[host][fast_math]") {
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> A = gram();
    A(20, 20) = not_finite<double>()[0];
    CHECK_FALSE(magr::linalg::cholesky(magr::matrix_view<double>(A.data(), cols, cols)));
}
