#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what cmake/amalgamate.py writes.

usage: check.py SOURCE COMPILER [FLAG ...]     FLAGs find Eigen and xsimd
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

source, compiler, *flags = sys.argv[1:]
source = pathlib.Path(source)


def amalgamate(folder, output, *headers):
    script = source / "cmake" / "amalgamate.py"
    done = subprocess.run([sys.executable, script, folder, output, *headers], capture_output=True, text=True)
    return done.stderr if done.returncode else output.read_text(encoding="utf-8")


def compile_command(*more):
    return [compiler, "-std=c++20", *flags, *map(str, more)]


class SingleHeader(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.header = self.folder / "magr.hpp"

    def test_holds_every_header_that_the_compiler_finds(self):
        text = amalgamate(source / "include", self.header)
        command = compile_command("-M", "-I", source / "include", source / "include/magr/magr.hpp")
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ").split()
        own = [pathlib.Path(name) for name in found if name.startswith(str(source / "include"))]
        self.assertGreater(len(own), 100)
        for header in own:
            name = header.relative_to(source / "include")
            with self.subTest(header=name):
                self.assertEqual(text.count(f"\n// {name}\n"), 1)
                for line in header.read_text(encoding="utf-8").splitlines():
                    if not line.startswith(("#include", "#pragma once", "// SPDX")):
                        self.assertIn(line, text)
        self.assertNotIn("#include <magr/", text)
        self.assertNotIn("#pragma once", text)

    def test_does_not_depend_on_the_order_of_files(self):
        copy = self.folder / "copy" / "include"
        for header in sorted((source / "include").rglob("*.hpp"), reverse=True):
            to = copy / header.relative_to(source / "include")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(header, to)
        shutil.copy(source / "LICENSE", copy.parent)
        self.assertEqual(amalgamate(source / "include", self.header), amalgamate(copy, self.folder / "other.hpp"))

    def test_carries_the_licence(self):
        text = amalgamate(source / "include", self.header)
        self.assertTrue(text.startswith("// SPDX-License-Identifier: MIT\n"))
        for line in (source / "LICENSE").read_text(encoding="utf-8").splitlines():
            self.assertIn(f"// {line}".rstrip() + "\n", text)

    def test_compiles_where_definitions_are_in_the_compiled_library(self):
        amalgamate(source / "include", self.header)
        unit = self.folder / "unit.cpp"
        unit.write_text('#include "magr.hpp"\n#ifdef EIGEN_CHOLESKY_MODULE_H\n#error "definitions are included"\n#endif\n')
        done = subprocess.run(compile_command("-fsyntax-only", "-DMAGR_COMPILED", unit), capture_output=True, text=True)
        self.assertEqual(done.stderr, "")

    def test_takes_more_headers_if_they_are_named(self):
        text = amalgamate(source / "include", self.header, "magr/magr.hpp", "magr/parallel/thread_pool.hpp")
        self.assertIn("class thread_pool", text)
        self.assertTrue(text.startswith(amalgamate(source / "include", self.folder / "less.hpp")[:100000]))

    def test_refuses_conditions_that_it_does_not_know(self):
        magr = self.folder / "include" / "magr"
        magr.mkdir(parents=True)
        shutil.copy(source / "LICENSE", self.folder)
        (magr / "magr.hpp").write_text("#pragma once\n#ifdef SOMETHING\n#include <magr/part.hpp>\n#endif\n")
        (magr / "part.hpp").write_text("#pragma once\n")
        self.assertIn("magr/part.hpp is included under or after #ifdef SOMETHING", amalgamate(magr.parent, self.header))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
