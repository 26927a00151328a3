#!/usr/bin/env bash
# Installs what is missing, builds, and runs tests:  bash tests/run.sh [STAGE...]
#
# Without arguments it runs the first two of these stages, with every test of what the library computes; `all` is the first four, as in CI:
#   debug    address and undefined-behaviour sanitizers, assertions on; compiled by clang++ if it is there, as the second compiler
#   native   this machine's instruction set: all benchmarks, the tests of what is vectorised by hand, and those of refinement, which fused
#            multiply-adds could break
#   release  what users run; also the tests of the package (installing it, using it from another project)
#   dispatch magr::dispatch, with every instruction set that the machine has; compiles the library once for each, and takes tests' objects from
#            the stage before it
#   tsan     thread sanitizer: every function on every executor, for a change of what runs in parallel; needs clang++, takes some minutes
#   aarch64  the tests of what is vectorised by hand, compiled for 64-bit ARM and run by an emulator
# Warnings are errors in every stage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/ensure-packages.sh
ensure_packages c++ cmake ninja pkg-config Eigen3 xsimd Catch2 benchmark nlohmann_json CLI11

launcher=()
! command -v ccache > /dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

# build FOLDER "CONFIGURE OPTIONS" [TARGET...]
build() {
    local folder=$1 options=$2 start=$SECONDS
    shift 2
    # shellcheck disable=SC2086  # the options are several words
    cmake $options -B "$folder" -DMAGR_WERROR=ON "${launcher[@]}"
    cmake --build "$folder" ${1:+--target "$@"}
    echo "== $folder: built in $((SECONDS - start)) s, $SECONDS s since the start"
}

run_tests() {
    ctest --test-dir "$1" --output-on-failure --no-tests=error -j "$(nproc)" "${@:2}"
}

# has_sanitizers COMPILER: whether it is there and can link them (on Debian clang's are a package of their own)
has_sanitizers() {
    local program status=0
    program=$(mktemp)
    echo 'int main() {}' | "$1" -fsanitize=address,undefined -x c++ -o "$program" - 2> /dev/null || status=$?
    rm -f "$program"
    return $status
}

[ $# -gt 0 ] || set -- debug native
[ "$*" != all ] || set -- debug native release dispatch
for stage in "$@"; do
    case "$stage" in
        debug)
            if has_sanitizers clang++; then
                CXX=clang++ build build/debug-clang "--preset debug" magr_tests
                run_tests build/debug-clang -LE 'packaging|compile'
            else
                build build/debug "--preset debug" magr_tests
                run_tests build/debug -LE 'packaging|compile'
            fi
            ;;
        native)
            build build/native "--preset native" magr_benchmarks magr_test_simd magr_test_kernels magr_test_refine
            run_tests build/native -R '^(simd|kernels|refine):'
            ;;
        release)
            build build/release "--preset release -DMAGR_BUILD_DISPATCH=OFF"
            run_tests build/release
            ;;
        dispatch)
            build build/release "--preset release -DMAGR_BUILD_DISPATCH=ON -DMAGR_INSTALL_COMPILED=OFF" magr_dispatch_tests
            run_tests build/release -L dispatch
            ;;
        tsan)
            # Leaves out reports from inside OpenMP's library, which is not instrumented, and its nested regions, whose end is not seen. oneTBB's
            # library hides how its threads wait for each other, so all memory that its tasks share would be reported.
            export TSAN_OPTIONS="ignore_noninstrumented_modules=1 ${TSAN_OPTIONS-}"
            build build/tsan "--preset tsan" magr_test_parallel magr_test_threads
            run_tests build/tsan -R '^(parallel|host):' -E 'tbb_executor|nested regions'
            ;;
        aarch64)
            ensure_packages aarch64-linux-gnu-g++ qemu-aarch64
            build build/aarch64 "--preset release --toolchain tests/aarch64_toolchain.cmake" magr_test_simd magr_test_kernels
            run_tests build/aarch64 -R '^(simd|kernels):'
            ;;
        *)
            echo "tests/run.sh: unknown stage '$stage' (all, debug, native, release, dispatch, tsan, aarch64)" >&2
            exit 2
            ;;
    esac
done
