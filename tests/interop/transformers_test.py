# SPDX-License-Identifier: MIT
"""transformers loads folders of every format that it knows, and computes the same logits as with dequantized weights."""
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"

import importlib.metadata  # noqa: E402
import logging  # noqa: E402
import warnings  # noqa: E402

import torch  # noqa: E402
import transformers  # noqa: E402

from interop import PROMPTS, Comparison  # noqa: E402

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


def logits_of(folder, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map="cpu")
    names = {type(module).__name__ for name, module in model.named_modules() if name.endswith("_proj")}
    with torch.no_grad():
        logits = [model(torch.tensor([prompt])).logits[0].float().numpy() for prompt in PROMPTS]
    return logits, ", ".join(sorted(names))


def main():
    print(", ".join(f"{package} {importlib.metadata.version(package)}"
                    for package in ("torch", "transformers", "gptqmodel", "optimum", "compressed-tensors")))
    test = Comparison()
    half, exact = 2e-3, 2e-5  # where the engine computes in float16, and in float32
    cases = [
        ("gptq", "--bits 4 --group-size 64", "--zero-point none", exact),
        ("gptq", "--bits 2 --group-size 64", "--zero-point none", exact),
        ("gptq", "--bits 3 --group-size 64", "--zero-point none", exact),
        ("gptq", "--bits 8 --group-size -1", "--zero-point none", exact),
        ("gptq", "--bits 4 --group-size 64 --order act_order", "--zero-point none", exact),
        ("gptq_v2", "--bits 4 --group-size 64", "--zero-point integer", exact),
        ("gptq_v2", "--bits 3 --group-size 64", "--zero-point integer", exact),
        ("gptq_v2", "--bits 4 --group-size 64 --order act_order", "--zero-point integer", exact),
        ("awq", "--bits 4 --group-size 64", "--zero-point integer", half),
        ("awq", "--bits 4 --group-size 64", "--zero-point none", half),
        ("compressed-tensors", "--bits 4 --group-size 64 --storage f16 --out-dtype f16", "--zero-point integer", half),
        ("compressed-tensors", "--bits 4 --group-size 64 --storage f32 --out-dtype f32", "--zero-point none", exact),
        ("compressed-tensors", "--bits 3 --group-size 64 --storage f32 --out-dtype f32", "--zero-point integer", exact),
        ("compressed-tensors", "--bits 8 --group-size -1 --storage f32 --out-dtype f32", "--zero-point integer", exact),
        ("compressed-tensors", "--bits 4 --group-size 128 --storage bf16 --out-dtype bf16", "--zero-point integer", 2e-2),
    ]
    for format, options, zeros, tolerance in cases:
        method = "--methods magr+optq"
        storage = "" if "--storage" in options else "--storage f16 --out-dtype f32"
        folder = test.quantize(format, f"--format {format} {method} {options} {zeros} {storage}")
        expected_options = " ".join(w for w in options.replace("--out-dtype f16", "").replace("--out-dtype bf16", "").split())
        plain = test.quantize("dequantized", f"{method} {expected_options} {zeros} {storage}")
        expected, _ = logits_of(plain, torch.float32)
        dtype = torch.bfloat16 if "bf16" in options else torch.float16 if tolerance == half else torch.float32
        name = f"{format} {options} {zeros}"
        try:
            logits, layers = logits_of(folder, dtype)
        except Exception as error:  # one that does not load is one failure, not the end of all tests
            test.has_failed = True
            print(f"FAILED {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True)
            continue
        test.check(f"{name} ({layers})", logits, expected, tolerance)
    test.finish()


if __name__ == "__main__":
    main()
