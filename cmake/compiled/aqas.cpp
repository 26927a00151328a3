// SPDX-License-Identifier: MIT
#include <magr/transform/aqas_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                          \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                   \
    template void round_to_fitted_grids(matrix_view<Scalar>, const grid_options&, executor_ref);                          \
    template aqas_result run_aqas<Scalar>(std::span<const matrix_ref>, const matrix_ref&, const weight_rounding<Scalar>&, \
                                          const aqas_options&, executor_ref);                                             \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
