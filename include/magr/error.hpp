// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#if !defined(__cpp_exceptions)
#include <cstdlib>
#endif

namespace magr {

/// Two arguments do not fit together, or one is empty or not square. The message names function, argument, expected and actual.
class shape_error : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// An option lies outside of its documented range.
class option_error : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// An entry of a matrix cannot be worked with: NaN, Inf, an asymmetric or zero Gram matrix. The message names row and column.
class value_error : public std::domain_error {
public:
    using std::domain_error::domain_error;
};

namespace detail {

/// The one place that throws. Without exceptions the program ends here.
template <class Error>
[[noreturn]] void raise(const std::string& message) {
#if defined(__cpp_exceptions)
    throw Error(message);
#else
    static_cast<void>(message);
    std::abort();
#endif
}

}  // namespace detail
}  // namespace magr
