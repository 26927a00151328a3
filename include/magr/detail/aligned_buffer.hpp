// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// Uninitialised memory for n numbers that starts at a cache line.
template <class T>
class aligned_buffer {
    static_assert(std::is_trivially_default_constructible_v<T> && std::is_trivially_destructible_v<T>);

public:
    static constexpr std::size_t alignment = 64;

    explicit aligned_buffer(index_t n)
        : data_(static_cast<T*>(::operator new(static_cast<std::size_t>(n) * sizeof(T), std::align_val_t{alignment}))) {}

    [[nodiscard]] T* data() const noexcept { return data_.get(); }

private:
    struct release {
        void operator()(T* p) const noexcept { ::operator delete(p, std::align_val_t{alignment}); }
    };
    std::unique_ptr<T, release> data_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
