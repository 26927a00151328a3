// SPDX-License-Identifier: MIT
#include <magr/pack/named_tensors.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pack/samples.hpp"
#include "support/catch.hpp"

using magr::index_t;
using magr::named_tensors;
using magr::storage_type;
using magr::zero_point;

namespace {

/// A tensor as this test expects it: bytes come from numbers, one by one, lowest byte first.
struct expected_tensor {
    std::string name;
    std::string type;
    std::vector<index_t> shape;
    std::vector<std::uint8_t> bytes;

    friend bool operator==(const expected_tensor&, const expected_tensor&) = default;
};

template <class Numbers>
std::vector<std::uint8_t> lowest_byte_first(const Numbers& numbers) {
    std::vector<std::uint8_t> bytes;
    for (const auto number : numbers)
        for (std::size_t b = 0; b < sizeof number; ++b) bytes.push_back(static_cast<std::uint8_t>(number >> 8 * b & 255));
    return bytes;
}

template <class T>
std::vector<std::uint8_t> lowest_byte_first(const magr::matrix<T>& m) {
    std::vector<T> numbers;
    for (index_t i = 0; i < m.rows(); ++i)
        for (index_t j = 0; j < m.cols(); ++j) numbers.push_back(m(i, j));
    return lowest_byte_first(numbers);
}

std::vector<expected_tensor> copied(const std::vector<magr::named_tensor>& tensors) {
    std::vector<expected_tensor> copies;
    for (const auto& [name, type, shape, bytes] : tensors) {
        copies.push_back({std::string(name), std::string(type), shape, {}});
        for (const std::byte b : bytes) copies.back().bytes.push_back(std::to_integer<std::uint8_t>(b));
    }
    return copies;
}

/// Whether the product of shape and bytes of an element is the number of bytes.
bool fills_its_shape(const expected_tensor& t) {
    const std::size_t width = t.type == "I64" ? 8 : t.type == "U8" ? 1 : t.type.ends_with("16") ? 2 : 4;
    std::size_t size = width;
    for (const index_t n : t.shape) size *= static_cast<std::size_t>(n);
    return size == t.bytes.size();
}

magr::quantized_matrix<float> sample(index_t rows, index_t cols, int bits, zero_point zero, index_t group, storage_type storage,
                                     int lowest_zero = 0) {
    std::mt19937 random(1);
    return samples::quantized(rows, cols, {.bits = bits, .zero_point = zero, .group_size = group, .storage = storage}, random, lowest_zero);
}

template <class T>
concept has_named_tensors = requires(T&& packed) {
    { named_tensors(std::forward<T>(packed)) } -> std::same_as<std::vector<magr::named_tensor>>;
};
static_assert(has_named_tensors<magr::awq_tensors&> && has_named_tensors<const magr::awq_tensors&>);
static_assert(!has_named_tensors<magr::awq_tensors> && !has_named_tensors<const magr::awq_tensors>, "the tensors would dangle");

}  // namespace

TEST_CASE("named_tensors: GPTQ", "[pack][named_tensors][oracle]") {
    const auto packed = magr::pack_gptq(sample(64, 96, 3, zero_point::integer, 32, storage_type::f16, 1), magr::gptq_version::v1);
    const auto tensors = copied(named_tensors(packed));
    // K bits / 32 x N words, groups x N bits / 32 words
    CHECK(tensors == std::vector<expected_tensor>{{"qweight", "I32", {9, 64}, lowest_byte_first(packed.qweight)},
                                                  {"qzeros", "I32", {3, 6}, lowest_byte_first(packed.qzeros)},
                                                  {"scales", "F16", {3, 64}, lowest_byte_first(packed.scales)},
                                                  {"g_idx", "I32", {96}, lowest_byte_first(packed.g_idx)}});
    for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));
}

TEST_CASE("named_tensors: AWQ", "[pack][named_tensors][oracle]") {
    const auto packed = magr::pack_awq(sample(24, 64, 4, zero_point::integer, 32, storage_type::f16));
    const auto tensors = copied(named_tensors(packed));
    CHECK(tensors == std::vector<expected_tensor>{{"qweight", "I32", {64, 3}, lowest_byte_first(packed.qweight)},
                                                  {"qzeros", "I32", {2, 3}, lowest_byte_first(packed.qzeros)},
                                                  {"scales", "F16", {2, 24}, lowest_byte_first(packed.scales)}});
    for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));
}

TEST_CASE("named_tensors: compressed-tensors has what the layer needs", "[pack][named_tensors][oracle]") {
    auto q = sample(20, 48, 4, zero_point::none, 16, storage_type::bf16);
    const auto symmetric = magr::pack_compressed_tensors(q);
    auto tensors = copied(named_tensors(symmetric));
    CHECK(tensors == std::vector<expected_tensor>{{"weight_packed", "I32", {20, 6}, lowest_byte_first(symmetric.weight_packed)},
                                                  {"weight_scale", "BF16", {20, 3}, symmetric.weight_scale.bytes},
                                                  {"weight_shape", "I64", {2}, lowest_byte_first(std::vector<std::int64_t>{20, 48})}});
    for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));

    q = sample(20, 48, 4, zero_point::integer, 16, storage_type::f32);
    std::swap(q.group_of_column[0], q.group_of_column[47]);
    const auto general = magr::pack_compressed_tensors(q);
    tensors = copied(named_tensors(general));
    CHECK(tensors == std::vector<expected_tensor>{{"weight_packed", "I32", {20, 6}, lowest_byte_first(general.weight_packed)},
                                                  {"weight_scale", "F32", {20, 3}, general.weight_scale.bytes},
                                                  {"weight_zero_point", "I32", {3, 3}, lowest_byte_first(general.weight_zero_point)},
                                                  {"weight_shape", "I64", {2}, lowest_byte_first(std::vector<std::int64_t>{20, 48})},
                                                  {"weight_g_idx", "I32", {48}, lowest_byte_first(general.weight_g_idx)}});
    for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));
}

TEST_CASE("named_tensors: MatMulNBits", "[pack][named_tensors][oracle]") {
    // 3 x 40 in blocks of 16: three blocks of 8 bytes at 4 bits, and two bytes of zero points
    for (const auto zero : {zero_point::none, zero_point::integer, zero_point::real}) {
        const auto packed = magr::pack_matmul_nbits(sample(3, 40, 4, zero, 16, storage_type::f16));
        const auto tensors = copied(named_tensors(packed));
        std::vector<expected_tensor> expected = {{"B", "U8", {3, 3, 8}, lowest_byte_first(packed.B)},
                                                 {"scales", "F16", {3, 3}, packed.scales.bytes}};
        if (zero == zero_point::integer) expected.push_back({"zero_points", "U8", {3, 2}, lowest_byte_first(packed.zero_points)});
        if (zero == zero_point::real) expected.push_back({"zero_points", "F16", {3, 3}, packed.real_zero_points.bytes});
        CHECK(tensors == expected);
        for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));
    }
}

TEST_CASE("named_tensors: MLX", "[pack][named_tensors][oracle]") {
    const auto packed = magr::pack_mlx(sample(4, 64, 6, zero_point::offset, 32, storage_type::f16));
    const auto tensors = copied(named_tensors(packed));
    CHECK(tensors == std::vector<expected_tensor>{{"weight", "U32", {4, 12}, lowest_byte_first(packed.weight)},
                                                  {"scales", "F16", {4, 2}, packed.scales.bytes},
                                                  {"biases", "F16", {4, 2}, packed.biases.bytes}});
    for (const auto& tensor : tensors) CHECK(fills_its_shape(tensor));
}

TEST_CASE("named_tensors: dINT", "[pack][named_tensors][oracle]") {
    magr::dint_tensors packed;
    packed.bits = 3;
    packed.codes = magr::matrix<std::uint8_t>(2, 9);  // 24 codes of 3 bits
    packed.codes(1, 8) = 7;
    packed.scales = {storage_type::f32, 2, 1, {0, 0, 0x80, 0x3F, 0, 0, 0, 0x40}};
    packed.zero_points = magr::matrix<std::uint8_t>(2, 1);
    CHECK(copied(named_tensors(packed)) == std::vector<expected_tensor>{{"codes", "U8", {2, 9}, lowest_byte_first(packed.codes)},
                                                                        {"scales", "F32", {2, 1}, packed.scales.bytes},
                                                                        {"zero_points", "U8", {2, 1}, {0, 0}}});
}

TEST_CASE("named_tensors: bytes are those of the layer and not copies", "[pack][named_tensors]") {
    const auto packed = magr::pack_gptq(sample(32, 32, 4, zero_point::none, 32, storage_type::f16), magr::gptq_version::v2);
    const auto tensors = named_tensors(packed);
    CHECK(static_cast<const void*>(tensors[0].bytes.data()) == packed.qweight.data());
    CHECK(static_cast<const void*>(tensors[3].bytes.data()) == packed.g_idx.data());
}

TEST_CASE("named_tensors: a layer without anything has empty tensors", "[pack][named_tensors][edge]") {
    const magr::gptq_tensors gptq;
    const magr::matmul_nbits_tensors nbits;
    for (const auto& tensor : named_tensors(gptq)) CHECK(tensor.bytes.empty());
    CHECK(named_tensors(nbits).size() == 2);
}
