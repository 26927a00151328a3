// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/observer_flow.hpp>

namespace magr {

/// Tells an observer how far the work has come, each time that some rows are done.
struct preprocess_progress {
    index_t rows_done = 0;  ///< rows that have their final values: the first ones, unless rows differ much in size or in precision
    index_t rows = 0;       ///< of W
};

/// A callable that takes `const preprocess_progress&` and returns `observer_flow` or nothing.
///
/// It is called on the caller's thread. After `observer_flow::stop` the unfinished rows keep the weights that were passed in, and the
/// result says `cancelled`. It may throw; W is then unchanged. Unless the call is declared noexcept, this needs a copy of W.
template <class Observer>
concept progress_observer = std::invocable<Observer&, const preprocess_progress&> &&
                            (std::same_as<std::invoke_result_t<Observer&, const preprocess_progress&>, observer_flow> ||
                             std::is_void_v<std::invoke_result_t<Observer&, const preprocess_progress&>>);

/// The observer that does nothing.
struct ignore_progress {
    constexpr void operator()(const preprocess_progress&) const noexcept {}
};

namespace detail {

/// Whether a call of the observer may throw, which requires a copy of W.
template <progress_observer Observer>
inline constexpr bool may_throw = !std::is_nothrow_invocable_v<Observer&, const preprocess_progress&>;

inline namespace MAGR_ISA_NAMESPACE {

template <progress_observer Observer>
[[nodiscard]] observer_flow notify(Observer& observer, const preprocess_progress& info) {
    if constexpr (std::is_void_v<std::invoke_result_t<Observer&, const preprocess_progress&>>) {
        observer(info);
        return observer_flow::proceed;
    } else {
        return observer(info);
    }
}

/// A type-erased observer of two pointers, like `executor_ref`; by default it is `ignore_progress`.
class observer_ref {
public:
    observer_ref() = default;

    /// @param tell  calls the observer and returns its flow; it must live as long
    template <class Tell>
    explicit observer_ref(const Tell& tell) noexcept
        : tell_(&tell),
          call_([](const void* data, const preprocess_progress& progress) { return (*static_cast<const Tell*>(data))(progress); }) {}

    /// Whether there is an observer.
    [[nodiscard]] bool is_used() const noexcept { return call_ != nullptr; }
    /// @pre  `is_used()`
    [[nodiscard]] observer_flow operator()(const preprocess_progress& progress) const { return call_(tell_, progress); }

private:
    const void* tell_ = nullptr;
    observer_flow (*call_)(const void* tell, const preprocess_progress&) = nullptr;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
