# A toolchain of Debian and Ubuntu for 64-bit ARM, whose programs an emulator runs (packages g++-aarch64-linux-gnu and qemu-user). Headers
# of the libraries are those of this machine, as they are the same for every processor.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

# Debian keeps xsimd's package with the libraries of this machine's processor.
file(GLOB xsimd_DIR /usr/lib/*/cmake/xsimd)
if(NOT xsimd_DIR)
    unset(xsimd_DIR)
endif()
