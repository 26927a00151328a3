// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdlib>
#include <new>

#include "kernels/samples.hpp"
#include "support/catch.hpp"

namespace {

long allocations = 0;

/// Null if there is no memory.
void* allocate(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) noexcept {
    ++allocations;
    return std::aligned_alloc(alignment, (size / alignment + 1) * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment = alignof(std::max_align_t)) {
    if (void* p = allocate(size, alignment)) return p;
    throw std::bad_alloc();
}

/// Not inlined: next to a `new` that it knows, g++ 14 takes a bare `free` for a mistake.
[[gnu::noinline]] void release(void* p) noexcept { std::free(p); }

}  // namespace

// All that a program may replace: a sanitizer provides those that are missing, and they would not fit the others.
void* operator new(std::size_t size) { return allocate_or_throw(size); }
void* operator new[](std::size_t size) { return allocate_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t a) { return allocate_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t size, std::align_val_t a) { return allocate_or_throw(size, static_cast<std::size_t>(a)); }
void* operator new(std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { release(p); }

TEMPLATE_TEST_CASE("kernels: nothing is allocated", "[kernels][property]", float, double) {
    const long before_any = allocations;
    for (auto& s : samples::all<TestType>({1, 129, 4096})) {
        const auto t = static_cast<double>(samples::total_of(oracle::prox_elements(s.v, s.d), 0.1));
        const std::span v(s.v);
        const long before = allocations;
        if (s.d.empty()) {
            magr::prox_linf(v, t);
            magr::project_l1_ball(v, t / 2);
        } else {
            magr::prox_linf(v, s.d, t);
            magr::project_l1_ball(v, s.d, t / 2);
        }
        CHECK(allocations == before);
    }
    CHECK(allocations > before_any);  // the samples themselves are counted
}

TEST_CASE("kernels: nothing is allocated for a matrix of any storage", "[kernels][property]") {
    Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> M(6, 3000);
    M.setConstant(Eigen::half(0.5F));
    const std::vector<float> d(3000, 2.0F);
    const long before = allocations;
    magr::prox_linf(M, 1.0);
    magr::prox_linf(M, d, 1.0, {magr::axis::rows, 128});
    magr::project_l1_ball(M, 1.0, {magr::axis::columns});
    CHECK(allocations == before);
}
