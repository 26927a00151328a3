#!/usr/bin/env bash
# Lets other programs load what quantize_llama writes, and compares what they compute:  bash tests/interop/run.sh [ENGINE...]
#
# An engine is a file ENGINE_test.py, which needs the Python packages of requirements/ENGINE.txt; without arguments all of them are tested.
# The packages, some of them large, go to build/interop/ENGINE. ENGINE.sh, where there is one, is given this folder first, and makes in it
# what the test needs besides. An engine that cannot be installed is skipped, with a line that says so.
# QUANTIZE_LLAMA may name the program; otherwise it is built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build/interop

if [ $# -eq 0 ]; then
    for file in "$here"/*_test.py; do
        name=$(basename "$file" _test.py)
        set -- "$@" "$name"
    done
fi

if [ -z "${QUANTIZE_LLAMA-}" ]; then
    source "$root/cmake/ensure-packages.sh"
    ensure_packages c++ cmake ninja Eigen3 xsimd nlohmann_json CLI11
    (cd "$root" && cmake --preset release > /dev/null && cmake --build --preset release --target magr_quantize_llama)
    QUANTIZE_LLAMA=$root/build/release/examples/quantize_llama/quantize_llama
fi
export QUANTIZE_LLAMA

failed=()
for engine in "$@"; do
    if [ ! -f "$here/${engine}_test.py" ]; then
        echo "tests/interop/run.sh: no engine is called $engine" >&2
        exit 2
    fi
    requirements=$here/requirements/$engine.txt venv=$work/$engine
    if ! cmp -s "$requirements" "$venv/installed.txt"; then
        mkdir -p "$work"
        [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
        # In order, line by line: a package whose setup needs another one finds it.
        if ! grep -v '^#' "$requirements" | while read -r package; do
            [ -z "$package" ] || "$venv/bin/python" -m pip install --quiet --progress-bar off --no-build-isolation "$package"
        done > "$work/$engine.log" 2>&1; then
            echo "$engine: skipped, its packages cannot be installed: $(grep -i error "$work/$engine.log" | tail -n 1)"
            continue
        fi
        cp "$requirements" "$venv/installed.txt"
    fi
    echo "== $engine"
    if [ -f "$here/$engine.sh" ] && ! bash "$here/$engine.sh" "$venv" > "$work/$engine.log" 2>&1; then
        tail -n 5 "$work/$engine.log"
        failed+=("$engine")
        continue
    fi
    "$venv/bin/python" "$here/${engine}_test.py" "$work/models" || failed+=("$engine")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
