// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#if !defined(__cpp_exceptions)
#include <cstdlib>

/// Without exceptions (`-fno-exceptions`), and only then, every error goes here instead of being thrown, with the message of the exception
/// as a C string. Before the first include, define the macro as the name of a `[[noreturn]]` function that takes `const char*`, the same
/// in all units of the program. The program aborts if the handler returns, or immediately without a handler; nothing is printed.
#ifndef MAGR_FAILURE_HANDLER
#define MAGR_FAILURE_HANDLER(message) static_cast<void>(message)
#endif
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

/// A matrix entry is unusable: NaN, Inf, an asymmetric or zero Gram matrix. The message names row and column.
class value_error : public std::domain_error {
public:
    using std::domain_error::domain_error;
};

namespace detail {

/// The one place that throws. Without exceptions the program ends here, through `MAGR_FAILURE_HANDLER`.
template <class Error>
[[noreturn]] void raise(const std::string& message) {
#if defined(__cpp_exceptions)
    throw Error(message);
#else
    MAGR_FAILURE_HANDLER(message.c_str());
    std::abort();
#endif
}

}  // namespace detail
}  // namespace magr
