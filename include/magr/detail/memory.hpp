// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <magr/config.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/text.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix_view.hpp>

/// Checks of where a user's matrix lies in memory. None reads an element; each throws before anything is written.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

[[nodiscard]] constexpr std::size_t magnitude(index_t stride) noexcept {
    return stride < 0 ? std::size_t{0} - static_cast<std::size_t>(stride) : static_cast<std::size_t>(stride);
}

/// Whether all offsets of a matrix, in bytes, and its number of elements fit into `index_t`.
[[nodiscard]] inline bool offsets_fit(const matrix_ref& m) noexcept {
    std::size_t down, across, farthest, elements;
    const bool overflows = __builtin_mul_overflow(magnitude(m.row_stride()), static_cast<std::size_t>(m.rows() - 1), &down) ||
                           __builtin_mul_overflow(magnitude(m.col_stride()), static_cast<std::size_t>(m.cols() - 1), &across) ||
                           __builtin_add_overflow(down, across, &farthest) ||
                           __builtin_mul_overflow(static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()), &elements);
    constexpr auto most = static_cast<std::size_t>((std::numeric_limits<index_t>::max)()) / sizeof(double);
    return !overflows && farthest < most && elements <= most;
}

/// Refuses a matrix whose elements cannot be in memory: without data, or so far apart that no pointer gets from one to another.
inline void require_storage(const char* function, const char* argument, const matrix_ref& m) {
    if (m.rows() <= 0 || m.cols() <= 0) return;
    if (m.data() == nullptr)
        raise<shape_error>(concat(function, ": ", argument, " must have data, it is ", shape_text(m), " with a null pointer"));
    if (!offsets_fit(m))
        raise<shape_error>(concat(function, ": ", argument, " must fit into memory, it is ", shape_text(m), " with strides ",
                                  m.row_stride(), " and ", m.col_stride()));
}

/// Whether no two elements of a matrix share memory. Elements a rows and b columns apart do if a `row_stride` = b `col_stride`; the least
/// such a and b are the strides over their greatest common divisor.
[[nodiscard]] inline bool are_distinct(const matrix_ref& m) noexcept {
    const std::size_t down = magnitude(m.row_stride()), across = magnitude(m.col_stride());
    if (down == 0 && across == 0) return m.rows() <= 1 && m.cols() <= 1;
    const std::size_t divisor = std::gcd(down, across);
    return across / divisor >= static_cast<std::size_t>(m.rows()) || down / divisor >= static_cast<std::size_t>(m.cols());
}

/// Refuses a matrix two elements of which share memory, as they do if the leading dimension is shorter than a row. Only activations, which
/// are only read, may be such: windows that slide over a signal.
inline void require_distinct(const char* function, const char* argument, const matrix_ref& m) {
    if (m.rows() <= 0 || m.cols() <= 0 || are_distinct(m)) return;
    raise<shape_error>(concat(function, ": ", argument, " must have memory of its own for each element, but is ", shape_text(m),
                              " with strides ", m.row_stride(), " and ", m.col_stride()));
}

/// Bytes by their addresses, both ends included.
struct memory_range {
    std::uintptr_t first, last;

    [[nodiscard]] static memory_range between(const void* one, const void* other, std::ptrdiff_t size) noexcept {
        const auto a = reinterpret_cast<std::uintptr_t>(one), b = reinterpret_cast<std::uintptr_t>(other);
        return {(std::min)(a, b), (std::max)(a, b) + static_cast<std::uintptr_t>(size) - 1};
    }
    [[nodiscard]] bool meets(const memory_range& other) const noexcept { return first <= other.last && other.first <= last; }
};

/// The bytes from the first element of a matrix to the last.
[[nodiscard]] inline memory_range range_of(const matrix_ref& m) noexcept {
    const memory_range one = memory_range::between(m.data(), m.data(m.rows() - 1, m.cols() - 1), m.type().size);
    const memory_range other = memory_range::between(m.data(m.rows() - 1, 0), m.data(0, m.cols() - 1), m.type().size);
    return {(std::min)(one.first, other.first), (std::max)(one.last, other.last)};
}

/// Ranges of all rows, or of all columns if these are nearer in memory, by rising addresses.
[[nodiscard]] inline std::vector<memory_range> ranges_of(const matrix_ref& m) {
    const bool by_rows = magnitude(m.row_stride()) >= magnitude(m.col_stride());
    const matrix_ref lines = by_rows ? m : m.transposed();
    std::vector<memory_range> ranges;
    ranges.reserve(static_cast<std::size_t>(lines.rows()));
    for (index_t k = 0; k < lines.rows(); ++k) {
        const index_t i = lines.row_stride() < 0 ? lines.rows() - 1 - k : k;
        ranges.push_back(memory_range::between(lines.data(i, 0), lines.data(i, lines.cols() - 1), lines.type().size));
    }
    return ranges;
}

/// Whether rows of two matrices lie in the same memory. Rows between each other, as those of two blocks of one matrix, do not.
/// @pre  `require_storage` accepts both
[[nodiscard]] inline bool share_memory(const matrix_ref& a, const matrix_ref& b) {
    if (a.rows() <= 0 || a.cols() <= 0 || b.rows() <= 0 || b.cols() <= 0 || !range_of(a).meets(range_of(b))) return false;
    const std::vector<memory_range> all = ranges_of(a), others = ranges_of(b);
    auto other = others.begin();
    for (const memory_range& range : all) {
        while (other != others.end() && other->last < range.first) ++other;
        if (other != others.end() && other->meets(range)) return true;
    }
    return false;
}

/// Refuses a matrix that lies in the memory of another, which is written to.
inline void require_apart(const char* function, const char* written, const matrix_ref& W, const char* argument, const matrix_ref& m) {
    if (share_memory(W, m)) raise<shape_error>(concat(function, ": ", argument, " must not lie in the memory of ", written));
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
