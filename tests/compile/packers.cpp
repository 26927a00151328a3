// SPDX-License-Identifier: MIT
// Must not compile: the compiler says why, see CMakeLists.txt. Its assertion fails with another message if a packer takes the matrix.
#include <concepts>

#include <magr/pack.hpp>
#include <magr/transform/transformed_matrix.hpp>

using magr::transformed_matrix;

template <class Scalar>
constexpr bool are_refused = requires(const transformed_matrix<Scalar>& q) {
    { magr::pack_awq(q) } -> std::same_as<void>;
    { magr::pack_compressed_tensors(q) } -> std::same_as<void>;
    { magr::pack_gguf(q, magr::ggml_type::q4_0) } -> std::same_as<void>;
    { magr::pack_gptq(q, magr::gptq_version::v1) } -> std::same_as<void>;
    { magr::pack_matmul_nbits(q) } -> std::same_as<void>;
    { magr::pack_mlx(q) } -> std::same_as<void>;
};
static_assert(are_refused<float> && are_refused<double>, "a packer takes a matrix in another basis");

void call(const transformed_matrix<float>& q) { magr::pack_gptq(q, magr::gptq_version::v2); }
