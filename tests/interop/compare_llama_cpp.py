# SPDX-License-Identifier: MIT
"""Compares llama.cpp's own quantizer with quantize_llama: GGUF files of the same types, evaluated by llama.cpp. Prints a row of a table
for each type. It runs in the environment that tests/interop/run.sh llama_cpp makes, where the programs that call llama.cpp are, too."""
import math
import pathlib
import subprocess
import sys

from interop import comparison_arguments, run_quantize_llama
from make_base_gguf import make_base_gguf

PROGRAMS = pathlib.Path(sys.prefix)  # the folder in which llama_cpp.sh has made them


def run(*words):
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def log_perplexity(file, given):
    return math.log(float(run(PROGRAMS / "llama_text", file, given.eval, given.eval_tokens).split()[1]))


def main():
    parser = comparison_arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=16384, help="ids of the calibration, of both")
    parser.add_argument("--eval-tokens", type=int, default=16384)
    parser.add_argument("--types", nargs="+", default=["q4_0", "q4_1", "q5_0", "q5_1"])
    parser.add_argument("--methods", nargs="+", default=["auto"], help="of quantize_llama")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    base = given.out / "base.gguf"
    if not base.exists():
        make_base_gguf(given.model, base, "f32")
    exact = log_perplexity(base, given)
    names = ["plain", "importance", *given.methods]
    print(f"Full precision: {math.exp(exact):.6g}.\n")
    print("| type | bytes | " + " | ".join(names) + " | excess of " + " | excess of ".join(given.methods) + " |")
    print("|" + "---|" * (2 + len(names) + len(given.methods)))
    for mix in given.types:
        excess, sizes = {}, set()
        for name in names:
            file = given.out / f"{mix}-{name}.gguf"
            if name in given.methods:
                file = given.out / f"{mix}-{name}" / "model.gguf"
                if not file.exists():
                    run_quantize_llama(given, file.parent, name, "--format", "gguf", "--gguf-type", mix, "--gguf-base", base,
                                       "--gguf-small-embedding")
            elif not file.exists():
                text = [given.calib, given.tokens] if name == "importance" else []
                run(PROGRAMS / "llama_quantize", base, file, mix, *text)
            excess[name] = log_perplexity(file, given) - exact
            sizes.add(file.stat().st_size)
            print(f"{mix} {name}: excess {excess[name]:.5f}, {file.stat().st_size} bytes", file=sys.stderr, flush=True)
        best = min(excess["plain"], excess["importance"])
        cells = [mix, " or ".join(f"{size:,}" for size in sorted(sizes)), *(f"{math.exp(exact + excess[name]):.6g}" for name in names),
                 *(f"{excess[name] / best:.2f}" for name in given.methods)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
