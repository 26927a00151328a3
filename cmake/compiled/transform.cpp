// SPDX-License-Identifier: MIT
#include <magr/transform/rotation_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                 \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                          \
    template void rotate_rows<Scalar>(const rotation&, matrix_view<Scalar>, bool, executor_ref); \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
