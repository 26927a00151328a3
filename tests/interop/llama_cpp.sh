#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds llama.cpp's library from the sources in the Python package llama-cpp-python, and llama_text and llama_quantize with it:  llama_cpp.sh VENV
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$1"
version=0.3.36
package=llama_cpp_python-$version
sources=$PWD/$package/vendor/llama.cpp

if [ ! -f llama.cpp/src/libllama.a ]; then
    bin/pip download --quiet --no-deps --no-binary :all: llama-cpp-python==$version
    tar xzf $package.tar.gz
    cmake -S "$sources" -B llama.cpp -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
        -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF
    cmake --build llama.cpp --target llama
fi
ggml=llama.cpp/ggml/src
for program in llama_text llama_quantize; do
    ${CXX:-c++} -std=c++17 -O2 -I"$sources/include" -I"$sources/ggml/include" "$here/$program.cpp" llama.cpp/src/libllama.a \
        $ggml/libggml.a $ggml/libggml-cpu.a $ggml/libggml-base.a -fopenmp -pthread -ldl -o $program
done
