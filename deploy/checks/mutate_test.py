#!/usr/bin/python3
"""Tests of mutate.py with a stand-in for Bazel, which ends as a file says."""

import contextlib
import io
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import mutate  # pylint: disable=wrong-import-position
from mutants import Mutant  # pylint: disable=wrong-import-position

# Its exit status is what engine.cc says of the command, else 0.
BAZEL = """#!/bin/bash
status="$(sed -n "s/^$1=//p" engine.cc)"
[[ "$status" == hang ]] && exec sleep 600
[[ "$status" == 3 ]] && echo "//engine:a_test FAILED in 0.1s"
[[ -n "$status" ]] && echo "the log of $1"
exit "${status:-0}"
"""


def mutant(name, new):
    return Mutant(name, "engine.cc", "line\n", new, "a line")


class MutateTest(unittest.TestCase):
    """Runs mutate.py over a small repository."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.repo = pathlib.Path(folder.name, "repo")
        self.scratch = pathlib.Path(folder.name, "scratch")
        self.bazel = pathlib.Path(folder.name, "bazel")
        self.scratch.mkdir()
        self.bazel.write_text(BAZEL)
        self.bazel.chmod(0o755)
        subprocess.run(["git", "init", "-q", self.repo], check=True)
        self.source("line\n")
        self.swap("STAGE_SECONDS", 0.5)

    def source(self, text):
        (self.repo / "engine.cc").write_text(text)

    def swap(self, name, value):
        before = getattr(mutate, name)
        self.addCleanup(setattr, mutate, name, before)
        setattr(mutate, name, value)

    def run_main(self, mutants, *options):
        """Returns the exit status and what was printed."""
        self.swap("MUTANTS", mutants)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                status = mutate.main([*options, "--", str(self.repo),
                                      str(self.scratch), str(self.bazel)])
            except SystemExit as end:
                status = end.code
        return status, out.getvalue()

    def test_failed_tests_and_tests_that_do_not_end_catch(self):
        status, out = self.run_main(
            [mutant("fails", "test=3\n"), mutant("hangs", "test=hang\n")])
        self.assertEqual(status, 0, out)
        self.assertIn("unit: //engine:a_test", out)
        self.assertIn("unit: does not end", out)
        self.assertIn("2 mutants, 2 caught, 0 survived, 0 bad", out)

    def test_a_survivor_fails_the_run(self):
        status, out = self.run_main([mutant("lives", "\n")])
        self.assertEqual(status, 1)
        self.assertIn("SURVIVED: a line", out)

    def test_a_mutant_that_does_not_build_is_bad_and_not_caught(self):
        status, out = self.run_main(
            [mutant("bad", "build=1\n"), mutant("fails", "test=3\n")])
        self.assertEqual(status, 1)
        self.assertIn("BAD, it does not build:\nthe log of build", out)
        self.assertIn("2 mutants, 1 caught, 0 survived, 1 bad", out)

    def test_anything_else_ends_the_run_with_its_output(self):
        for line in ("build=37\n", "test=4\n", "test=1\n"):
            status, out = self.run_main(
                [mutant("infra", line), mutant("fails", "test=3\n")])
            command, code = line.strip().split("=")
            self.assertEqual(status, 1)
            self.assertIn(
                f"bazel {command} ended with {code}:\nthe log of {command}",
                out)
            self.assertNotIn("caught", out)

    def test_tests_that_fail_by_themselves_end_the_run(self):
        for text, sentence in (
                ("line\ntest=3\n", "the tests fail without any mutant"),
                ("line\nbuild=1\n", "do not build without any mutant")):
            self.source(text)
            status, out = self.run_main([mutant("fails", "test=3\n")])
            self.assertEqual(status, 1)
            self.assertIn(sentence, out)

    def test_an_id_that_there_is_not_is_a_usage_error(self):
        status, out = self.run_main([mutant("a", "")], "--only=a,b")
        self.assertEqual(status, 2)
        self.assertIn("there is no mutant b;", out)

    def test_verify_names_each_mutant_that_cannot_be_applied(self):
        good = mutant("good", "")
        gone = Mutant("gone", "engine.cc", "no such line", "", "")
        lost = Mutant("lost", "no_such.cc", "line", "", "")
        self.assertEqual(self.run_main([good], "--verify"), (0, ""))
        status, out = self.run_main([good, gone, lost, good], "--verify")
        self.assertEqual(status, 1)
        self.assertEqual(out, "good: 2 mutants have this id\n"
                         "gone: its text is 0 times in engine.cc, not once\n"
                         "lost: its text is 0 times in no_such.cc, not once\n")
        self.source("line\nline\n")
        self.assertIn("good: its text is 2 times",
                      self.run_main([good], "--verify")[1])


if __name__ == "__main__":
    unittest.main()
