# SPDX-License-Identifier: MIT
"""What the tests of engines share: folders by quantize_llama and their tensors, and the comparison of logits."""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "quantize_llama" / "model"
PROMPTS = [list(b"Once upon a time, there was a little girl"), list(b"The dog ran to the ")]  # the model's tokens are bytes


def read_tensors(folder):
    """Names and values of all tensors in the safetensors files of a folder, as float32."""
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, info in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + length + offset for offset in info["data_offsets"])
            if info["dtype"] == "BF16":
                values = (np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                values = np.frombuffer(data[begin:end], {"F32": np.float32, "F16": np.float16}[info["dtype"]]).astype(np.float32)
            yield name, values.reshape(info["shape"])


def comparison_arguments(description):
    """The arguments that the programs share which compare an engine's own quantizer with quantize_llama."""
    path = lambda name: Path(name).resolve()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("program", type=path, help="quantize_llama")
    parser.add_argument("model", type=path, help="a folder")
    parser.add_argument("calib", type=path, help="a file of ids, *.u16")
    parser.add_argument("eval", type=path, help="another one")
    parser.add_argument("out", type=path, help="where the files go; those that are there are kept")
    return parser


def run_quantize_llama(given, folder, method, *options):
    """Quantizes the model of these arguments by one method, on one thread. The program's own evaluation is as short as it can be."""
    command = [given.program, "--model", given.model, "--calib", given.calib, "--eval", given.eval, "--calib-tokens", given.tokens,
               "--eval-tokens", 64, "--methods", method, "--sample-tokens", 0, "--threads", 1, "--out", folder, *options]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Comparison:
    """Compares engines with the same model, dequantized, and remembers whether one has failed."""

    def __init__(self):
        self.work = Path(sys.argv[1])
        self.prepared = Path(sys.prefix)  # the folder in which ENGINE.sh has made its files
        self.has_failed = False

    def quantize(self, name, options, model=MODEL, text="--calib-tokens 1024 --eval-tokens 64"):
        """A folder that the program writes. The whole run takes some seconds, so every folder is made anew."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        command = [os.environ["QUANTIZE_LLAMA"], "--model", str(model), "--out", str(folder), "--sample-tokens", "0",
                   *text.split(), *options.split()]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return folder

    def check(self, name, logits, expected, tolerance):
        """Prints how far logits are from those expected, in units of the largest of them."""
        scale = max(float(np.abs(e).max()) for e in expected)
        difference = max(float(np.abs(a - e).max()) for a, e in zip(logits, expected)) / scale
        self.report(difference <= tolerance, f"{name}: largest difference {difference:.1e} of the largest logit, {tolerance:.0e} allowed")

    def fail(self, name, error):
        """Prints that an engine does not load or run a model."""
        self.report(False, f"{name}: {type(error).__name__}: {str(error).strip()}")

    def report(self, is_right, text):
        self.has_failed |= not is_right
        print(f"{'ok    ' if is_right else 'FAILED'} {text}", flush=True)

    def finish(self):
        sys.exit(1 if self.has_failed else 0)
