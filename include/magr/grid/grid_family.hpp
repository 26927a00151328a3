// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <magr/grid/code_map.hpp>
#include <magr/grid/rounding.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/matrix/scalar.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// One grid, as a rounding sees it: its points are the whole numbers of steps from `lowest()` to `highest()`, in the order of their
/// weights.
///
/// `steps(w)` is where a weight lies between them: linear between two points, so that the nearest whole number is the nearest point, and
/// whatever is outside of the grid for weights outside of it. `weight(k)` and `code(k)` are those of point k, `weight_of_code(c)` is what a
/// decoder makes of a stored code.
template <class M, class Scalar>
concept grid_map = requires(const M& map, Scalar number, std::uint8_t code) {
    { map.steps(number) } -> std::same_as<Scalar>;
    { map.lowest() } -> std::same_as<Scalar>;
    { map.highest() } -> std::same_as<Scalar>;
    { map.weight(number) } -> std::same_as<Scalar>;
    { map.code(number) } -> std::same_as<std::uint8_t>;
    { map.weight_of_code(code) } -> std::same_as<Scalar>;
};

/// The grids of a weight matrix of a kind of their own: each weight has its `map(row, column)`. A new kind of grid is one such type and a
/// function that fits it; `round_onto` does the rest. `weight_grids` are the kinds that engines load.
///
/// `require(function, rows, cols)` throws if the grids are not usable, or not those of a rows x cols matrix.
template <class G>
concept grid_family = compute_scalar<typename G::scalar> &&
                      requires(const G& grids, const char* function, index_t row, index_t column, index_t rows, index_t cols) {
                          { grids.map(row, column) } -> grid_map<typename G::scalar>;
                          grids.require(function, rows, cols);
                      };

/// A quantized weight matrix whose grids are of a kind of their own.
template <grid_family Grids>
struct coded_matrix {
    Grids grids;
    matrix<std::uint8_t> codes;  ///< rows x cols

    /// The weights that the codes represent, rows x cols.
    /// @par Cost      O(rows * cols), allocates the result
    [[nodiscard]] matrix<typename Grids::scalar> dequantize() const {
        matrix<typename Grids::scalar> weights(codes.rows(), codes.cols());
        for (index_t i = 0; i < codes.rows(); ++i)
            for (index_t j = 0; j < codes.cols(); ++j) weights(i, j) = grids.map(i, j).weight_of_code(codes(i, j));
        return weights;
    }
};

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Rounds columns to grids of any kind: a `column_quantizer`. It keeps references to `order` and `out`, which must outlive it.
template <grid_family Grids, rounding_policy<typename Grids::scalar> Rounding>
class family_quantizer {
public:
    using scalar = typename Grids::scalar;

    family_quantizer(coded_matrix<Grids>& out, std::span<const index_t> order, Rounding rounding)
        : out_(out), order_(order), rounding_(std::move(rounding)) {}

    void operator()(index_t k, index_t first_row, std::span<const scalar> weights, std::span<scalar> rounded) {
        const index_t column = order_[static_cast<std::size_t>(k)];
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const index_t row = first_row + static_cast<index_t>(i);
            const auto map = out_.grids.map(row, column);
            const scalar steps = steps_on_grid(map, weights[i], row, column, rounding_);
            out_.codes(row, column) = map.code(steps);
            rounded[i] = map.weight(steps);
        }
    }

private:
    coded_matrix<Grids>& out_;
    std::span<const index_t> order_;
    Rounding rounding_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
