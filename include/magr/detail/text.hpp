// SPDX-License-Identifier: MIT
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <type_traits>

#include <magr/matrix/matrix_view.hpp>

/// The text of messages.
namespace magr::detail {
inline namespace MAGR_ISA_NAMESPACE {

MAGR_COLD inline void append(std::string& text, std::string_view part) { text += part; }

/// A number as `printf` writes it with %.9g, with a decimal point whatever the host's locale says.
template <class Number>
    requires std::is_arithmetic_v<Number>
MAGR_COLD void append(std::string& text, Number number) {
    char digits[32];
    const char* end = digits;
    if constexpr (std::is_floating_point_v<Number>)
        end = std::to_chars(digits, digits + sizeof digits, static_cast<double>(number), std::chars_format::general, 9).ptr;
    else
        end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    for (const char* digit = digits; digit != end; ++digit) text.push_back(*digit);  // g++ 12 warns of append without a reason
}

template <class... Parts>
[[nodiscard]] MAGR_COLD std::string concat(const Parts&... parts) {
    std::string text;
    (append(text, parts), ...);
    return text;
}

/// Rows and columns of a matrix of any kind.
struct any_shape {
    template <class Matrix>
    any_shape(const Matrix& m) noexcept : rows(m.rows()), cols(m.cols()) {}  // NOLINT(google-explicit-constructor)

    index_t rows, cols;
};

[[nodiscard]] MAGR_COLD inline std::string shape_text(any_shape shape) { return concat(shape.rows, " x ", shape.cols); }

}  // namespace MAGR_ISA_NAMESPACE
}  // namespace magr::detail
