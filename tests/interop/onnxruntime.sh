#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds write_onnx_layers, and lets it write the layers:  onnxruntime.sh VENV
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
layers=$(realpath "$1")/layers
cd "$root"
source cmake/ensure-packages.sh
ensure_packages c++ cmake ninja Eigen3 xsimd nlohmann_json CLI11 Catch2  # without Catch2 there are no tests to build
cmake --preset release > /dev/null
cmake --build --preset release --target magr_write_onnx_layers
rm -rf "$layers"
mkdir "$layers"
build/release/tests/write_onnx_layers "$layers"
