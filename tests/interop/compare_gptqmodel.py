# SPDX-License-Identifier: MIT
"""Compares GPTQModel's own quantizer with quantize_llama: both calibrate on the same ids, and write files of the GPTQ format.
Prints a row of a table for each number of bits, group size and kind of zero points."""
import copy
import json
import os
import shutil
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TORCH_COMPILE_DISABLE"] = "1"  # compiling takes longer than anything that small models do
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # with two cores it takes one by itself, and then asks for two

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from gptqmodel import GPTQModel, QuantizeConfig  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from interop import comparison_arguments, run_quantize_llama  # noqa: E402

METHODS = ["optq", "magr+optq", "auto"]
SETTINGS = {"default": {}, "mse": {"mse": 2.4}, "desc_act": {"desc_act": True}, "desc_act+mse": {"desc_act": True, "mse": 2.4}}
FORMATS = {"none": "gptq", "integer": "gptq_v2"}  # version 1 stores zero points less one, and so cannot hold 0


def read_sequences(path, longest, limit):
    """The first ids of a file, as quantize_llama takes them: what a sequence has beyond the longest is left out."""
    ids = np.fromfile(path, "<u2")
    sequences = []
    for sequence in np.split(ids, np.flatnonzero(ids == 0xFFFF))[1:]:
        sequences.append(sequence[1:][:longest][:limit].tolist())
        limit -= len(sequences[-1])
        if limit == 0:
            break
    return sequences


def codes_of(packed, bits):
    """Codes that lie one after the other, without gaps, in the 32-bit words of each row."""
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=1, bitorder="little")
    return stream.reshape(len(packed), -1, bits) @ (1 << np.arange(bits))


def dequantized(folder):
    """The weights of the linear layers of a folder in the GPTQ format, in float32, and the bytes of what is stored of them."""
    config = json.loads((folder / "quantize_config.json").read_text(encoding="utf-8"))
    bits, offset = config["bits"], 1 if config["checkpoint_format"] == "gptq" else 0
    tensors = {name: values for path in folder.glob("*.safetensors") for name, values in load_file(path).items()}
    weights, size = {}, 0
    for name in [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]:
        parts = [tensors[f"{name}.{part}"].numpy() for part in ("qweight", "qzeros", "scales", "g_idx")]
        size += sum(part.nbytes for part in parts)
        codes, zeros, scales, group = codes_of(parts[0].T, bits), codes_of(parts[1], bits) + offset, parts[2].astype(np.float32), parts[3]
        weights[name] = torch.from_numpy((scales[group] * (codes.T - zeros[group])).T.astype(np.float32))
    return weights, size


class Evaluation:
    """Excess log-perplexity and KL divergence of a model with other weights, over the positions that quantize_llama evaluates."""

    def __init__(self, folder, ids, tokens):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.sequences = read_sequences(ids, self.model.config.max_position_embeddings, tokens)
        self.original = self.predictions(self.model)
        self.baseline = self.loss(self.original)

    @torch.no_grad()
    def predictions(self, model):
        return [model(torch.tensor([s])).logits[0, :-1].log_softmax(-1) for s in self.sequences]

    def loss(self, predictions):
        likelihoods = [p.gather(1, torch.tensor(s[1:])[:, None]) for p, s in zip(predictions, self.sequences)]
        return -np.mean(np.concatenate(likelihoods), dtype=np.float64)

    def __call__(self, weights):
        model = copy.deepcopy(self.model)
        for name, values in weights.items():
            model.get_submodule(name).weight.data = values
        found = self.predictions(model)
        divergence = np.mean(np.concatenate([(p.exp() * (p - q)).sum(-1) for p, q in zip(self.original, found)]), dtype=np.float64)
        return self.loss(found) - self.baseline, divergence


def with_tokenizer(model, out):
    """The folder of the model, or a copy that has some tokenizer, if it has none itself: GPTQModel loads no model without one."""
    if (model / "tokenizer.json").exists():
        return model
    shutil.copytree(model, out, dirs_exist_ok=True)
    size = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    words = {"type": "WordLevel", "vocab": {f"<{i}>": i for i in range(size)}, "unk_token": "<0>"}
    (out / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": words}), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<0>"}
    (out / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return out


def by_gptqmodel(model_folder, folder, settings, bits, group, zero_point, sequences):
    config = QuantizeConfig(bits=bits, group_size=group, sym=zero_point == "none", format=FORMATS[zero_point], device="cpu",
                            offload_to_disk=False, pack_impl="original", **settings)
    model = GPTQModel.load(str(model_folder), config, dtype=torch.float32)
    model.quantize([{"input_ids": s, "attention_mask": [1] * len(s)} for s in sequences], batch_size=1, calibration_data_min_length=1)
    model.save(str(folder))


def main():
    parser = comparison_arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=24576, help="ids of each file")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--groups", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--zero-points", nargs="+", default=list(FORMATS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="of GPTQModel: the best counts")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.chdir(given.out)  # where GPTQModel leaves its logs
    torch.set_num_threads(1)  # more only wait for each other in a model this small

    model = with_tokenizer(given.model, given.out / "model")
    evaluate = Evaluation(given.model, given.eval, given.tokens)
    sequences = read_sequences(given.calib, evaluate.model.config.max_position_embeddings, given.tokens)
    perplexity = lambda excess: f"{np.exp(evaluate.baseline + excess):.6g}"
    print(f"Full precision: {perplexity(0)}.\n")
    print("| zero points | bits | group | bytes | GPTQModel | its settings | " + " | ".join(METHODS) + " | excess | KL |")
    print("|" + "---|" * (8 + len(METHODS)))
    for zero_point in given.zero_points:
        for bits in given.bits:
            for group in given.groups:
                excess, divergence, sizes = {}, {}, set()
                for name in [*given.settings, *METHODS]:
                    folder = given.out / f"{name}-{bits}-{group}-{zero_point}"
                    if not folder.exists():
                        unfinished = given.out / "unfinished"
                        shutil.rmtree(unfinished, ignore_errors=True)
                        if name in SETTINGS:
                            by_gptqmodel(model, unfinished, SETTINGS[name], bits, group, zero_point, sequences)
                        else:
                            run_quantize_llama(given, unfinished, name, "--bits", bits, "--group-size", group, "--zero-point", zero_point,
                                               "--format", FORMATS[zero_point], "--storage", "f16", "--out-dtype", "f32")
                        unfinished.rename(folder)
                    weights, size = dequantized(folder)
                    sizes.add(size)
                    excess[name], divergence[name] = evaluate(weights)
                    print(f"{folder.name}: excess {excess[name]:.4f}, KL {divergence[name]:.4f}, {size} bytes", file=sys.stderr, flush=True)
                best, nearest = min(given.settings, key=excess.get), min(given.settings, key=divergence.get)
                cells = [zero_point, bits, group, " or ".join(f"{size:,}" for size in sorted(sizes)), perplexity(excess[best]), best,
                         *(perplexity(excess[name]) for name in METHODS), f"{excess['auto'] / excess[best]:.2f}",
                         f"{divergence['auto'] / divergence[nearest]:.2f}"]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
