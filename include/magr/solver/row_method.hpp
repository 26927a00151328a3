// SPDX-License-Identifier: MIT
#pragma once

#include <magr/solver/packed_matrix.hpp>
#include <magr/solver/row_bounds.hpp>
#include <magr/solver/row_tile.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// An iteration for the rows of a `layer_problem`, with one matrix product each. `row_solver` runs it, and decides when a row is done.
template <compute_scalar S>
class row_method {
public:
    virtual ~row_method() = default;

    /// The matrix that rows are multiplied by.
    [[nodiscard]] virtual const packed_matrix<S>& matrix() const noexcept = 0;

    /// e^T H_d e <= curvature e^T M e for the differences e between two iterates, where M is the metric of the method; may be an estimate.
    [[nodiscard]] virtual double curvature() const noexcept = 0;

    /// z, u <- the first point of row r, product of `slot` <- the next operand of the matrix
    virtual void start(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot, double alpha) const noexcept = 0;

    /// z, u <- the next point, from the product; product <- the next operand; y <- a point near z, less w0, and g <- H_d y
    /// @return  the bounds of the row
    [[nodiscard]] virtual row_bounds advance(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot,
                                             double alpha) const noexcept = 0;

    /// product of `slot` <- the next operand of the matrix, computed again
    virtual void prepare(const layer_problem& problem, const row_tile<S>& t, index_t r, index_t slot) const noexcept = 0;

protected:
    row_method() = default;
    row_method(const row_method&) = default;
    row_method(row_method&&) = default;
    row_method& operator=(const row_method&) = default;
    row_method& operator=(row_method&&) = default;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
