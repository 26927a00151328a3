// SPDX-License-Identifier: MIT
#pragma once

/// Version of the library. CMakeLists.txt reads `project(VERSION)` from these three lines.
#define MAGR_VERSION_MAJOR 0
#define MAGR_VERSION_MINOR 1
#define MAGR_VERSION_PATCH 0

/// True if this version is at least `major.minor.patch`.
#define MAGR_VERSION_GE(major, minor, patch)                           \
    (MAGR_VERSION_MAJOR > (major) || (MAGR_VERSION_MAJOR == (major) && \
                                      (MAGR_VERSION_MINOR > (minor) || (MAGR_VERSION_MINOR == (minor) && MAGR_VERSION_PATCH >= (patch)))))
