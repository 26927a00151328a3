# SPDX-License-Identifier: MIT
"""llama.cpp reads GGUF files of every type, and computes with them what it computes with the dequantized weights in float32, but that it
rounds the inputs of quantized layers to 8 bits: the perplexity to 0.5%, and the same 32 ids after 24, unless two were nearly as likely. With
the dequantized weights, its perplexity is that of quantize_llama itself."""
import importlib.metadata
import json
import subprocess

import gguf
import numpy as np

from interop import MODEL, Comparison
from make_base_gguf import make_base_gguf
from widen_model import widen_model

IDS = 4096
NEAR_TIE = 0.1  # between the logits of the two best ids: rounded inputs may turn it around
# The types of 32 weights on the model as it is; k-quants and their mixes on the same model with twice the width.
NARROW = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k_m"]
WIDE = ["q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"]


def write_text(path, seed):
    """Sentences of common words: what a model would write is of no interest here."""
    words = "once upon a time there was little girl dog cat who liked to play in the park with her friend and they saw big red ball".split()
    random = np.random.default_rng(seed)
    ids = []
    for _ in range(-(-IDS // 256)):
        ids += [0xFFFF, 0, *" ".join(random.choice(words, 80)).encode()[:255]]
    np.array(ids, dtype="<u2").tofile(path)
    return path


def run_llama(test, file, text):
    """The perplexity of a text in llama.cpp, and the ids with which it goes on, each with the distance of its logit from the second best."""
    done = subprocess.run([test.prepared / "llama_text", file, text, str(IDS)], stdout=subprocess.PIPE, check=True, text=True)
    words = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    return float(words["perplexity"][0]), [(int(id), float(distance)) for id, distance in (word.split(":") for word in words["greedy"])]


def compare_ids(found, expected):
    """Whether both went on alike, and how that is said."""
    for i, ((id, _), (expected_id, distance)) in enumerate(zip(found, expected)):
        if id != expected_id:
            return distance < NEAR_TIE, f"text the same for {i} ids, then another where the two best logits are {distance} apart"
    return len(found) == len(expected), "text the same"


def main():
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("gguf", "numpy")))
    test = Comparison()
    test.work.mkdir(parents=True, exist_ok=True)
    calibration, evaluation = (write_text(test.work / f"text{seed}.u16", seed) for seed in (1, 2))
    texts = f"--calib {calibration} --calib-tokens {IDS} --eval {evaluation} --eval-tokens {IDS}"
    wide = test.work / "wide"
    widen_model(MODEL, wide)
    exact, results = test.work / "dequantized.gguf", test.work / "results.json"
    for model, base_type, mixes in ((MODEL, "bf16", NARROW), (wide, "f32", WIDE)):
        base = test.work / f"{model.name}.gguf"
        make_base_gguf(model, base, base_type)
        for mix in mixes:
            options = f"--methods optq --gguf-type {mix}"
            packed = test.quantize("gguf", f"--format gguf --gguf-base {base} {options}", model, texts) / "model.gguf"
            make_base_gguf(test.quantize("dequantized", f"{options} --json {results}", model, texts), exact, "f32")
            ours = json.loads(results.read_text())["results"][0]["perplexity"]
            try:
                perplexity, ids = run_llama(test, packed, evaluation)
            except subprocess.CalledProcessError as error:  # a file that does not load is one failure, not the end of the test
                test.fail(mix, error)
                continue
            expected, expected_ids = run_llama(test, exact, evaluation)
            types = sorted({tensor.tensor_type.name for tensor in gguf.GGUFReader(packed).tensors})
            is_same, text = compare_ids(ids, expected_ids)
            is_right = abs(expected / ours - 1) < 1e-5 and abs(perplexity / expected - 1) < 5e-3 and is_same
            test.report(is_right, f"{model.name} {mix} ({', '.join(types)}): perplexity {ours:.5f} here, {expected:.5f} in llama.cpp in float32, "
                                  f"{perplexity:.5f} quantized; {text}")
    test.finish()


if __name__ == "__main__":
    main()
