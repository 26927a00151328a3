# SPDX-License-Identifier: MIT
"""Writes a text as the token ids that quantize_llama reads: little-endian uint16 (.u16) or uint32 (.u32), where 0xFFFF or
0xFFFFFFFF begins each sequence. Special tokens are added as tokenizer.json says, to the beginning of a document for most models."""
import argparse
import array
import pathlib
import sys


def documents(text, separator):
    """The parts between separators, or between blank lines, without the empty ones and, so that no part of them contains a document
    of another, without repetitions."""
    parts = text.split(separator.replace(r"\n", "\n") if separator else "\n\n")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def share(items, begin, end):
    """The items from one fraction of the list to another: [0, x) and [x, 1) have none in common and leave none out."""
    return items[round(begin * len(items)) : round(end * len(items))]


def sequences(ids, longest, windows):
    """A document's ids as one sequence of at most `longest` ids, or as windows of that many and a shorter last one."""
    if longest is None:
        return [ids]
    if not windows:
        return [ids[:longest]]
    return [ids[first : first + longest] for first in range(0, len(ids), longest)]


def encode(all_sequences, width):
    """The bytes of the file."""
    unsigned = next(code for code in "HIL" if array.array(code).itemsize == width)
    separator = 256**width - 1
    numbers = array.array(unsigned)
    for ids in all_sequences:
        if max(ids) >= separator:
            sys.exit(f"id {max(ids)} does not fit into {width} bytes: name the file *.u32")
        numbers.append(separator)
        numbers.extend(ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=pathlib.Path, help="folder with tokenizer.json")
    arguments.add_argument("text", type=pathlib.Path, help="a file in UTF-8")
    arguments.add_argument("ids", type=pathlib.Path, help="the file to write, *.u16 or *.u32")
    arguments.add_argument("--separator", help=r"what separates documents, such as '<|endoftext|>' or '\n' (default: blank lines)")
    arguments.add_argument("--longest", type=int, metavar="N", help="keep the first N ids of each document (default: all)")
    arguments.add_argument("--windows", action="store_true", help="keep the rest too, as further sequences of N ids")
    arguments.add_argument("--begin", type=float, default=0, help="leave out this part of the documents, from 0 to 1 (default: 0)")
    arguments.add_argument("--end", type=float, default=1, help="stop after this part of the documents (default: 1)")
    options = arguments.parse_args()
    width = {".u16": 2, ".u32": 4}.get(options.ids.suffix) or arguments.error("the ids must go to *.u16 or *.u32")
    if options.longest is not None and options.longest < 1:
        arguments.error("--longest must be at least 1")
    if options.windows and options.longest is None:
        arguments.error("--windows needs --longest")
    if not 0 <= options.begin < options.end <= 1:
        arguments.error("--begin must be less than --end, both from 0 to 1")

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    parts = share(documents(options.text.read_text(encoding="utf-8"), options.separator), options.begin, options.end)
    found = [ids for part in parts for ids in sequences(tokenizer.encode(part).ids, options.longest, options.windows) if ids]
    if not found:
        sys.exit(f"{options.text}: no text")
    options.ids.write_bytes(encode(found, width))
    print(f"{options.ids}: {len(parts)} documents, {len(found)} sequences, {sum(map(len, found))} ids")


if __name__ == "__main__":
    main()
