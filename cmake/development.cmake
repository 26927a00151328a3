# What tests, benchmarks and examples share. No part of this reaches those who use the library.

# Warnings and sanitizers of the project's own programs.
add_library(magr_dev_flags INTERFACE)
target_compile_options(magr_dev_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13 AND CMAKE_CXX_FLAGS MATCHES "-march=")
    # Its own AVX-512 headers trip over these (GCC bug 105593).
    target_compile_options(magr_dev_flags INTERFACE -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(MAGR_WERROR)
    target_compile_options(magr_dev_flags INTERFACE -Werror)
endif()
if(MAGR_SANITIZE)
    # Null pointers and overruns are found by the address sanitizer; looking for them twice doubles the time to compile Eigen.
    target_compile_options(magr_dev_flags INTERFACE -fsanitize=address,undefined -fno-sanitize=null,object-size
                           -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(magr_dev_flags INTERFACE -fsanitize=address,undefined)
endif()
if(MAGR_BUILD_FUZZERS)
    target_compile_options(magr_dev_flags INTERFACE -fsanitize=fuzzer-no-link)  # counts branches, for the fuzz targets to see what is new
endif()

# Looks for a package that only tests, benchmarks or examples need. Without it the configuration goes on and says what is left out;
# the caller then checks ${name}_FOUND.
macro(magr_find_development_package name debian_package left_out)
    find_package(${name} CONFIG QUIET)
    if(NOT ${name}_FOUND)
        message(NOTICE "magr: ${name} was not found, so ${left_out} will not be built (Debian and Ubuntu: apt-get install ${debian_package})")
    endif()
endmacro()
