// SPDX-License-Identifier: MIT
#include <magr/pack/dint.hpp>

#include <Eigen/Core>
#include <cstdint>
#include <string>

#include <magr/matrix/eigen.hpp>
#include <magr/pack.hpp>
#include <magr/quantize/round_onto.hpp>

#include "support/catch.hpp"
#include "support/random_matrix.hpp"

using magr::index_t;

namespace {

using dint_weights = magr::coded_matrix<magr::dint_grids<float>>;

dint_weights sample(int bits, std::optional<index_t> group_size, magr::storage_type storage = magr::storage_type::f16) {
    const Eigen::MatrixXf W = tests::random_matrix(5, 21, static_cast<unsigned>(bits)).cast<float>();
    return magr::round_onto(magr::fit_dint_grids(W, {.bits = bits, .group_size = group_size, .storage = storage}), W);
}

// An engine for integers would read the last two codes as integers.
template <class Matrix>
concept packs_as_integers = requires(const Matrix& q) { magr::pack_gptq(q); } || requires(const Matrix& q) { magr::pack_awq(q); } ||
                            requires(const Matrix& q) { magr::pack_mlx(q); } || requires(const Matrix& q) { magr::pack_matmul_nbits(q); } ||
                            requires(const Matrix& q) { magr::pack_compressed_tensors(q); } ||
                            requires(const Matrix& q) { magr::pack_gguf(q, magr::ggml_type::q4_0); };
static_assert(packs_as_integers<magr::quantized_matrix<float>>);
static_assert(!packs_as_integers<dint_weights>);

}  // namespace

TEST_CASE("pack_dint: codes, scales and zero points come back", "[pack][dint]") {
    for (int bits = 2; bits <= 8; ++bits)
        for (const std::optional<index_t> group : {std::optional<index_t>{}, std::optional<index_t>{8}, std::optional<index_t>{1}})
            for (const auto storage : {magr::storage_type::native, magr::storage_type::f16, magr::storage_type::bf16}) {
                const dint_weights q = sample(bits, group, storage);
                const magr::dint_tensors packed = magr::pack_dint(q);
                CHECK(packed.format == "dint");
                CHECK(packed.codes.cols() == (21 * bits + 7) / 8);
                const dint_weights back = magr::unpack_dint(packed);
                CHECK(back.codes == q.codes);
                CHECK(back.grids.scales == q.grids.scales);
                CHECK(back.grids.zeros == q.grids.zeros);
                CHECK(back.dequantize() == q.dequantize());
                CHECK(magr::pack_dint(back) == packed);
            }
}

TEST_CASE("pack_dint: what cannot be stored or read is refused", "[pack][dint][contract]") {
    const dint_weights good = sample(3, 8);
    auto q = good;
    q.codes(2, 3) = 8;
    CHECK_THROWS_AS(magr::pack_dint(q), magr::value_error);
    q = good;
    q.grids.scales(1, 1) = 0.1f;
    CHECK_THROWS_WITH(magr::pack_dint(q),
                      "pack_dint: scale (row 1, group 1) must be a number of type f16, it is 0.100000001; set "
                      "dint_options::storage to storage_type::f16");
    q = good;
    q.grids.zeros(1, 1) = 6;
    CHECK_THROWS_AS(magr::pack_dint(q), magr::value_error);
    CHECK_THROWS_AS(magr::pack_dint(dint_weights{}), magr::shape_error);

    const magr::dint_tensors packed = magr::pack_dint(good);
    const auto refused = [&]<class Error>(Error*, const auto& change) {
        auto other = packed;
        change(other);
        CHECK_THROWS_AS(magr::unpack_dint(other), Error);
    };
    magr::option_error* const option = nullptr;
    magr::shape_error* const shape = nullptr;
    magr::value_error* const value = nullptr;
    refused(option, [](auto& p) { p.format = "gptq_v1"; });
    refused(option, [](auto& p) { p.bits = 9; });
    refused(option, [](auto& p) { p.group_size = 0; });
    refused(shape, [](auto& p) { p.group_size = 5; });
    refused(shape, [](auto& p) { p.bits = 4; });
    refused(shape, [](auto& p) { p.rows = 0; });
    refused(shape, [](auto& p) { p.cols = index_t{1} << 60; });
    refused(shape, [](auto& p) { p.scales.bytes.pop_back(); });
    refused(value, [](auto& p) { p.zero_points(0, 0) = 0xff; });
    refused(value, [](auto& p) { p.scales.bytes[0] = p.scales.bytes[1] = 0; });
}
