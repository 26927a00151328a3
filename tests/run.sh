#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests:  bash tests/run.sh [STAGE...]
#
# Stages, all of them unless some are named:
#   debug    address and undefined-behaviour sanitizers, assertions on
#   clang    a second compiler, if clang++ is there
#   native   this machine's instruction set; compiles the benchmarks, too
#   release  what users run; also the tests of the package (installing it, using it from another project)
# Warnings are errors in every stage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/ensure-packages.sh
ensure_packages c++ cmake ninja pkg-config Eigen3 xsimd Catch2 benchmark nlohmann_json CLI11

launcher=()
! command -v ccache > /dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

# stage NAME BUILD_FOLDER [ctest options]: builds a configured folder and runs its tests
stage() {
    local name=$1 folder=$2 start=$SECONDS
    shift 2
    cmake --build "$folder"
    echo "== $name: built in $((SECONDS - start)) s, $SECONDS s since the start"
    ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}

configure() {
    cmake "$@" -DMAGR_WERROR=ON "${launcher[@]}"
}

[ $# -gt 0 ] || set -- debug clang native release
for name in "$@"; do
    case "$name" in
        release)
            configure --preset release
            stage release build/release
            ;;
        debug | native)
            configure --preset "$name"
            stage "$name" "build/$name" -LE 'packaging|compile'
            ;;
        clang)
            if ! command -v clang++ > /dev/null; then
                echo "== clang: left out, there is no clang++"
                continue
            fi
            CXX=clang++ configure --preset release -B build/clang
            stage clang build/clang -LE 'packaging|compile'
            ;;
        *)
            echo "tests/run.sh: unknown stage '$name' (debug, clang, native, release)" >&2
            exit 2
            ;;
    esac
done
