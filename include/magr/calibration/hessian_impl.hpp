// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <magr/calibration/hessian.hpp>
#include <magr/detail/contract.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE double hessian::checked(const detail::matrix_ref& H, double dead_threshold, executor_ref exec) {
    detail::require_not_empty("hessian", "H", H);
    detail::require_gram("hessian", "H", H, H.rows(), exec);
    detail::require_option(dead_threshold >= 0 && dead_threshold < 1, "hessian", "dead_threshold", "in [0, 1)", dead_threshold);
    return dead_threshold;
}

MAGR_CORE const void* hessian::find(const void* type, const std::vector<double>& key) const {
    for (const remembered& one : memory_)
        if (one.type == type && one.key == key) return one.made.get();
    return nullptr;
}

MAGR_CORE const void* hessian::keep(const void* type, const std::vector<double>& key, std::shared_ptr<const void> made) const {
    memory_.push_back({type, key, std::move(made)});
    ++made_;
    return memory_.back().made.get();
}

MAGR_CORE void hessian::forget(const void* type) const {
    std::vector<remembered> rest;
    for (remembered& one : memory_)
        if (one.type != type) rest.push_back(std::move(one));
    memory_ = std::move(rest);
}

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_CORE used_hessian::used_hessian(const char* function, const matrix_ref& W, const gram_argument& H, double threshold, executor_ref exec,
                                     const char* name_of_H) {
    if (H.made() == nullptr) {
        require_layer(function, W, H.matrix(), exec, name_of_H);
        used_ = &own_.emplace(H.matrix(), threshold, false);
        return;
    }
    require_not_empty(function, "W", W);
    require_distinct(function, "W", W);
    require_shape(function, name_of_H, H.matrix(), W.cols(), W.cols());
    require_finite(function, "W", W, exec);
    used_ = threshold <= H.made()->dead_threshold() ? H.made() : &own_.emplace(H.matrix(), threshold, false);
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
