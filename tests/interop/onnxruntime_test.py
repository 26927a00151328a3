#!/usr/bin/env python3
"""Runs the layers that write_onnx_layers wrote in ONNX Runtime, and compares its outputs with those of the dequantized weights.

usage: onnxruntime_test.py FOLDER
"""
import pathlib
import sys

import numpy
import onnxruntime

TOLERANCE = 1e-3  # of the largest output of the same row of weights


def error_of(path):
    """The largest deviation: of all tokens at once, and of a single one, which other kernels compute."""
    inputs, expected = (numpy.load(path.with_suffix(f".{kind}.npy")) for kind in ("inputs", "outputs"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = numpy.maximum(numpy.abs(expected).max(axis=0), numpy.finfo(numpy.float32).tiny)
    errors = []
    for tokens in (len(inputs), 1):
        (outputs,) = session.run(None, {"A": inputs[:tokens]})
        assert outputs.shape == expected[:tokens].shape, outputs.shape
        errors.append((numpy.abs(outputs - expected[:tokens]) / size).max())
    return max(errors)


def main():
    paths = sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"))
    if not paths:
        sys.exit(f"{sys.argv[1]}: has no .onnx files, this test looks at nothing")
    errors = {path.stem: error_of(path) for path in paths}
    for name, error in errors.items():
        if not error <= TOLERANCE:
            print(f"{name}: off by {error:.2e}")
    worst = max(errors, key=errors.get)
    failures = sum(not error <= TOLERANCE for error in errors.values())
    print(f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}: {len(errors)} layers, {failures} wrong, "
          f"largest error {errors[worst]:.2e} ({worst})")
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
