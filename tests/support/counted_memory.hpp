// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

/// Replaces operator new and delete, and with glibc also malloc and free, from which Eigen takes its memory, by versions that count. Only
/// one file of a program may include it.
// Under a sanitizer, which has its own malloc, Eigen's memory is not counted.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MAGR_TEST_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define MAGR_TEST_SANITIZER
#endif
#endif
#if defined(__GLIBC__) && !defined(MAGR_TEST_SANITIZER)
#define MAGR_TEST_COUNTS_MALLOC
#include <malloc.h>
#include <cerrno>
extern "C" {  // what glibc's own functions call
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* p, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* p);
}
#endif

namespace counted_memory {

inline std::atomic<std::size_t> live{0};         ///< bytes
inline std::atomic<std::size_t> most{0};         ///< the most that were live at once, since it was last set
inline std::atomic<std::size_t> allocations{0};  ///< so far

inline void count(std::size_t size) noexcept {
    const std::size_t now = live += size;
    std::size_t seen = most;
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
}

#ifdef MAGR_TEST_COUNTS_MALLOC
inline void* aligned_block(std::size_t alignment, std::size_t size) noexcept { return __libc_memalign(alignment, size); }
inline void free_block(void* p) noexcept { __libc_free(p); }
#else
inline void* aligned_block(std::size_t alignment, std::size_t size) noexcept { return std::aligned_alloc(alignment, size); }
inline void free_block(void* p) noexcept { std::free(p); }
#endif

/// Null if there is no memory. The size is stored in front of the memory, in as many bytes as keep it aligned.
inline void* allocate(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    auto* const block = static_cast<std::byte*>(aligned_block(alignment, (size / alignment + 2) * alignment));
    if (block == nullptr) return nullptr;
    std::memcpy(block, &size, sizeof size);
    ++allocations;
    count(size);
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
    free_block(block);
}

/// The peak number of bytes that `function` allocates.
template <class Function>
std::size_t peak_of(const Function& function) {
    const std::size_t before = live;
    most = before;
    function();
    return most - before;
}

}  // namespace counted_memory

#ifdef MAGR_TEST_COUNTS_MALLOC
namespace counted_memory {
/// Counts what glibc made of a request, which may be a little more.
inline void* counted(void* p) noexcept {
    if (p != nullptr) count(malloc_usable_size(p));
    return p;
}
}  // namespace counted_memory
extern "C" {
void* malloc(std::size_t size) { return counted_memory::counted(__libc_malloc(size)); }
void* calloc(std::size_t n, std::size_t size) { return counted_memory::counted(__libc_calloc(n, size)); }
void* realloc(void* p, std::size_t size) {
    counted_memory::live -= malloc_usable_size(p);
    void* const moved = __libc_realloc(p, size);
    if (moved == nullptr && size > 0) counted_memory::live += malloc_usable_size(p);
    return counted_memory::counted(moved);
}
void* memalign(std::size_t alignment, std::size_t size) { return counted_memory::counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** p, std::size_t alignment, std::size_t size) noexcept {
    *p = memalign(alignment, size);
    return *p != nullptr ? 0 : ENOMEM;
}
void free(void* p) {
    counted_memory::live -= malloc_usable_size(p);
    __libc_free(p);
}
}
#endif

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
