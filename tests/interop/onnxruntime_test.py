# SPDX-License-Identifier: MIT
"""ONNX Runtime runs the random layers that write_onnx_layers has written and every layer of the quantized model, and its products are those
of the dequantized weights."""
import importlib.metadata

import numpy as np
import onnxruntime

from interop import Comparison, read_tensors

TOLERANCE = 1e-3  # of the largest output of the same row of weights
TOKENS = 5


def error_of(path, inputs, expected):
    """The largest deviation: of all tokens at once, and of a single one, which other kernels compute."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = np.maximum(np.abs(expected).max(axis=0), np.finfo(np.float32).tiny)
    errors = []
    for tokens in (len(inputs), 1):
        (outputs,) = session.run(None, {"A": inputs[:tokens]})
        assert outputs.shape == expected[:tokens].shape, outputs.shape
        errors.append((np.abs(outputs - expected[:tokens]) / size).max())
    return max(errors)


def random_layers(folder):
    for path in sorted(folder.glob("*.onnx")):
        yield path, *(np.load(path.with_suffix(f".{kind}.npy")) for kind in ("inputs", "outputs"))


def model_layers(folder, plain):
    """The layers of a folder, with products of random inputs and the weights of the dequantized model."""
    weights = dict(read_tensors(plain))
    random = np.random.default_rng(1)
    for path in sorted((folder / "onnx").glob("*.onnx")):
        matrix = weights[path.stem + ".weight"]
        inputs = random.standard_normal((TOKENS, matrix.shape[1])).astype(np.float32)
        yield path, inputs, inputs.astype(np.float64) @ matrix.T.astype(np.float64)


def compare(test, name, layers):
    errors = {path.stem: error_of(path, inputs, expected) for path, inputs, expected in layers}
    wrong = [layer for layer, error in errors.items() if not error <= TOLERANCE]
    worst = max(errors, key=errors.get, default=None)  # without layers nothing is tested, which is a failure too
    test.report(errors and not wrong, f"{name}: {len(errors)} layers, largest error {errors.get(worst, 0):.1e} ({worst}), {len(wrong)} wrong"
                                      + "".join(f"\n       {layer}: {errors[layer]:.1e}" for layer in wrong))


def main():
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("onnxruntime", "numpy")))
    test = Comparison()
    compare(test, "random layers", random_layers(test.prepared / "layers"))
    for bits in (2, 4, 8):
        options = f"--methods optq --bits {bits} --group-size 64 --zero-point integer --storage f32"
        folder, plain = test.quantize("onnx", f"--format onnx {options}"), test.quantize("dequantized", options)
        compare(test, f"onnx {options}", model_layers(folder, plain))
    test.finish()


if __name__ == "__main__":
    main()
