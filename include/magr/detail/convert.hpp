// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>

#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>

/// Copies between a user's matrix, of any strides and storage type, and the row-major working matrices of the algorithms.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

template <compute_scalar S>
using row_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <compute_scalar S>
using col_major_matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;

/// Working copy of a matrix in the arithmetic type S.
template <compute_scalar S>
[[nodiscard]] row_major_matrix<S> load(const matrix_ref& m) {
    row_major_matrix<S> out(m.rows(), m.cols());
    if (m.is_by_rows()) {
        for (index_t i = 0; i < m.rows(); ++i) m.load_row(i, 0, m.cols(), out.data() + i * m.cols());
        return out;
    }
    constexpr index_t side = 32;  // squares, so that neither matrix is walked across its memory order over long distances
    S column[static_cast<std::size_t>(side)];
    for (index_t i0 = 0; i0 < m.rows(); i0 += side)
        for (index_t j = 0; j < m.cols(); ++j) {
            const index_t count = (std::min)(side, m.rows() - i0);
            m.load_column(i0, j, count, column);
            for (index_t i = 0; i < count; ++i) out(i0 + i, j) = column[i];
        }
    return out;
}

/// W in the arithmetic type S: as it is, or a copy.
template <compute_scalar S>
class weights_in {
public:
    explicit weights_in(const matrix_ref& W) {
        if (W.holds<S>()) {
            view_ = W.as<S>();
        } else {
            copy_ = load<S>(W);
            view_ = matrix_view<const S>(copy_.data(), W.rows(), W.cols());
        }
    }
    weights_in(const weights_in&) = delete;
    weights_in& operator=(const weights_in&) = delete;

    [[nodiscard]] matrix_view<const S> view() const noexcept { return view_; }

private:
    row_major_matrix<S> copy_;
    matrix_view<const S> view_;
};

/// Writes a working matrix back, rounding to the storage type.
inline void store(const row_major_matrix<double>& values, const mutable_matrix_ref& m) {
    for (index_t i = 0; i < m.rows(); ++i) m.store_row(i, 0, m.cols(), values.data() + i * m.cols());
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
