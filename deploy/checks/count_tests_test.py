#!/usr/bin/python3
"""Tests of count_tests.py on small results of every kind."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import count_tests  # pylint: disable=wrong-import-position

PASSED = '<testcase name="Ok" status="run" result="completed" classname="A"/>'
FAILED = (
    '<testcase name="Bad" status="run" result="completed" classname="A">'
    '<failure message="a.cc:1&#x0A;Expected: 1"/></testcase>'
)
SKIPPED = (
    '<testcase name="Skip" status="run" result="skipped" classname="A">'
    '<skipped message="needs {}"/></testcase>'
)
DISABLED = (
    '<testcase name="DISABLED_D" status="notrun" result="suppressed"'
    ' classname="A"/>'
)
BAZEL_CASE = '<testcase name="//a:sh_test" status="run" duration="1"/>'


class CountTest(unittest.TestCase):
    """Writes results into a folder of its own and counts them."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def check_step(self, name, status):
        (self.folder / f"{name}.status").write_text(f"{status}\n")

    def bazel_step(self, name, status, events):
        text = "".join(json.dumps(event) + "\n" for event in events)
        (self.folder / f"{name}.json").write_text(text)
        self.check_step(name, status)

    def result(self, label, status, cases=None, **key):
        """Returns the event of a test target whose test.xml has `cases`."""
        outputs = []
        if cases is not None:
            path = self.folder / (label.replace("/", "_") + ".xml")
            path.write_text(
                f"<testsuites><testsuite>{cases}</testsuite></testsuites>"
            )
            outputs.append({"name": "test.xml", "uri": path.as_uri()})
        log = self.folder / "test.log"
        log.write_text("the log says so\n")
        outputs.append({"name": "test.log", "uri": log.as_uri()})
        return {
            "id": {"testResult": {"label": label, **key}},
            "testResult": {"status": status, "testActionOutput": outputs},
        }

    @staticmethod
    def completed(label, success):
        completed = {"success": True} if success else {}
        return {
            "id": {"targetCompleted": {"label": label}},
            "completed": completed,
        }

    def count(self, kvm="no"):
        """Returns the last line, the whole output and the exit status."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = count_tests.main([str(self.folder), f"--kvm={kvm}"])
        text = output.getvalue()
        return text.splitlines()[-1], text, status

    def test_nothing_at_all_is_a_failure(self):
        line, _, status = self.count()
        self.assertEqual(line, "0 passed, 0 failed, 0 skipped")
        self.assertEqual(status, 1)

    def test_each_google_test_case_counts(self):
        cases = PASSED + PASSED + SKIPPED.format("root") + DISABLED
        self.bazel_step("default", 0, [self.result("//a:t", "PASSED", cases)])
        line, text, status = self.count()
        self.assertEqual(line, "2 passed, 0 failed, 2 skipped")
        self.assertIn("SKIPPED [default] //a:t A.Skip: needs root", text)
        self.assertEqual(status, 0)

    def test_a_target_without_cases_counts_as_one(self):
        events = [
            self.result("//a:sh_test", "PASSED", BAZEL_CASE),
            self.result("//a:no_xml", "PASSED"),
        ]
        self.bazel_step("default", 0, events)
        self.assertEqual(self.count()[0], "2 passed, 0 failed, 0 skipped")

    def test_a_failed_case_shows_its_message_and_the_log(self):
        event = self.result("//a:t", "FAILED", PASSED + FAILED)
        self.bazel_step("default", 3, [event])
        line, text, status = self.count()
        self.assertEqual(line, "1 passed, 1 failed, 0 skipped")
        self.assertIn("FAILED [default] //a:t A.Bad: a.cc:1", text)
        self.assertIn("the log says so", text)
        self.assertEqual(status, 1)

    def test_a_binary_that_fails_after_its_cases_passed_is_a_failure(self):
        self.bazel_step("asan", 3, [self.result("//a:t", "FAILED", PASSED)])
        self.assertEqual(self.count()[0], "1 passed, 1 failed, 0 skipped")

    def test_a_timeout_is_a_failure(self):
        self.bazel_step("default", 3, [self.result("//a:t", "TIMEOUT")])
        line, text, _ = self.count()
        self.assertEqual(line, "0 passed, 1 failed, 0 skipped")
        self.assertIn("ended as TIMEOUT", text)

    def test_a_target_that_does_not_build_is_a_failure(self):
        events = [
            self.completed("//a:t", False),
            self.completed("//a:library", True),
        ]
        self.bazel_step("default", 1, events)
        line, text, _ = self.count()
        self.assertEqual(line, "0 passed, 1 failed, 0 skipped")
        self.assertIn("//a:t: failed to build", text)

    def test_a_run_that_fails_without_a_failed_target_is_a_failure(self):
        self.bazel_step("tsan", 37, [self.result("//a:t", "PASSED", PASSED)])
        self.assertEqual(self.count()[0], "1 passed, 1 failed, 0 skipped")

    def test_an_event_file_that_was_cut_off_counts_what_it_has(self):
        self.bazel_step("default", 8, [self.result("//a:t", "PASSED", PASSED)])
        with open(self.folder / "default.json", "a", encoding="utf-8") as file:
            file.write('{"id":{"testRes')
        self.assertEqual(self.count()[0], "1 passed, 1 failed, 0 skipped")

    def test_only_the_last_attempt_of_a_test_counts(self):
        events = [
            self.result("//a:t", "FAILED", attempt=1),
            self.result("//a:t", "PASSED", PASSED, attempt=2),
        ]
        self.bazel_step("default", 0, events)
        self.assertEqual(self.count()[0], "1 passed, 0 failed, 0 skipped")

    def test_a_skip_for_want_of_kvm_fails_where_kvm_works(self):
        cases = PASSED + SKIPPED.format("KVM")
        self.bazel_step("default", 0, [self.result("//a:t", "PASSED", cases)])
        self.assertEqual(self.count("no")[0], "1 passed, 0 failed, 1 skipped")
        line, text, status = self.count("yes")
        self.assertEqual(line, "1 passed, 1 failed, 0 skipped")
        self.assertIn("skipped, but /dev/kvm works", text)
        self.assertEqual(status, 1)

    def test_checks_count_as_one_each_and_steps_add_up(self):
        self.check_step("buf-lint", 0)
        self.check_step("clang-format", 1)
        self.bazel_step("default", 0, [self.result("//a:t", "PASSED", PASSED)])
        self.bazel_step("tsan", 0, [self.result("//a:u", "PASSED", PASSED)])
        line, text, status = self.count()
        self.assertEqual(line, "3 passed, 1 failed, 0 skipped")
        self.assertIn("FAILED [clang-format]: status 1", text)
        self.assertEqual(status, 1)


if __name__ == "__main__":
    unittest.main()
