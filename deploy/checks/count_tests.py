#!/usr/bin/python3
"""Counts what a run of `dev.sh test` really did, and ends with the numbers.

The folder given holds, for each step, NAME.status (the exit status) and, if the
step was a Bazel run, NAME.json (its build event file). Counted are

- every GoogleTest case that ran, from the test.xml of its target;
- every other test target, and every check that is no Bazel run, as one;
- every target that failed to build, as one failure;
- as one more failure, what no case explains: a test binary that failed
  although its cases passed, or a Bazel run that failed without a failed target.

Where /dev/kvm works, a test skipped for want of KVM is a failure. The exit
status is 0 if something passed and nothing failed.
"""

import argparse
import dataclasses
import fcntl
import json
import os
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree

KVM_GET_API_VERSION = 0xAE00
KVM_API_VERSION = 12
LOG_LINES = 60


@dataclasses.dataclass
class Failure:
    """A failed test, check or target; `log` is the path of its output."""

    name: str
    message: str = ""
    log: str = ""


@dataclasses.dataclass
class Counts:
    """What was counted so far."""

    passed: int = 0
    skipped: int = 0
    failures: list = dataclasses.field(default_factory=list)
    skips: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures
        self.skips += other.skips

    def summary(self):
        return (
            f"{self.passed} passed, {len(self.failures)} failed, "
            f"{self.skipped} skipped"
        )


def kvm_works():
    """Says whether this process may use KVM."""
    try:
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(fd, KVM_GET_API_VERSION) == KVM_API_VERSION
    except OSError:
        return False
    finally:
        os.close(fd)


def path_of(uri):
    """Returns the path of a file:// URI, or "" if it is no such thing."""
    parts = urllib.parse.urlparse(uri)
    return urllib.parse.unquote(parts.path) if parts.scheme == "file" else ""


def google_test_cases(xml_path):
    """Returns the <testcase> elements, or None if GoogleTest wrote no file."""
    try:
        root = xml.etree.ElementTree.parse(xml_path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    cases = list(root.iter("testcase"))
    # Only GoogleTest says of each case whether it was run; Bazel writes a file
    # with one case for a test that wrote none.
    if not cases or any("result" not in case.attrib for case in cases):
        return None
    return cases


def count_cases(label, cases, log, kvm):
    """Counts GoogleTest cases; disabled ones count as skipped."""
    counts = Counts()
    for case in cases:
        name = f"{label} {case.get('classname')}.{case.get('name')}"
        failure = case.find("failure")
        skip = case.find("skipped")
        if failure is not None:
            counts.failures.append(Failure(name, failure.get("message", ""), log))
        elif skip is not None or case.get("status") == "notrun":
            reason = skip.get("message", "") if skip is not None else "disabled"
            if kvm and "KVM" in reason:
                counts.failures.append(
                    Failure(name, f"skipped, but /dev/kvm works: {reason}", log)
                )
            else:
                counts.skipped += 1
                counts.skips.append(f"{name}: {reason}")
        else:
            counts.passed += 1
    return counts


def count_target(label, result, kvm):
    """Counts one test target by its last testResult event."""
    outputs = {
        output["name"]: path_of(output.get("uri", ""))
        for output in result.get("testActionOutput", [])
    }
    log = outputs.get("test.log", "")
    succeeded = result.get("status") in ("PASSED", "FLAKY")
    cases = google_test_cases(outputs.get("test.xml", ""))
    counts = Counts()
    if cases is not None:
        counts = count_cases(label, cases, log, kvm)
    elif succeeded:
        counts.passed = 1
    if not succeeded and not counts.failures:
        counts.failures.append(
            Failure(label, f"ended as {result.get('status')}", log)
        )
    return counts


def count_bazel_run(name, status, events, kvm):
    """Counts a Bazel run by its build events and its exit status."""
    results = {}
    broken = set()
    for event in events:
        if "testResult" in event:
            key = event["id"]["testResult"]
            # Events come in order, so the last attempt stands.
            where = (key["label"], key.get("run", 1), key.get("shard", 1))
            results[where] = event["testResult"]
        elif "targetCompleted" in event.get("id", {}):
            if not event.get("completed", {}).get("success", False):
                broken.add(event["id"]["targetCompleted"]["label"])
    counts = Counts()
    for (label, _, _), result in sorted(results.items()):
        counts.add(count_target(f"[{name}] {label}", result, kvm))
    tested = {label for label, _, _ in results}
    for label in sorted(broken - tested):
        counts.failures.append(Failure(f"[{name}] {label}", "failed to build"))
    if status != 0 and not counts.failures:
        counts.failures.append(
            Failure(f"[{name}]", f"bazel ended with status {status}")
        )
    return counts


def read_events(path):
    """Reads a build event file; a run that was cut off leaves a broken line."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def count_folder(folder, kvm):
    """Counts every step; prints a line for each."""
    total = Counts()
    steps = sorted(folder.glob("*.status"), key=lambda path: path.stat().st_mtime_ns)
    for path in steps:
        name = path.stem
        status = int(path.read_text(encoding="utf-8"))
        event_file = path.with_suffix(".json")
        if event_file.exists():
            counts = count_bazel_run(name, status, read_events(event_file), kvm)
        elif status == 0:
            counts = Counts(passed=1)
        else:
            counts = Counts(failures=[Failure(f"[{name}]", f"status {status}")])
        print(f"{name + ':':<14}{counts.summary()}")
        total.add(counts)
    return total


def tail(path):
    """Returns the last lines of a log, or a sentence why there are none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(lines[-LOG_LINES:])


def report(total):
    """Prints skips, failures and the log of each failed target, once."""
    for skip in total.skips:
        print(f"SKIPPED {skip}")
    shown = set()
    for failure in total.failures:
        if failure.log and failure.log not in shown:
            shown.add(failure.log)
            print(f"---- the end of {failure.log}")
            print(tail(failure.log))
            print("----")
    for failure in total.failures:
        message = failure.message.strip().split("\n\n")[0]
        print(f"FAILED {failure.name}: {message}")


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="the results")
    parser.add_argument(
        "--kvm",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether KVM works here; auto asks /dev/kvm",
    )
    args = parser.parse_args(argv)
    kvm = kvm_works() if args.kvm == "auto" else args.kvm == "yes"
    total = count_folder(args.folder, kvm)
    report(total)
    print(total.summary())
    return 0 if total.passed and not total.failures else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
