#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Joins headers of magr and all that they include of magr to one file.

usage: amalgamate.py FOLDER OUTPUT [HEADER ...]

FOLDER holds magr/, and LICENSE lies beside it. HEADER is magr/magr.hpp unless named otherwise; name
magr/parallel/thread_pool.hpp, too, to have the library's thread pool in the file. The result depends on the contents of these headers alone.

A header goes where the first header that includes it does so, as the preprocessor would put it. Definitions are included unless
MAGR_COMPILED is defined. What they alone need stays under that condition; what is needed in either case goes in front of it. Headers of
others are still included.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r"\s*#\s*include\s*(<[^>]*>)")


class Amalgamation:
    def __init__(self, folder, roots):
        self.folder = pathlib.Path(folder)
        self.lines = []
        self.seen = set()  # headers of magr, and those of others that are included under no condition
        self.always = set()  # headers of magr that MAGR_COMPILED leaves
        for root in roots:
            self.reach(root, self.always, with_definitions=False)
        for root in roots:
            self.add(root, is_definition=False)

    def read(self, name):
        text = (self.folder / name).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line != "#pragma once" and not line.startswith("// SPDX-")]

    def reach(self, name, found, with_definitions):
        """Adds a header and what it includes to those that were found."""
        if name in found:
            return
        found.add(name)
        conditions = 0
        for line in self.read(name):
            conditions += opens_or_closes(line)
            if own_header(line) and (with_definitions or conditions == 0):
                self.reach(own_header(line), found, with_definitions)

    def add(self, name, is_definition):
        """Adds a header unless it is there. A definition, or what only definitions need, is under the condition already."""
        if name in self.seen:
            return
        self.seen.add(name)
        self.lines.append(f"// {name}")
        conditions = 0
        for line in self.read(name):
            conditions += opens_or_closes(line)
            include = INCLUDE.match(line)
            if own_header(line):
                if conditions > 0 and not is_definition:
                    self.prepare_definitions(own_header(line))
                self.add(own_header(line), is_definition or conditions > 0)
            elif include is None:
                self.lines.append(line)
            elif include.group(1) not in self.seen:
                self.lines.append(line)
                if conditions == 0 and not is_definition:
                    self.seen.add(include.group(1))

    def prepare_definitions(self, name):
        """Adds what is needed in either case in front of the condition, which is the last line."""
        condition = self.lines.pop()
        if condition != "#ifndef MAGR_COMPILED":
            raise ValueError(f"{name} is included under or after {condition}, which this script does not know")
        needed = set()
        self.reach(name, needed, with_definitions=True)
        for header in sorted(needed & self.always):
            self.add(header, is_definition=False)
        self.lines.append(condition)

    def text(self):
        licence = (self.folder.parent / "LICENSE").read_text(encoding="utf-8")
        top = ["// SPDX-License-Identifier: MIT", "// magr in one file, written by cmake/amalgamate.py. Include no other header of magr beside it."]
        top += [f"// {line}".rstrip() for line in ["", *licence.splitlines()]]
        joined = "\n".join([*top, "#ifndef MAGR_SINGLE_HEADER", "#define MAGR_SINGLE_HEADER", "", *self.lines, "", "#endif"]) + "\n"
        return re.sub(r"\n{3,}", "\n\n", joined)


def opens_or_closes(line):
    """1 where a condition of the preprocessor begins, -1 where it ends."""
    return bool(re.match(r"\s*#\s*if", line)) - bool(re.match(r"\s*#\s*endif", line))


def own_header(line):
    match = INCLUDE.match(line)
    return match.group(1).strip("<>") if match and match.group(1).startswith("<magr/") else None


def main(folder, output, *headers):
    text = Amalgamation(folder, headers or ["magr/magr.hpp"]).text()
    output = pathlib.Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
