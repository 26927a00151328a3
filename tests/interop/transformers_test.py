# SPDX-License-Identifier: MIT
"""transformers loads folders of every format that it knows, and computes the same logits as with dequantized weights."""
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["TORCH_COMPILE_DISABLE"] = "1"  # compiling a kernel of GPTQModel takes longer than all the rest

import importlib.metadata  # noqa: E402
import logging  # noqa: E402
import warnings  # noqa: E402

import torch  # noqa: E402
import transformers  # noqa: E402

from interop import PROMPTS, Comparison  # noqa: E402

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


def loading_options(format, quantization):
    """Kernels of GPTQModel in Python alone, since others would first be compiled for this machine, which takes minutes. Zero points of
    compressed-tensors are read only if weights are dequantized when they are loaded: otherwise 5.24 expects them unpacked."""
    if format.startswith("gptq"):
        return {"quantization_config": transformers.GPTQConfig(bits=4, backend="gptq_torch")}  # all else comes from the folder
    if format == "awq":
        return {"quantization_config": transformers.AwqConfig(backend="torch_awq")}
    if format == "compressed-tensors" and "integer" in quantization:
        return {"quantization_config": transformers.CompressedTensorsConfig(dequantize=True)}
    return {}


def logits_of(folder, dtype, format="dequantized", quantization=""):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map="cpu", **loading_options(format, quantization))
    names = {type(module).__name__ for name, module in model.named_modules() if name.endswith("_proj")}
    with torch.no_grad():
        logits = [model(torch.tensor([prompt])).logits[0].float().numpy() for prompt in PROMPTS]
    return logits, ", ".join(sorted(names))


def main():
    print(", ".join(f"{package} {importlib.metadata.version(package)}"
                    for package in ("torch", "transformers", "gptqmodel", "optimum", "compressed-tensors")))
    torch.set_num_threads(1)  # more only wait for each other in a model this small
    test = Comparison()
    # Kernels of GPTQModel round weights to 16 bits whatever the type of the inputs; bfloat16 has fewer bits still.
    exact, half, brain = (torch.float32, 2e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)
    gptq = (torch.float32, 2e-3)
    f32, f16, bf16 = (f"--storage {type} --out-dtype {type}" for type in ("f32", "f16", "bf16"))
    only_scales = "--storage f16 --out-dtype f32"  # as GPTQ wants it, and the rest exact
    for format, quantization, types, (dtype, tolerance) in [
        ("compressed-tensors", "--bits 4 --group-size 64 --zero-point integer", f16, half),
        ("gptq_v2", "--bits 4 --group-size 64 --zero-point integer --order act_order", only_scales, gptq),
        ("gptq", "--bits 4 --group-size 64 --zero-point none", only_scales, gptq),
        ("compressed-tensors", "--bits 3 --group-size 64 --zero-point integer", f32, exact),
        ("compressed-tensors", "--bits 8 --group-size -1 --zero-point none", f32, exact),
        ("awq", "--bits 4 --group-size -1 --zero-point none", f16, half),
        ("gptq", "--bits 2 --group-size 64 --zero-point none --order act_order", only_scales, gptq),
        ("gptq", "--bits 8 --group-size -1 --zero-point none", only_scales, gptq),
        ("gptq_v2", "--bits 3 --group-size 64 --zero-point integer", only_scales, gptq),
        ("compressed-tensors", "--bits 4 --group-size 128 --zero-point none", bf16, brain),
        ("awq", "--bits 4 --group-size 64 --zero-point integer", f16, half),
    ]:
        storage = " ".join(types.split()[:2])
        folder = test.quantize(format, f"--format {format} --methods optq {quantization} {types}")
        plain = test.quantize("dequantized", f"--methods optq {quantization} {storage}")
        name = f"{format} {quantization} {storage}"
        try:
            logits, layers = logits_of(folder, dtype, format, quantization)
        except Exception as error:  # a folder that does not load is one failure, not the end of the test
            test.fail(name, error)
            continue
        test.check(f"{name} ({layers})", logits, logits_of(plain, torch.float32)[0], tolerance)
    test.finish()


if __name__ == "__main__":
    main()
