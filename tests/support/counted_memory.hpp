// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

/// Replaces operator new and delete by versions that count. Only one file of a program may include it.
namespace counted_memory {

inline std::atomic<std::size_t> live{0};         ///< bytes
inline std::atomic<std::size_t> most{0};         ///< the most that were live at once, since it was last set
inline std::atomic<std::size_t> allocations{0};  ///< so far

/// Null if there is no memory. The size is stored in front of the memory, in as many bytes as keep it aligned.
inline void* allocate(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    auto* const block = static_cast<std::byte*>(std::aligned_alloc(alignment, (size / alignment + 2) * alignment));
    if (block == nullptr) return nullptr;
    std::memcpy(block, &size, sizeof size);
    ++allocations;
    const std::size_t now = live += size;
    std::size_t seen = most;
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    return block + alignment;
}

inline void* allocate_or_throw(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
    if (void* p = allocate(size, alignment)) return p;
    throw std::bad_alloc();
}

/// Not inlined: next to a `new` that it sees, g++ 14 considers a bare `free` a mistake.
[[gnu::noinline]] inline void release(void* p, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    if (p == nullptr) return;
    std::byte* const block = static_cast<std::byte*>(p) - alignment;
    std::size_t size = 0;
    std::memcpy(&size, block, sizeof size);
    live -= size;
    std::free(block);
}

/// The peak number of bytes that `function` allocates. Eigen's own allocations are not seen.
template <class Function>
std::size_t peak_of(const Function& function) {
    const std::size_t before = live;
    most = before;
    function();
    return most - before;
}

}  // namespace counted_memory

// Under the thread sanitizer nothing is counted: clang links a runtime that defines these operators itself.
#if defined(__SANITIZE_THREAD__)
#define MAGR_TEST_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MAGR_TEST_THREAD_SANITIZER
#endif
#endif
#ifndef MAGR_TEST_THREAD_SANITIZER
// All operators that a program may replace: a sanitizer provides the missing ones, and they would not match the others.
void* operator new(std::size_t size) { return counted_memory::allocate_or_throw(size); }
void* operator new[](std::size_t size) { return counted_memory::allocate_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted_memory::allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted_memory::allocate(size); }
void* operator new(std::size_t size, std::align_val_t a) { return counted_memory::allocate_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t size, std::align_val_t a) { return counted_memory::allocate_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return counted_memory::allocate(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return counted_memory::allocate(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { counted_memory::release(p); }
void operator delete[](void* p) noexcept { counted_memory::release(p); }
void operator delete(void* p, std::size_t) noexcept { counted_memory::release(p); }
void operator delete[](void* p, std::size_t) noexcept { counted_memory::release(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { counted_memory::release(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { counted_memory::release(p); }
void operator delete(void* p, std::align_val_t a) noexcept { counted_memory::release(p, static_cast<std::size_t>(a)); }
void operator delete[](void* p, std::align_val_t a) noexcept { counted_memory::release(p, static_cast<std::size_t>(a)); }
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept { counted_memory::release(p, static_cast<std::size_t>(a)); }
void operator delete[](void* p, std::size_t, std::align_val_t a) noexcept { counted_memory::release(p, static_cast<std::size_t>(a)); }
void operator delete(void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
    counted_memory::release(p, static_cast<std::size_t>(a));
}
void operator delete[](void* p, std::align_val_t a, const std::nothrow_t&) noexcept {
    counted_memory::release(p, static_cast<std::size_t>(a));
}
#endif
