#!/usr/bin/env bash
# Looks for symbols that the instruction sets of magr::dispatch would share with each other or with the host, in the objects of all units:
#   bash tests/dispatch/symbols.sh [COMPILER [LEVEL]]
#
# COMPILER is g++, clang++ or any other one, LEVEL is O0, Os or O2; what is left out stands for all of them. No program is linked or run. It
# takes minutes for each compiler and level; with MAGR_SYMBOL_UNITS='calibration|output_error' in the environment it looks in these units only.
# Builds in build/symbols-COMPILER.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

compilers=(g++ clang++)
levels=(O0 Os O2)
[ $# -lt 1 ] || compilers=("$1")
[ $# -lt 2 ] || levels=("$2")
launcher=()
! command -v ccache > /dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
for compiler in "${compilers[@]}"; do
    folder=build/symbols-$(basename "$compiler")
    CXX=$compiler cmake --preset release -B "$folder" -DMAGR_BUILD_DISPATCH=ON "-DMAGR_SYMBOL_UNITS=${MAGR_SYMBOL_UNITS:-.*}" "${launcher[@]}"
    for level in "${levels[@]}"; do
        start=$SECONDS
        cmake --build "$folder" --target "magr_test_symbols_$level"
        ctest --test-dir "$folder" --output-on-failure --no-tests=error -R "with -$level shares no symbol"
        echo "== $compiler -$level: nothing is shared ($((SECONDS - start)) s)"
    done
done
