// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/calibration/gram.hpp>
#include <magr/calibration/live_gram.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/matrix/dense_matrix.hpp>
#include <magr/matrix/eigen.hpp>
#include <magr/matrix/matrix.hpp>
#include <magr/parallel/executor_ref.hpp>

namespace magr {
inline namespace MAGR_ISA_NAMESPACE {

/// The cost of weight errors at the output of a layer: the Gram matrix H of its inputs, checked once, with everything that methods derive
/// from it.
///
/// Layers that read the same inputs (query, key and value; gate and up) share one hessian: the first of them computes factors, the spectrum
/// of H and its packed copies, and the others reuse them. Every function that takes a Gram matrix also takes a hessian and gives the same
/// bits; only `quantize_automatic`, which changes H, does not.
///
/// @par Shapes    H: in x in, the Gram matrix X^T X of the inputs, any positive multiple of it, any storage and layout
/// @par Dead inputs  those with H_jj <= dead_threshold * mean, where the mean is that of the positive diagonal entries: their errors do not
///                   count. A function whose options ask for a larger threshold makes its own hessian
/// @par Errors    shape_error (H empty or not square), value_error (NaN, Inf, asymmetric H, a negative diagonal entry, an accumulator
///                without tokens), option_error (dead_threshold not in [0, 1))
/// @par Cost      reads H twice. It keeps a view of a matrix, which must outlive it unchanged, but owns a temporary and the Gram matrix of
///                an accumulator. Each method remembers what it derives from H, one or two matrices of H's size, until `forget` or
///                destruction
/// @par Threads   only one thread at a time may use it, because it remembers results; the executor may have any number of threads
class hessian {
public:
    template <class Gram>
        requires dense_matrix<const std::remove_cvref_t<Gram>>
    explicit hessian(Gram&& H, double dead_threshold = 0, executor_ref exec = {})
        : hessian(source_of(std::forward<Gram>(H)), dead_threshold, exec) {}

    template <compute_scalar Sum>
    explicit hessian(const gram_accumulator<Sum>& calibration, double dead_threshold = 0, executor_ref exec = {})
        : hessian(source_of(calibration.gram(exec)), dead_threshold, exec) {
        tokens_ = calibration.tokens();
    }

    hessian(const hessian&) = delete;
    hessian& operator=(const hessian&) = delete;

    [[nodiscard]] index_t inputs() const noexcept { return given_.cols(); }
    [[nodiscard]] index_t dead_inputs() const noexcept { return live_.dead_columns(); }
    [[nodiscard]] bool is_dead(index_t j) const noexcept { return live_.is_dead(j); }
    [[nodiscard]] double dead_threshold() const noexcept { return dead_threshold_; }
    /// The number of tokens of the accumulator that it was made from; no value for a matrix.
    [[nodiscard]] std::optional<index_t> tokens() const noexcept { return tokens_; }
    /// The mean of the diagonal entries of live inputs, which is the unit of every damping. 1 if no input is live.
    [[nodiscard]] double mean() const noexcept { return live_.mean(); }

    /// Returns what a method derives from H. The first call with a type and key computes it by `make()`; later calls return the same
    /// object. Your own methods may use it as well.
    /// @param key  the other settings that the result depends on
    /// @tparam Made  the type of the result; different results need different types
    template <class Made, class Make>
    [[nodiscard]] const Made& remember(const std::vector<double>& key, const Make& make) const {
        if (const void* const made = find(&mark<Made>, key)) return *static_cast<const Made*>(made);
        return *static_cast<const Made*>(keep(&mark<Made>, key, std::make_shared<const Made>(make())));
    }

    /// Frees everything of this type that was remembered.
    template <class Made>
    void forget() const {
        forget(&mark<Made>);
    }
    /// Frees everything that was remembered.
    void forget() const { memory_.clear(); }

    /// The number of results computed so far. It does not grow while all of them are reused.
    [[nodiscard]] index_t made() const noexcept { return made_; }

    /// H as it was passed in.
    [[nodiscard]] const detail::matrix_ref& given() const noexcept { return given_; }
    /// H with zeros in the rows and columns of dead inputs.
    [[nodiscard]] const detail::live_gram& live() const noexcept { return live_; }
    /// Whether the caller shares it between layers.
    [[nodiscard]] bool is_shared() const noexcept { return is_shared_; }

    /// Skips all checks.
    hessian(const detail::matrix_ref& H, double dead_threshold, bool is_shared)
        : given_(H), live_(H, dead_threshold), dead_threshold_(dead_threshold), is_shared_(is_shared) {}

private:
    struct remembered {
        const void* type;
        std::vector<double> key;
        std::shared_ptr<const void> made;
    };
    template <class Made>
    static constexpr char mark = 0;

    /// What was remembered of this type and key, or null.
    [[nodiscard]] const void* find(const void* type, const std::vector<double>& key) const;
    const void* keep(const void* type, const std::vector<double>& key, std::shared_ptr<const void> made) const;
    void forget(const void* type) const;

    /// A matrix, and what keeps it alive if that was a temporary.
    struct source {
        std::shared_ptr<const void> owner;
        detail::matrix_ref view;
    };

    template <class Gram>
    [[nodiscard]] static source source_of(Gram&& H) {
        if constexpr (std::is_lvalue_reference_v<Gram>) {
            return {nullptr, as_const_view(H)};
        } else {
            const auto owned = std::make_shared<const std::remove_cvref_t<Gram>>(std::forward<Gram>(H));
            return {owned, as_const_view(*owned)};
        }
    }

    hessian(const source& from, double dead_threshold, executor_ref exec)
        : hessian(from.view, checked(from.view, dead_threshold, exec), true) {
        owner_ = from.owner;
    }

    /// Returns the threshold after the checks.
    static double checked(const detail::matrix_ref& H, double dead_threshold, executor_ref exec);

    std::shared_ptr<const void> owner_;
    detail::matrix_ref given_;
    detail::live_gram live_;
    double dead_threshold_;
    bool is_shared_;
    std::optional<index_t> tokens_;
    mutable std::vector<remembered> memory_;
    mutable index_t made_ = 0;
};

}  // namespace MAGR_ISA_NAMESPACE

inline namespace MAGR_ISA_NAMESPACE {

/// What functions accept as H: a dense matrix or a hessian.
template <class Gram>
concept gram_like = std::is_same_v<Gram, hessian> || dense_matrix<const Gram>;

}  // namespace MAGR_ISA_NAMESPACE

namespace detail {
inline namespace MAGR_ISA_NAMESPACE {

/// The caller's H: a matrix or a hessian.
class gram_argument {
public:
    template <class T>
    gram_argument(matrix_view<T> H) noexcept : matrix_(H) {}                        // NOLINT(google-explicit-constructor)
    gram_argument(const matrix_ref& H) noexcept : matrix_(H) {}                     // NOLINT(google-explicit-constructor)
    gram_argument(const hessian& H) noexcept : matrix_(H.given()), hessian_(&H) {}  // NOLINT(google-explicit-constructor)

    [[nodiscard]] const matrix_ref& matrix() const noexcept { return matrix_; }
    [[nodiscard]] const hessian* made() const noexcept { return hessian_; }

private:
    matrix_ref matrix_;
    const hessian* hessian_ = nullptr;
};

/// Converts H for a public function. If H is neither a matrix nor a hessian, the compiler says so in one readable message.
template <class Gram>
[[nodiscard]] gram_argument as_gram(const Gram& H) {
    if constexpr (std::is_same_v<Gram, hessian>)
        return H;
    else
        return as_const_view(H);
}

/// The number of calibration tokens that H was summed over, if known.
template <class Gram>
[[nodiscard]] std::optional<index_t> tokens_of(const Gram& H) {
    if constexpr (std::is_same_v<Gram, hessian>)
        return H.tokens();
    else
        return std::nullopt;
}

/// The hessian that a function uses: the caller's, or one made for this call.
class used_hessian {
public:
    /// @param threshold  the dead_threshold of the function's options
    /// @par Errors       as `require_gram`
    used_hessian(const char* function, const matrix_ref& W, const gram_argument& H, double threshold, executor_ref exec,
                 const char* name_of_H = "H");

    [[nodiscard]] const hessian& operator*() const noexcept { return *used_; }
    [[nodiscard]] const hessian* operator->() const noexcept { return used_; }

private:
    std::optional<hessian> own_;
    const hessian* used_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace detail
}  // namespace magr

#ifndef MAGR_COMPILED
#include <magr/calibration/hessian_impl.hpp>
#endif
