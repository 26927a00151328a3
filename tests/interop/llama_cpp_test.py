# SPDX-License-Identifier: MIT
"""Compares what llama.cpp computes with our GGUF files with what our own forward pass computes with the same codes: perplexity to 0.5%,
and the 32 ids with which the model goes on after 24."""
import argparse
import pathlib
import subprocess
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).parent
IDS = 4096
# The types of 32 weights on the model as it is; k-quants and their mixes on the same model with twice the width.
NARROW = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k_m"]
WIDE = ["q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"]


def output(*command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def python(script, *arguments):
    output(sys.executable, "-B", HERE / script, *arguments)


def read(text):
    """The perplexity and the ids that a program has printed."""
    words = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    return float(words["perplexity"][0]), [int(word) for word in words["greedy"]]


def write_texts(scratch):
    """Texts for calibration and comparison: what the model would write is of no interest here, so they are sentences of common words."""
    words = "once upon a time there was little girl dog cat who liked to play in the park with her friend and they saw big red ball".split()
    files = []
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        ids = []
        for _ in range(-(-IDS // 256)):
            text = " ".join(random.choice(words, 80)).encode()[:255]
            ids += [0xFFFF, 0, *text]
        files.append(scratch / f"text{seed}.u16")
        np.array(ids, dtype="<u2").tofile(files[-1])
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    programs = arguments.programs.resolve()  # not looked for on the PATH
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    wide = scratch / "wide"
    python("widen_model.py", arguments.model, wide)
    calibration, evaluation = write_texts(scratch)

    failures = 0
    for model, base_type, mixes in ((arguments.model, "bf16", NARROW), (wide, "f32", WIDE)):
        base = scratch / f"{model.name}.gguf"
        python("make_base_gguf.py", model, base, "--type", base_type)
        for mix in mixes:
            file = scratch / f"{model.name}-{mix}.gguf"
            ours = read(output(programs / "gguf_of_model", model, calibration, evaluation, IDS, "optq", mix, base, file))
            theirs = read(output(programs / "llama_text", file, evaluation, IDS))
            types = sorted({tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors})
            same = abs(theirs[0] / ours[0] - 1) < 0.005 and theirs[1] == ours[1]
            failures += not same
            print(f"{model.name:6} {mix:8} perplexity {ours[0]:.5f} here, {theirs[0]:.5f} in llama.cpp, text "
                  f"{'the same' if theirs[1] == ours[1] else 'another'}; {' '.join(types)}: {'ok' if same else 'FAILED'}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
