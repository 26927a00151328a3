// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Undoes what was written to a matrix, unless told to keep it.
template <class T>
class rollback {
public:
    explicit rollback(matrix_view<T> m) : view_(m), values_(m.rows(), m.cols()) { copy(m, values_.view()); }
    rollback(const rollback&) = delete;
    rollback& operator=(const rollback&) = delete;
    ~rollback() {
        if (!kept_) copy(values_.view(), view_);
    }
    void keep() noexcept { kept_ = true; }

private:
    static void copy(matrix_view<const T> from, matrix_view<T> to) noexcept {
        for (index_t i = 0; i < from.rows(); ++i)
            for (index_t j = 0; j < from.cols(); ++j) to(i, j) = from(i, j);
    }

    matrix_view<T> view_;
    matrix<T> values_;
    bool kept_ = false;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
