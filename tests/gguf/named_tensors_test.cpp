// SPDX-License-Identifier: MIT
#include <magr/gguf/named_tensors.hpp>

#include <random>
#include <vector>

#include "pack/samples.hpp"
#include "support/catch.hpp"

TEST_CASE("named_tensors: the weight of a GGUF file", "[gguf][named_tensors][oracle]") {
    std::mt19937 random(1);
    const magr::grid_options options{.bits = 4, .zero_point = magr::zero_point::none, .group_size = 32, .storage = magr::storage_type::f16};
    const magr::gguf_tensor packed = magr::pack_gguf(samples::quantized(3, 64, options, random), magr::ggml_type::q4_0);
    const auto tensors = magr::named_tensors(packed);
    REQUIRE(tensors.size() == 1);
    CHECK(tensors[0].name == "weight");
    CHECK(tensors[0].type == "q4_0");
    CHECK(tensors[0].shape == std::vector<magr::index_t>{3, 64});
    CHECK(tensors[0].bytes.size() == 3 * 2 * 18);  // two blocks of 18 bytes in a row
    CHECK(static_cast<const void*>(tensors[0].bytes.data()) == packed.data.data());
}
