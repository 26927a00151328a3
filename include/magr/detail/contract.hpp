// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <magr/detail/finite.hpp>
#include <magr/detail/matrix_ref.hpp>
#include <magr/detail/memory.hpp>
#include <magr/detail/text.hpp>
#include <magr/detail/validate.hpp>
#include <magr/error.hpp>
#include <magr/matrix/matrix_view.hpp>
#include <magr/matrix/scalar.hpp>
#include <magr/parallel/executor_ref.hpp>

/// Checks at the public boundary. Each throws before anything is written, and names function, argument, expected and actual.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

inline void require_not_empty(const char* function, const char* argument, any_shape m) {
    if (m.rows <= 0 || m.cols <= 0) raise<shape_error>(concat(function, ": ", argument, " must not be empty, it is ", shape_text(m)));
}

inline void require_shape(const char* function, const char* argument, any_shape m, index_t rows, index_t cols) {
    if (m.rows != rows || m.cols != cols)
        raise<shape_error>(concat(function, ": ", argument, " must be ", rows, " x ", cols, ", it is ", shape_text(m)));
}

/// Whether no entry is NaN or infinite.
[[nodiscard]] inline bool is_finite(const matrix_ref& m) {
    const matrix_ref along_memory = m.is_by_rows() ? m : m.transposed();
    for (index_t i = 0; i < along_memory.rows(); ++i)
        if (!along_memory.is_row_finite(i, 0, along_memory.cols())) return false;
    return true;
}

/// Whether `good(first, count)` holds for all rows. Tests them in strips, which the workers share.
template <class Good>
[[nodiscard]] bool all_strips(index_t rows, executor_ref exec, const Good& good) {
    if (exec.concurrency() == 1) return good(index_t{0}, rows);
    constexpr index_t strip = 96;
    const index_t strips = rows > 0 ? (rows + strip - 1) / strip : 0;  // lets the compiler see that the size cannot overflow
    std::vector<char> is_good(static_cast<std::size_t>(strips));
    exec.parallel_for(strips, [&](index_t task, index_t) {
        const index_t first = task * strip;
        is_good[static_cast<std::size_t>(task)] = good(first, (std::min)(strip, rows - first)) ? 1 : 0;
    });
    return std::all_of(is_good.begin(), is_good.end(), [](char strip_is_good) { return strip_is_good != 0; });
}

/// Refuses NaN and infinite entries, and a matrix whose entries cannot be read.
inline void require_finite(const char* function, const char* argument, const matrix_ref& m, executor_ref exec = {}) {
    require_storage(function, argument, m);
    const matrix_ref along_memory = m.is_by_rows() ? m : m.transposed();
    if (all_strips(along_memory.rows(), exec,
                   [&](index_t first, index_t count) { return is_finite(along_memory.block(first, 0, count, along_memory.cols())); }))
        return;
    for (index_t k = 0; k < along_memory.rows(); ++k)
        along_memory.visit_row(k, 0, along_memory.cols(), [&](index_t l, double value) {
            if (is_finite(value)) return;
            const index_t i = m.is_by_rows() ? k : l, j = m.is_by_rows() ? l : k;
            raise<value_error>(concat(function, ": ", argument, " must be finite, entry (row ", i, ", column ", j, ") is ", value));
        });
}

/// Whether each entry of the lower triangle in rows first..last-1 differs by at most `tolerance` from the entry across the diagonal.
/// @pre  all entries are finite
[[nodiscard]] inline bool is_symmetric(matrix_ref H, double tolerance, index_t first, index_t last) {
    constexpr index_t side = 32;  // of tiles; one is copied, so that the loop reads both along their rows
    if (!H.is_by_rows()) H = H.transposed();
    double own[side], across[side * side], column[side];
    const auto differ = [half = tolerance / 2](double a, double b) { return std::abs(a / 2 - b / 2) > half; };  // a - b could overflow
    for (index_t i0 = first; i0 < last; i0 += side) {
        const index_t rows = (std::min)(side, last - i0), end = i0 + rows;
        for (index_t j0 = 0; j0 < end; j0 += side) {
            const index_t cols = (std::min)(side, end - j0);
            for (index_t j = 0; j < cols; ++j) {
                H.load_row(j0 + j, i0, rows, column);
                for (index_t i = 0; i < rows; ++i) across[i * side + j] = column[i];
            }
            int beyond = 0;
            for (index_t i = 0; i < rows; ++i) {
                H.load_row(i0 + i, j0, cols, own);
                for (index_t j = 0; j < cols; ++j) beyond |= differ(own[j], across[i * side + j]) ? 1 : 0;
            }
            if (beyond != 0) return false;
        }
    }
    return true;
}

/// Tolerated asymmetry of a Gram matrix, relative to its largest diagonal entry; rounding stays below it.
inline constexpr double largest_asymmetry = 1e-4;

/// Refuses what cannot be a Gram matrix of `columns` inputs: wrong shape, NaN or Inf, a negative diagonal, or asymmetry beyond rounding
/// (1e-4 of the largest diagonal entry). A zero matrix passes: its inputs are always zero.
inline void require_gram(const char* function, const char* argument, const matrix_ref& H, index_t columns, executor_ref exec = {}) {
    if (H.rows() != H.cols()) raise<shape_error>(concat(function, ": ", argument, " must be square, it is ", shape_text(H)));
    require_shape(function, argument, H, columns, columns);
    require_distinct(function, argument, H);
    require_finite(function, argument, H, exec);
    double largest = 0;
    for (index_t i = 0; i < columns; ++i) {
        const double value = H(i, i);
        if (value < 0)
            raise<value_error>(
                concat(function, ": ", argument, " must have no negative diagonal entry, entry (row ", i, ", column ", i, ") is ", value));
        largest = (std::max)(largest, value);
    }
    if (!all_strips(columns, exec,
                    [&](index_t first, index_t count) { return is_symmetric(H, largest_asymmetry * largest, first, first + count); }))
        for (index_t i = 0; i < columns; ++i)
            for (index_t j = 0; j < i; ++j) {
                const double lower = H(i, j), upper = H(j, i);
                if (std::abs(lower / 2 - upper / 2) > largest_asymmetry * largest / 2)
                    raise<value_error>(concat(function, ": ", argument, " must be symmetric, entry (row ", i, ", column ", j, ") is ",
                                              lower, " and entry (row ", j, ", column ", i, ") is ", upper));
            }
}

/// Refuses weights W and a Gram matrix H that cannot belong to one layer. Workers share the reading.
inline void require_layer(const char* function, const matrix_ref& W, const matrix_ref& H, executor_ref exec = {},
                          const char* name_of_H = "H") {
    require_not_empty(function, "W", W);
    require_distinct(function, "W", W);
    require_gram(function, name_of_H, H, W.cols(), exec);
    require_finite(function, "W", W, exec);
}

/// Whether an option can be compared with its range, that is, whether it is not NaN.
template <class Value>
[[nodiscard]] bool is_comparable(const Value& value) noexcept {
    if constexpr (compute_scalar<Value>)
        return !is_nan(value);
    else
        return true;
}

/// Refuses an option that is outside of its range or NaN; `allowed` is the range in words.
template <class Value>
void require_option(bool holds, const char* function, const char* option, const char* allowed, const Value& actual) {
    if (!holds || !is_comparable(actual)) raise<option_error>(concat(function, ": ", option, " must be ", allowed, ", it is ", actual));
}

/// Whether a value is an enumerator of its type, one that `to_string` knows: a cast or uninitialised memory can make others.
template <class Enum>
[[nodiscard]] constexpr bool is_enumerator(Enum value) noexcept {
    return std::string_view(to_string(value)) != "unknown";
}

/// @param name  of an enumerator, or "unknown"
[[nodiscard]] MAGR_COLD inline std::string enumerators(const char* (*name)(int)) {
    const auto is_last = [&](int k) { return std::string_view(name(k + 1)) == "unknown"; };
    std::string names = name(0);
    for (int k = 0; !is_last(k); ++k) {
        append(names, is_last(k + 1) ? " or " : ", ");
        append(names, name(k + 1));
    }
    return names;
}

/// The enumerators of a type in words; they must be 0, 1, 2 ..
template <class Enum>
[[nodiscard]] MAGR_COLD std::string enumerators() {
    return enumerators([](int k) { return to_string(static_cast<Enum>(k)); });
}

/// Refuses a value that is not an enumerator.
template <class Enum>
void require_enumerator(const char* function, const char* option, Enum value) {
    if (!is_enumerator(value)) require_option(false, function, option, enumerators<Enum>().c_str(), static_cast<int>(value));
}

/// Gathers everything that is wrong with some options, so that one error can report it all.
class problem_list {
public:
    explicit problem_list(const char* function) : function_(function) {}

    /// Like `require_option`, but records the problem and goes on.
    template <class Value>
    void require(bool holds, const char* option, const char* allowed, const Value& actual) {
        if (!holds || !is_comparable(actual)) add(option, allowed, actual);
    }
    /// As the function of that name, but goes on.
    template <class Enum>
    void require_enumerator(const char* option, Enum value) {
        if (!is_enumerator(value)) add(option, enumerators<Enum>().c_str(), static_cast<int>(value));
    }
    /// Adds the problems of options within these.
    void add_all(const std::vector<std::string>& others) {
        for (const std::string& problem : others) problems_.push_back(problem);
    }
    [[nodiscard]] std::vector<std::string> take() { return std::move(problems_); }

private:
    template <class Value>
    MAGR_COLD void add(const char* option, const char* allowed, const Value& actual) {
        problems_.push_back(concat(function_, ": ", option, " must be ", allowed, ", it is ", actual));
    }

    const char* function_;
    std::vector<std::string> problems_;
};

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
