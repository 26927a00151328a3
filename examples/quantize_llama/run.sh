#!/usr/bin/env bash
# Installs what is missing, builds the main job for this machine and runs it; arguments are passed on:
#   bash examples/quantize_llama/run.sh --help
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/cmake/ensure-packages.sh"
ensure_packages c++ cmake ninja Eigen3 xsimd nlohmann_json CLI11

(cd "$root" && cmake --preset native && cmake --build --preset native --target magr_quantize_llama)
exec "$root/build/native/examples/quantize_llama/quantize_llama" "$@"
