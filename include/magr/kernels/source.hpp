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

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::kernels
