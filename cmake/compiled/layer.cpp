// SPDX-License-Identifier: MIT
#include <magr/layer/core_impl.hpp>

// What the headers declare for each arithmetic type.
#define MAGR_INSTANTIATE(Scalar)                                                                                                  \
    namespace magr::detail::inline MAGR_ISA_NAMESPACE {                                                                           \
    template layer_result<Scalar> run_layer<Scalar>(const matrix_ref&, const gram_argument&, const char*, std::optional<index_t>, \
                                                    const layer_options&, executor_ref);                                          \
    template layer_result<Scalar> layer_checked<Scalar>(matrix_view<const Scalar>, const hessian&, std::optional<index_t>,        \
                                                        const layer_options&, executor_ref);                                      \
    template std::size_t layer_bytes<Scalar>(index_t, index_t, const layer_options&, index_t);                                    \
    }

MAGR_INSTANTIATE(float)
MAGR_INSTANTIATE(double)
#undef MAGR_INSTANTIATE
