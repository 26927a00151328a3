#!/bin/bash
# SPDX-License-Identifier: MIT
# Whether llama.cpp computes with our GGUF files what we compute with the same codes: for each type, its perplexity and its greedy text.
#
#   bash tests/interop/llama_cpp.sh [BUILD]      BUILD: a build folder with the library magr_llama (default: build/release)
#
# llama.cpp comes from the sources in the Python package llama-cpp-python. Everything lies in build/interop.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build/release}")
package=llama_cpp_python-0.3.36
here=$PWD/tests/interop
mkdir -p build/interop
cd build/interop

if [ ! -d venv ]; then
    python3 -m venv venv
    venv/bin/pip install --quiet numpy==2.4.6 gguf==0.19.0
fi
if [ ! -d $package ]; then
    [ -f $package.tar.gz ] || venv/bin/pip download --quiet --no-deps --no-build-isolation --no-binary :all: llama-cpp-python==0.3.36
    tar xzf $package.tar.gz
fi
sources=$PWD/$package/vendor/llama.cpp
if [ ! -f llama.cpp/src/libllama.a ]; then
    cmake -S "$sources" -B llama.cpp -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
        -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF
    cmake --build llama.cpp --target llama
fi

if [ ! llama_text -nt "$here/llama_text.cpp" ]; then
    ggml=llama.cpp/ggml/src
    ${CXX:-g++} -std=c++17 -O2 -I"$sources/include" -I"$sources/ggml/include" "$here/llama_text.cpp" llama.cpp/src/libllama.a \
        $ggml/libggml.a $ggml/libggml-cpu.a $ggml/libggml-base.a -fopenmp -pthread -ldl -o llama_text
fi
${CXX:-g++} -std=c++20 -O1 -DMAGR_COMPILED -I"$here/../../include" -I"$here/../../examples" -isystem /usr/include/eigen3 \
    "$here/gguf_of_model.cpp" "$build/examples/quantize_llama/libmagr_llama.a" "$build/libmagr_compiled.a" -pthread -o gguf_of_model

venv/bin/python "$here/llama_cpp_test.py" --programs . --model "$here/../../examples/quantize_llama/model" --scratch scratch
