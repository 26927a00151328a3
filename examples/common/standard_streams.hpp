// SPDX-License-Identifier: MIT
#pragma once

#include <cstdio>
#include <iostream>

#if !defined(_WIN32)
#include <fcntl.h>
#include <unistd.h>
#endif

#include "common/error.hpp"

namespace examples {

/// Takes the numbers of standard streams that the caller has closed, so that no file which is opened later gets them and what is printed.
/// Writing to such a stream still fails.
inline void occupy_standard_streams() {
#if !defined(_WIN32)
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
        if (::fcntl(stream, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDONLY));  // the lowest free number is this one
#endif
}

/// Returns when everything printed has arrived.
/// @throws input_error  if it has not, for example because the disk is full or the reader has gone
inline void finish_standard_output() {
    std::cout.flush();
    bool arrived = std::cout.good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
#if !defined(_WIN32)
    // Some file systems tell only when a file is closed; closing a copy asks them and leaves the stream open.
    const int copy = ::dup(STDOUT_FILENO);
    arrived = arrived && copy >= 0;
    if (copy >= 0) arrived = ::close(copy) == 0 && arrived;
#endif
    if (!arrived) refuse("standard output: cannot be written");
}

}  // namespace examples
