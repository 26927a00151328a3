// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/parallel/flow.hpp>

namespace magr {

/// What an observer is told each time that some rows are done.
struct preprocess_progress {
    index_t rows_done = 0;  ///< how many rows have their final values: the first ones, unless rows differ much in size or in precision
    index_t rows = 0;       ///< of W
};

/// A callable that takes `const preprocess_progress&` and returns `flow` or nothing.
///
/// It is called on the caller's thread. After `flow::stop` the rows that are not done keep the weights that were passed in, and the result
/// says `cancelled`. It may throw; W is then as it was before the call, for which a copy is kept if it is not declared noexcept.
template <class Observer>
concept progress_observer = std::invocable<Observer&, const preprocess_progress&> &&
                            (std::same_as<std::invoke_result_t<Observer&, const preprocess_progress&>, flow> ||
                             std::is_void_v<std::invoke_result_t<Observer&, const preprocess_progress&>>);

/// The observer that does nothing.
struct ignore_progress {
    constexpr void operator()(const preprocess_progress&) const noexcept {}
};

namespace detail {

/// Whether a call of the observer may throw, so that W has to be copied.
template <progress_observer Observer>
inline constexpr bool may_throw = !std::is_nothrow_invocable_v<Observer&, const preprocess_progress&>;

inline namespace MAGR_ISA_NAMESPACE {

template <progress_observer Observer>
[[nodiscard]] flow notify(Observer& observer, const preprocess_progress& info) {
    if constexpr (std::is_void_v<std::invoke_result_t<Observer&, const preprocess_progress&>>) {
        observer(info);
        return flow::proceed;
    } else {
        return observer(info);
    }
}

/// An observer behind two pointers, as `executor_ref` is an executor; without one it is `ignore_progress`.
class observer_ref {
public:
    observer_ref() = default;

    /// @param tell  calls the observer and answers with its flow; it must live as long
    template <class Tell>
    explicit observer_ref(const Tell& tell) noexcept
        : tell_(&tell),
          call_([](const void* data, const preprocess_progress& progress) { return (*static_cast<const Tell*>(data))(progress); }) {}

    /// Whether anybody looks.
    [[nodiscard]] bool is_used() const noexcept { return call_ != nullptr; }
    /// @pre  `is_used()`
    [[nodiscard]] flow operator()(const preprocess_progress& progress) const { return call_(tell_, progress); }

private:
    const void* tell_ = nullptr;
    flow (*call_)(const void* tell, const preprocess_progress&) = nullptr;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr
