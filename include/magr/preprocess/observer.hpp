// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <optional>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>

namespace magr {

/// What an observer answers.
enum class flow { proceed, stop };

/// What an observer is told after each iteration.
struct iteration_info {
    index_t iteration = 0;       ///< iterations done, from 1
    index_t max_iterations = 0;  ///< the limit
    std::optional<double> gap;   ///< relative duality gap, if this iteration checked it
};

/// A callable that takes `const iteration_info&` and returns `flow` or nothing.
///
/// It is called on the caller's thread, between iterations. After `flow::stop` W holds the last iterate and the result says `cancelled`.
/// It may throw; W is then as it was before the call.
template <class Observer>
concept progress_observer = std::invocable<Observer&, const iteration_info&> &&
                            (std::same_as<std::invoke_result_t<Observer&, const iteration_info&>, flow> ||
                             std::is_void_v<std::invoke_result_t<Observer&, const iteration_info&>>);

/// The observer that does nothing.
struct ignore_progress {
    constexpr void operator()(const iteration_info&) const noexcept {}
};

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

template <progress_observer Observer>
[[nodiscard]] flow notify(Observer& observer, const iteration_info& info) {
    if constexpr (std::is_void_v<std::invoke_result_t<Observer&, const iteration_info&>>) {
        observer(info);
        return flow::proceed;
    } else {
        return observer(info);
    }
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
