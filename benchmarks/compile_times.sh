#!/usr/bin/env bash
# Prints how long a host compiles the library:  bash benchmarks/compile_times.sh [calls] [headers]
#
#   calls    one file each that makes one call, and the quickstart; size and symbols of the object of quantize_layer; then the same files for
#            magr::compiled
#   headers  one file each that includes one header and nothing else
#
# Times are user seconds, and multiples of a file that includes Eigen/Dense and calls LLT::solve. That file is compiled again after every
# ten others, so that a machine whose speed drifts slows both. Medians of REPEAT (3) runs. CXX (g++) and CXXFLAGS (-O2) come from the
# environment; no compiler cache is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CCACHE_DISABLE=1 LC_ALL=C
compiler=${CXX:-g++}
read -ra flags <<< "-std=c++20 ${CXXFLAGS:--O2} -Iinclude $(pkg-config --cflags eigen3 xsimd)"
repeat=${REPEAT:-3}
[ $# -gt 0 ] || set -- calls headers
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# seconds FILE: user time of the compiler
seconds() {
    local TIMEFORMAT=%U
    { time "$compiler" "${flags[@]}" "${@:2}" -c "$1" -o "$folder/out.o" 2> "$folder/errors"; } 2>&1 || { cat "$folder/errors" >&2; exit 1; }
}

cat > "$folder/yardstick.cpp" << 'END'
#include <Eigen/Dense>
Eigen::VectorXd solve(const Eigen::MatrixXd& A, const Eigen::VectorXd& b) { return A.llt().solve(b); }
END
unit=0 spent=10  # seconds since the yardstick was taken

# measure NAME FILE [FLAG...]: prints a line
measure() {
    local times="" time k
    for ((k = 0; k < repeat; ++k)); do
        if ((spent >= 10)); then
            unit=$(seconds "$folder/yardstick.cpp")
            spent=0
        fi
        time=$(seconds "${@:2}")
        times+="$time $unit"$'\n'
        spent=$((spent + ${time%.*}))
    done
    awk -v name="$1" 'function median(x, n,   i, j, t) {
                          for (i = 2; i <= n; ++i) for (j = i; j > 1 && x[j] < x[j - 1]; --j) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
                          return x[int((n + 1) / 2)]
                      }
                      NF == 2 { second[++n] = $1 + 0; ratio[n] = $1 / $2 }
                      END { printf "%-42s %8.2f %8.2f\n", name, median(second, n), median(ratio, n) }' <<< "$times"
}

printf '%-42s %8s %8s\n' "$("$compiler" -dumpfullversion -dumpversion) ${CXXFLAGS:--O2}" seconds "LLTs"
measure "Eigen's LLT::solve" "$folder/yardstick.cpp"
for what in "$@"; do
    case "$what" in
        calls)
            layer='const magr::matrix<float>& W, const magr::matrix<float>& H'
            # call FUNCTION HEADER PARAMETERS ARGUMENTS
            call() {
                printf '#include <magr/%s.hpp>\nauto call(%s) { return magr::%s(%s); }\n' "$2" "$3" "$1" "$4" > "$folder/$1.cpp"
                measure "$1" "$folder/$1.cpp" ${with:+"$with"}
            }
            for with in "" -DMAGR_COMPILED; do
                [ -z "$with" ] || echo "with magr::compiled"
                call preprocess preprocess 'magr::matrix<float>& W, const magr::matrix<float>& H' 'W, H'
                call quantize_optq quantize "$layer" 'W, H'
                call quantize_layer quantize_layer "$layer" 'W, H'
                size=$(stat -c %s "$folder/out.o") symbols=$(nm "$folder/out.o" | wc -l)
                call quantize_automatic quantize_automatic "$layer, const magr::matrix<float>& V" 'W, H, V'
                measure quickstart examples/quickstart/main.cpp ${with:+"$with"}
                echo "object of quantize_layer: $size bytes, $symbols symbols"
            done
            ;;
        headers)
            private='^magr/(detail|kernels|linalg|simd)/|/(openmp|tbb)\.hpp$'  # those two need more than the library does
            for header in $(cd include && find magr -name '*.hpp' | grep -Ev "$private" | sort); do
                echo "#include <$header>" > "$folder/header.cpp"
                measure "$header" "$folder/header.cpp"
            done
            ;;
        *)
            echo "compile_times.sh: unknown argument '$what' (calls, headers)" >&2
            exit 2
            ;;
    esac
done
