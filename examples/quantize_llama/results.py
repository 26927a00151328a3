#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs quantize_llama for every row of RESULTS.md, and writes the tables and the plot from what it reports.

    results.py run PROGRAM FOLDER NAME [--groups N] -- --model M --calib C --eval E ...    one JSON file a row; rows that are there are kept
    results.py write FOLDER RESULTS.md                                                     tables and results.svg beside it
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

METHODS = ["rtn", "optq", "paper", "magr+rtn", "magr+optq", "earlier auto", "auto", "auto effort 2"]
BITS = [2, 3, 4]


def run(program, folder, name, group, options):
    folder.mkdir(parents=True, exist_ok=True)
    for method in reversed(METHODS):  # auto first
        for bits in BITS:
            rows = f"{name}.{group or 'channel'}.{bits}"
            out = folder / f"{rows}.{method.replace(' ', '_')}.json"
            if out.exists() or method == "earlier auto":  # no longer in the program
                continue
            command = [program, *options, "--bits", str(bits), "--methods", method.split()[0], "--sample-tokens", "0", "--json", str(out)]
            if group:
                command += ["--group-size", str(group)]
            if method == "auto effort 2":
                command += ["--effort", "2"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def read(folder):
    """
    {(name, group): {(method, bits): row}} with the excess log-perplexity in each row.
    """
    tables = {}
    for file in sorted(folder.glob("*.json")):
        name, group, bits, method = file.name.removesuffix(".json").split(".", 3)
        report = json.loads(file.read_text())
        row = report["results"][0]
        row["baseline"] = report["baseline"]["perplexity"]
        row["excess"] = math.log(row["perplexity"] / row["baseline"])
        tables.setdefault((name, group), {})[method.replace("_", " "), int(bits)] = row
    return tables


def title(name, group):
    return f"{name}, {'per channel' if group == 'channel' else f'groups of {group}'}"


def table(name, group, rows):
    baseline = next(iter(rows.values()))["baseline"]
    lines = [f"### {title(name, group)}", "", f"Full precision: {baseline:.4g}.", ""]
    lines += ["| bits | method | perplexity | excess | KL divergence | output error | processor seconds | peak memory, MB |", "|" + "---|" * 8]
    for bits in BITS:
        for method in METHODS:
            row = rows.get((method, bits))
            if row:
                lines.append(
                    f"| {bits} | {method} | {row['perplexity']:.4g} | {row['excess']:.4f} | {row['kl']:.4g} | {row['output_error']:.4f} "
                    f"| {row['processor_seconds']:.1f} | {row['peak_memory_bytes'] / 1e6:.0f} |"
                )
    return "\n".join(lines) + "\n"


def verdicts(tables):
    """What auto's excess is in units of that of other methods, and where it is more than 1% above it."""
    lines = ["| model | bits | auto : paper | auto : optq | auto : earlier auto | effort 2 : earlier auto |", "|" + "---|" * 6]
    exceptions = []
    for (name, group), rows in tables.items():
        for bits in BITS:
            auto = rows.get(("auto", bits))
            if not auto:
                continue
            cells = []
            for other in ["paper", "optq", "earlier auto"]:
                row = rows.get((other, bits))
                cells.append(f"{auto['excess'] / row['excess']:.3f}" if row else "-")
                if row and auto["excess"] > 1.01 * row["excess"]:
                    worse, divergence = auto["excess"] / row["excess"] - 1, auto["kl"] / row["kl"] - 1
                    exceptions.append(f"* {title(name, group)}, {bits} bits: {worse:+.1%} against {other}; KL divergence {divergence:+.1%}")
            more, before = rows.get(("auto effort 2", bits)), rows.get(("earlier auto", bits))
            cells.append(f"{more['excess'] / before['excess']:.3f}" if more and before else "-")
            lines.append(f"| {title(name, group)} | {bits} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n", "\n".join(exceptions or ["* none"]) + "\n"


def plot(tables):
    """Small multiples: excess log-perplexity on a logarithmic scale over bits, a line for each method."""
    colours = ["#999999", "#4477aa", "#cc3311", "#bbcc33", "#66ccee", "#ddaa33", "#000000", "#aa3377"]
    width, height, gap, columns = 230, 210, 50, 4
    rows = (len(tables) + columns - 1) // columns
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * (width + gap) + gap}" height="{rows * (height + gap + 20) + 40}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for k, method in enumerate(METHODS):
        parts.append(f'<line x1="{gap + 150 * k}" x2="{gap + 150 * k + 18}" y1="16" y2="16" stroke="{colours[k]}" stroke-width="2"/>')
        parts.append(f'<text x="{gap + 150 * k + 24}" y="20">{method}</text>')
    for n, ((name, group), values) in enumerate(tables.items()):
        left, top = gap + n % columns * (width + gap), 50 + n // columns * (height + gap + 20)
        excesses = [max(row["excess"], 1e-4) for row in values.values()]
        low, high = math.log10(min(excesses)) - 0.05, math.log10(max(excesses)) + 0.05
        x = lambda bits: left + width * (bits - 1.8) / 2.4
        y = lambda excess: top + height * (high - math.log10(max(excess, 1e-4))) / (high - low)
        parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#cccccc"/>')
        parts.append(f'<text x="{left}" y="{top - 6}" font-weight="bold">{title(name, group)}</text>')
        for bits in BITS:
            parts.append(f'<text x="{x(bits):.1f}" y="{top + height + 14}" text-anchor="middle">{bits} bits</text>')
        for power in range(math.floor(low), math.ceil(high) + 1):
            for digit in (1, 2, 5):
                value = digit * 10.0**power
                if low <= math.log10(value) <= high:
                    parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#eeeeee"/>')
                    parts.append(f'<text x="{left - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        for method, colour in zip(METHODS, colours):
            points = [(x(bits), y(values[method, bits]["excess"])) for bits in BITS if (method, bits) in values]
            text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            parts.append(f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="{2.5 if method == "auto" else 1.5}"/>')
    return "\n".join(parts) + "\n</svg>\n"


def write(folder, file):
    tables = read(folder)
    ratios, exceptions = verdicts(tables)
    sections = {"ratios": ratios, "exceptions": exceptions, "tables": "\n".join(table(*key, rows) for key, rows in tables.items())}
    text = file.read_text()
    for name, body in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = head + begin + "\n" + body + "\n" + end + tail
    file.write_text(text)
    file.with_name("results.svg").write_text(plot(tables))


def main():
    arguments = sys.argv[1:]
    options = []
    if "--" in arguments:
        split = arguments.index("--")
        arguments, options = arguments[:split], arguments[split + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("program")
    runner.add_argument("folder", type=pathlib.Path)
    runner.add_argument("name")
    runner.add_argument("--groups", type=int)
    writer = commands.add_parser("write")
    writer.add_argument("folder", type=pathlib.Path)
    writer.add_argument("file", type=pathlib.Path)
    given = parser.parse_args(arguments)
    if given.command == "run":
        run(given.program, given.folder, given.name, given.groups, options)
    else:
        write(given.folder, given.file)


if __name__ == "__main__":
    main()
