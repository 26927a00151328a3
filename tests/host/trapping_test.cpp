// SPDX-License-Identifier: MIT
// Runs the main functions in a host that lets the processor trap: a signal would end the program.
#include <Eigen/Core>
#include <cfenv>
#include <stdexcept>
#include <vector>

#include <magr/magr.hpp>

#include "host/edge_rows.hpp"
#include "support/catch.hpp"

namespace {

#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__i386__))
constexpr bool can_trap = true;
constexpr int trapped = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW;
void trap() {
    std::feclearexcept(FE_ALL_EXCEPT);
    if (feenableexcept(trapped) == -1 || fegetexcept() != trapped) throw std::runtime_error("the processor does not trap");
}
void trap_no_more() { fedisableexcept(trapped); }
#else
constexpr bool can_trap = false;
void trap() {}
void trap_no_more() {}
#endif

/// Runs f with traps; assertions stay outside.
template <class F>
void with_traps(const F& f) {
    struct traps {
        traps() { trap(); }
        ~traps() { trap_no_more(); }
    } const on;
    f();
}

/// Whether this machine can trap.
bool traps_here() {
    if (!can_trap) WARN("traps are not enabled: the C library or the processor is not one that this test knows");
    return can_trap;
}

/// Rows like those of real layers.
template <class T>
matrix_of<T> ordinary_rows(index_t rows, index_t cols) {
    matrix_of<T> W(rows, cols);
    for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < cols; ++j) W(i, j) = static_cast<T>((i + 1) * (7 * j + 3 * i) % 29 - 14) / T(64);
    return W;
}

template <class T>
std::vector<matrix_of<T>> layers(index_t cols) {
    return {ordinary_rows<T>(40, cols), edge_rows<T>(cols)};
}

}  // namespace

TEMPLATE_TEST_CASE("trapping: weights are preprocessed", "[host][traps]", float, double) {
    if (!traps_here()) return;
    constexpr index_t cols = 24;
    for (const auto& W : layers<TestType>(cols))
        for (const Eigen::MatrixXd& H : grams(cols))
            for (const auto solver : {magr::preprocess_solver::admm, magr::preprocess_solver::proximal_gradient}) {
                CAPTURE(H(0, 0), H(1, 0), H(3, 3), static_cast<int>(solver));
                matrix_of<TestType> V = W, U = W;
                with_traps([&] {
                    magr::preprocess(V, H, {.solver = solver});
                    magr::preprocess(U, H, {.group_size = 8, .solver = solver});
                });
                CHECK(V.allFinite());
                CHECK(U.allFinite());
            }
}

TEMPLATE_TEST_CASE("trapping: weights are quantized", "[host][traps]", float, double) {
    if (!traps_here()) return;
    constexpr index_t cols = 24;
    for (const auto& W : layers<TestType>(cols))
        for (const Eigen::MatrixXd& H : grams(cols))
            for (const auto zero : {magr::zero_point::none, magr::zero_point::middle, magr::zero_point::integer, magr::zero_point::real,
                                    magr::zero_point::offset}) {
                CAPTURE(H(0, 0), H(1, 0), H(3, 3), static_cast<int>(zero));
                matrix_of<TestType> rounded;
                with_traps([&] {
                    const auto q = magr::quantize_rtn(W, {.bits = 3, .zero_point = zero, .group_size = 8});
                    const auto back = q.dequantize();
                    rounded = Eigen::Map<const matrix_of<TestType>>(back.data(), back.rows(), back.cols());
                    static_cast<void>(magr::quantize_rtn(W, {.bits = 3, .zero_point = zero, .range = magr::range_search::mse}));
                    static_cast<void>(magr::quantize_optq(W, H, {.bits = 3, .zero_point = zero, .group_size = 8}));
                    static_cast<void>(magr::quantize_layer(W, H, {.grid = {.bits = 3, .zero_point = zero}}));
                });
                CHECK(rounded.allFinite());
            }
}

TEST_CASE("trapping: layers are preprocessed and quantized, and methods chosen", "[host][traps]") {
    if (!traps_here()) return;
    constexpr index_t cols = 24;
    for (const auto& W : layers<float>(cols))
        for (const Eigen::MatrixXd& H : grams(cols)) {
            CAPTURE(H(0, 0), H(1, 0), H(3, 3));
            with_traps([&] {
                static_cast<void>(magr::quantize_layer(W, H, {.grid = {.bits = 3}, .preprocess = magr::preprocess_options{}}));
                static_cast<void>(magr::quantize_automatic(W, H, H));
            });
            SUCCEED();
        }
}

TEST_CASE("trapping: weights are packed", "[host][traps]") {
    if (!traps_here()) return;
    using format = magr::packed_format;
    const matrix_of<float> edges = edge_rows<float>(256);
    const matrix_of<float> edge_layer = edges.topRows(edges.rows() / 32 * 32);
    for (const auto& W : {ordinary_rows<float>(64, 256), edge_layer}) {
        const auto quantized = [&](format f) { return magr::quantize_rtn(W, magr::grid_options_for(f)); };
        with_traps([&] {
            static_cast<void>(magr::unpack_gptq(magr::pack_gptq(quantized(format::gptq_v2), magr::gptq_version::v2)));
            static_cast<void>(magr::unpack_awq(magr::pack_awq(quantized(format::awq))));
            static_cast<void>(magr::unpack_compressed_tensors(magr::pack_compressed_tensors(quantized(format::compressed_tensors))));
            static_cast<void>(magr::unpack_matmul_nbits(magr::pack_matmul_nbits(quantized(format::matmul_nbits))));
            static_cast<void>(magr::unpack_mlx(magr::pack_mlx(quantized(format::mlx))));
            static_cast<void>(magr::unpack_gguf(magr::pack_gguf(quantized(format::gguf_q4_0), magr::ggml_type::q4_0)));
            for (const auto type :
                 {magr::ggml_type::q2_k, magr::ggml_type::q3_k, magr::ggml_type::q4_k, magr::ggml_type::q5_k, magr::ggml_type::q6_k})
                static_cast<void>(magr::unpack_gguf(magr::pack_gguf(magr::quantize_rtn(W, magr::fit_k_quant_grids(W, type)), type)));
        });
        SUCCEED();
    }
}
