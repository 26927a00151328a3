#!/usr/bin/env bash
# Makes CACHE_FOLDER/venv, the Python environment of the scripts in this folder, or brings it up to date:
#   bash examples/quantize_llama/prepare/make_venv.sh CACHE_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:?usage: make_venv.sh CACHE_FOLDER}
mkdir -p "$cache"
python3 -m venv "$cache/venv" || { echo "python3 with its module venv is needed (Debian: python3-venv)" >&2; exit 1; }
"$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
