// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>
#include <magr/preprocess/observer.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Tells an observer how many rows are done.
class progress_counter {
public:
    progress_counter(observer_ref observer, index_t rows) : observer_(observer), rows_(rows) {}

    [[nodiscard]] bool is_used() const noexcept { return observer_.is_used(); }

    /// @return  whether to go on
    [[nodiscard]] bool add(index_t done) {
        done_ += done;
        return done == 0 || !is_used() || observer_({done_, rows_}) == observer_flow::proceed || done_ == rows_;
    }

private:
    observer_ref observer_;
    index_t rows_;
    index_t done_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
