// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#if !defined(_WIN32)
#include <sys/resource.h>
#endif

namespace examples {

/// The most memory that this process has had so far, in bytes; 0 where the system does not tell. It counts what is resident, parts of
/// mapped files too, and never falls.
[[nodiscard]] inline std::int64_t peak_memory_bytes() {
#if defined(_WIN32)
    return 0;
#else
    rusage usage{};
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
    constexpr std::int64_t unit = 1;
#else
    constexpr std::int64_t unit = 1024;
#endif
    return unit * static_cast<std::int64_t>(usage.ru_maxrss);
#endif
}

}  // namespace examples
