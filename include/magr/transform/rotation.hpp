// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {

/// The random orthogonal matrices of `rotation_transform`, V of size n x n.
///
/// | kind       | V, with n = p q or n = 2^k m                             | multiplications per number | numbers kept |
/// |------------|----------------------------------------------------------|----------------------------|--------------|
/// | orthogonal | permutation, q blocks p x p, p blocks q x q, permutation | p + q                      | n (p + q)    |
/// | hadamard   | random signs, F (x) M / sqrt(n)                          | m, and k additions         | n + m^2      |
///
/// orthogonal: all blocks are different uniform rotations. Of the prime factors of n in ascending order, p is the product of the first,
/// third, .. and q that of the others: 4096 = 64 * 64, 11008 = 688 * 16. A prime n has p = n: a dense matrix, which takes n^3
/// operations of one core to make and n^2 numbers to keep. For n = 11003 these are about half an hour and 1 GB.
///
/// hadamard: F is the Hadamard matrix of order 2^k. M is 1 if n is a power of two. Otherwise it is the smallest Hadamard matrix of Paley
/// (up to 512) that leaves a power of two: 5120 = 256 * 20, 14336 = 512 * 28; or, if there is none, the kind `orthogonal` for the odd part
/// of n: 11008 = 256 * 43. An odd n > 1 is refused.
enum class rotation_kind { orthogonal, hadamard };

/// The enumerator's name.
[[nodiscard]] constexpr const char* to_string(rotation_kind kind) noexcept {
    switch (kind) {
        case rotation_kind::orthogonal: return "orthogonal";
        case rotation_kind::hadamard: return "hadamard";
    }
    return "unknown";
}

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// An orthogonal matrix V that is applied fast.
class rotation {
public:
    rotation() = default;
    rotation(const rotation&) = delete;
    rotation& operator=(const rotation&) = delete;
    virtual ~rotation() = default;

    [[nodiscard]] virtual index_t size() const noexcept = 0;
    /// The number of elements of scratch memory that `apply` needs for so many columns.
    [[nodiscard]] virtual index_t scratch_size(index_t columns) const noexcept = 0;
    /// x <- V x, or V^T x if `transposed`.
    /// @param x  size() rows, contiguous. The bits of a column do not depend on the other columns
    virtual void apply(matrix_view<double> x, bool transposed, double* scratch) const noexcept = 0;
};

/// @param side    0 for outputs, 1 for inputs: they draw different numbers
/// @par Errors    option_error, shape_error
[[nodiscard]] MAGR_CORE std::shared_ptr<const rotation> make_rotation(const char* function, const char* argument, rotation_kind kind,
                                                                      index_t size, std::uint64_t seed, std::uint64_t side,
                                                                      executor_ref exec);

/// Every row x of M becomes V x, or V^T x if `transposed`, computed in double.
template <compute_scalar Scalar>
void rotate_rows(const rotation& V, matrix_view<Scalar> M, bool transposed, executor_ref exec);

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/transform/rotation_impl.hpp>
#endif
