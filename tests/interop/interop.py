# SPDX-License-Identifier: MIT
"""What the tests of engines share: folders by quantize_llama, and the comparison of logits."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "quantize_llama" / "model"
PROMPTS = [list(b"Once upon a time, there was a little girl"), list(b"The dog ran to the ")]  # the model's tokens are bytes


class Comparison:
    """Compares engines with the same model, dequantized, and remembers whether one has failed."""

    def __init__(self):
        self.work = Path(sys.argv[1])
        self.has_failed = False

    def quantize(self, name, options):
        """A folder that the program writes. The whole run takes some seconds, so every folder is made anew."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        command = [os.environ["QUANTIZE_LLAMA"], "--model", str(MODEL), "--out", str(folder), "--sample-tokens", "0",
                   "--calib-tokens", "1024", "--eval-tokens", "64", *options.split()]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return folder

    def check(self, name, logits, expected, tolerance):
        """Prints how far logits are from those expected, in units of the largest of them."""
        scale = max(float(np.abs(e).max()) for e in expected)
        difference = max(float(np.abs(a - e).max()) for a, e in zip(logits, expected)) / scale
        is_near = difference <= tolerance
        self.has_failed |= not is_near
        print(f"{'ok    ' if is_near else 'FAILED'} {name}: largest difference {difference:.1e} of the largest logit, {tolerance:.0e} allowed",
              flush=True)

    def fail(self, name, error):
        """Prints that an engine does not load or run a model."""
        self.has_failed = True
        print(f"FAILED {name}: {type(error).__name__}: {str(error).strip()}", flush=True)

    def finish(self):
        sys.exit(1 if self.has_failed else 0)
