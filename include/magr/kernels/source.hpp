// SPDX-License-Identifier: MIT
#pragma once

#include <magr/matrix/matrix_view.hpp>

namespace magr::kernels {
inline namespace MAGR_ISA_NAMESPACE {

/// A vector of n elements as contiguous blocks. `block(i, m, buffer)` returns a pointer to elements i..i+m, which a source without
/// contiguous elements of type T first copies into `buffer`; `write_back` returns them from there.
template <class T>
struct contiguous_source {
    T* data;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t, T*) const noexcept { return data + i; }
    MAGR_ALWAYS_INLINE void write_back(index_t, index_t, const T*) const noexcept {}
};

/// Elements with a stride or in a storage type that is converted for arithmetic.
template <class T, class Storage>
struct strided_source {
    Storage* data;
    index_t stride;
    MAGR_ALWAYS_INLINE T* block(index_t i, index_t m, T* buffer) const noexcept {
        for (index_t k = 0; k < m; ++k) buffer[k] = static_cast<T>(data[(i + k) * stride]);
        return buffer;
    }
    MAGR_ALWAYS_INLINE void write_back(index_t i, index_t m, const T* values) const noexcept {
        for (index_t k = 0; k < m; ++k) data[(i + k) * stride] = static_cast<Storage>(values[k]);
    }
};

/// The same source for code that only reads, so that this is compiled once for vectors that are written and those that are not.
template <class Source>
MAGR_ALWAYS_INLINE const Source& read_only(const Source& v) noexcept {
    return v;
}
template <class T>
MAGR_ALWAYS_INLINE contiguous_source<const T> read_only(const contiguous_source<T>& v) noexcept {
    return {v.data};
}

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
