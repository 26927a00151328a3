// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/sequential/sequential_window.hpp>

namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

/// A `column_quantizer` of any type, by pointers: what feeds errors through T is compiled once for all of them.
template <compute_scalar Scalar>
class column_quantizer_ref {
public:
    template <class Quantizer>
    explicit column_quantizer_ref(Quantizer& quantizer) noexcept
        : quantizer_(const_cast<void*>(static_cast<const void*>(&quantizer))), round_(&round<Quantizer>) {
        if constexpr (requires(const sequential_window<Scalar>& window) { quantizer.prepare(index_t{}, window); })
            prepare_ = [](void* self, index_t k, const sequential_window<Scalar>& window) {
                static_cast<Quantizer*>(self)->prepare(k, window);
            };
    }

    void prepare(index_t k, const sequential_window<Scalar>& window) const {
        if (prepare_ != nullptr) prepare_(quantizer_, k, window);
    }
    void operator()(index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) const {
        round_(quantizer_, k, first_row, weights, rounded);
    }

private:
    template <class Quantizer>
    static void round(void* self, index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded) {
        (*static_cast<Quantizer*>(self))(k, first_row, weights, rounded);
    }

    void* quantizer_;
    void (*round_)(void* quantizer, index_t k, index_t first_row, std::span<const Scalar> weights, std::span<Scalar> rounded);
    void (*prepare_)(void* quantizer, index_t k, const sequential_window<Scalar>& window) = nullptr;
};

/// A function of (first row, row count, strip) of any type, likewise.
template <compute_scalar Scalar>
class strip_function_ref {
public:
    template <class F>
        requires(!std::is_same_v<F, strip_function_ref>)
    strip_function_ref(const F& f) noexcept  // NOLINT(google-explicit-constructor)
        : f_(&f),
          call_([](const void* self, index_t row, index_t rows, Scalar* strip) { (*static_cast<const F*>(self))(row, rows, strip); }) {}

    void operator()(index_t row, index_t rows, Scalar* strip) const { call_(f_, row, rows, strip); }

private:
    const void* f_;
    void (*call_)(const void* f, index_t row, index_t rows, Scalar* strip);
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
