# SPDX-License-Identifier: MIT
"""mlx-lm loads folders in MLX's affine format, and computes the same logits as with dequantized weights. On Linux MLX runs on the CPU."""
import importlib.metadata
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model

from interop import PROMPTS, Comparison


def logits_of(folder, dtype=None):
    model, _ = load_model(Path(folder))
    if dtype is not None:
        model.set_dtype(dtype)
    return [np.array(model(mx.array([prompt]))[0].astype(mx.float32)) for prompt in PROMPTS], type(model.layers[0].mlp.up_proj).__name__


def main():
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("mlx", "mlx-lm")))
    test = Comparison()
    for options, tolerance in [
        ("--bits 4 --group-size 64 --storage f32", 2e-5),
        ("--bits 3 --group-size 32 --storage f32", 2e-5),
        ("--bits 2 --group-size 128 --storage f32", 2e-5),
        ("--bits 6 --group-size 64 --storage f32", 2e-5),
        ("--bits 8 --group-size 64 --storage f32", 2e-5),
        ("--bits 4 --group-size 64 --storage f32 --zero-point none", 2e-5),
        ("--bits 4 --group-size 64 --storage f16", 5e-3),
    ]:
        zeros = "" if "--zero-point" in options else "--zero-point offset"
        folder = test.quantize("mlx", f"--format mlx --methods optq {options} {zeros}")
        plain = test.quantize("dequantized", f"--methods optq {options} {zeros}")
        expected, _ = logits_of(plain, mx.float32)  # its embedding and norms are still in the type of the original
        logits, layer = logits_of(folder)
        assert json.loads((folder / "config.json").read_text())["quantization"]["mode"] == "affine"
        test.check(f"mlx {options} ({layer})", logits, expected, tolerance)
    test.finish()


if __name__ == "__main__":
    main()
