#!/usr/bin/python3
"""Breaks lines that matter, one at a time, and sees whether the tests notice.

  mutate.py --verify REPO
  mutate.py [--only=ID,...] [--disk-cache=DIR] -- REPO SCRATCH BAZEL...

Each mutant of mutants.py is applied to a copy, below SCRATCH, of what git would
commit: tracked files, and untracked ones that are not ignored. The engine's
tests are built and run on it, the cheapest first. It is caught if a test fails
or does not end; one that does not build is bad, and counts as neither caught
nor survived. Whatever else Bazel ends with ends the run.

The exit status is 0 if at least 95 % are caught and none is bad. --verify runs
no test: it checks that each mutant still has its line to break.
"""

import argparse
import collections
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from mutants import MUTANTS

CAUGHT_SHARE = 0.95

# A mutant is caught by the first stage that notices. `targets` are patterns.
Stage = collections.namedtuple("Stage", "name options targets")
DEFAULT_TESTS = "--test_tag_filters=-long-mode,-manual,-hooks,-exclusive"
STAGES = (
    Stage("unit", [DEFAULT_TESTS],
          ["//engine/base/...", "//engine/sync/...", "//engine/paging/...",
           "//engine/memory/...", "//engine/mmu/...",
           "-//engine/mmu:tdp_mmu_model_test"]),
    Stage("hooks", ["--config=hooks", "--test_tag_filters=hooks"],
          ["//engine/mmu/..."]),
    Stage("model", [DEFAULT_TESTS], ["//engine/mmu:tdp_mmu_model_test"]),
    Stage("vm", [DEFAULT_TESTS],
          ["//engine/vm:vcpu_set_test", "//engine/vm:vm_dirty_log_test",
           "//engine/vm:vm_test",
           "//engine/vm:vm_mmu_changes_test", "//engine/vm:vm_memslot_test",
           "//engine/vm:working_set_test",
           "//engine/vm:working_set_scanner_test",
           "//engine/vm:vm_working_set_test",
           "//engine/vm:vm_working_set_word_test"]),
)
TEST_SECONDS = 240
STAGE_SECONDS = 900  # without the build
INTERRUPT_SECONDS = 60
OUTPUT_LINES = 60

# How Bazel ends.
SUCCESS = 0
BUILD_FAILED = 1
TESTS_FAILED = 3


class BadMutant(Exception):
    """The mutant does not build."""


class Aborted(Exception):
    """Bazel failed for a reason that says nothing about the mutant."""


def last_lines(output):
    return "\n".join(output.splitlines()[-OUTPUT_LINES:])


def copy_files(repo, copy):
    """Copies what git would commit, so that nothing else is built."""
    names = subprocess.run(
        ["git", "-C", repo, "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        source = pathlib.Path(repo, name)
        if not source.is_file():
            continue
        target = pathlib.Path(copy, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def run_bazel(command, copy, seconds=None):
    """Returns the exit status, None if it did not end in time, and the output."""
    with subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as bazel:
        try:
            output, _ = bazel.communicate(timeout=seconds)
            return bazel.returncode, output
        except subprocess.TimeoutExpired:
            # Bazel ends the test as well, which a kill would leave running.
            bazel.send_signal(signal.SIGINT)
        try:
            output, _ = bazel.communicate(timeout=INTERRUPT_SECONDS)
        except subprocess.TimeoutExpired:
            bazel.kill()
            output, _ = bazel.communicate()
        return None, output


def run_stage(bazel, copy, stage):
    """Returns None if all tests pass, else what noticed."""
    options = ["--build_tests_only"] + stage.options
    status, output = run_bazel(
        bazel + ["build"] + options + ["--"] + stage.targets, copy)
    if status == BUILD_FAILED:
        raise BadMutant(last_lines(output))
    if status != SUCCESS:
        raise Aborted("bazel build ended with %d:\n%s" %
                      (status, last_lines(output)))
    status, output = run_bazel(
        bazel + ["test", "--test_output=summary", "--notest_keep_going",
                 "--test_timeout=%d" % TEST_SECONDS, "--cache_test_results=no"]
        + options + ["--"] + stage.targets, copy, STAGE_SECONDS)
    if status is None:
        return "does not end"
    if status == SUCCESS:
        return None
    if status != TESTS_FAILED:
        raise Aborted("bazel test ended with %d:\n%s" %
                      (status, last_lines(output)))
    for line in output.splitlines():
        if line.startswith("//") and ("FAILED" in line or "TIMEOUT" in line):
            return line.split()[0]
    return "a test"


def notice(bazel, copy):
    for stage in STAGES:
        noticed = run_stage(bazel, copy, stage)
        if noticed:
            return "%s: %s" % (stage.name, noticed)
    return None


def apply(copy, mutant):
    """Breaks the line; returns the file and its text before."""
    path = pathlib.Path(copy, mutant.path)
    before = path.read_text()
    path.write_text(before.replace(mutant.old, mutant.new))
    return path, before


def misfits(root, mutants):
    """Says of each mutant that cannot be applied why."""
    found = []
    ids = collections.Counter(mutant.id for mutant in mutants)
    found += ["%s: %d mutants have this id" % (name, count)
              for name, count in ids.items() if count > 1]
    for mutant in mutants:
        path = pathlib.Path(root, mutant.path)
        count = path.read_text().count(mutant.old) if path.is_file() else 0
        if count != 1:
            found.append("%s: its text is %d times in %s, not once" %
                         (mutant.id, count, mutant.path))
    return found


def run_mutants(bazel, copy, mutants):
    """Tries each of them; returns those that survived and those that are bad."""
    survivors = []
    bad = []
    for i, mutant in enumerate(mutants):
        begin = time.monotonic()
        path, before = apply(copy, mutant)
        try:
            noticed = notice(bazel, copy)
            if not noticed:
                survivors.append(mutant)
                noticed = "SURVIVED: " + mutant.breaks
        except BadMutant as error:
            bad.append(mutant)
            noticed = "BAD, it does not build:\n%s" % error
        finally:
            path.write_text(before)
        print("%2d/%d %-32s %5.0f s  %s" %
              (i + 1, len(mutants), mutant.id, time.monotonic() - begin,
               noticed), flush=True)
    return survivors, bad


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true",
                        help="only check that each mutant can be applied")
    parser.add_argument("--only", default="", metavar="ID,...",
                        help="the mutants to try; all unless given")
    parser.add_argument("--disk-cache", default="", metavar="DIR",
                        help="a cache for Bazel, to read only")
    parser.add_argument("repo", metavar="REPO")
    parser.add_argument("scratch", metavar="SCRATCH", nargs="?")
    parser.add_argument("bazel", metavar="BAZEL", nargs="*")
    args = parser.parse_args(argv)
    if not args.verify and not args.bazel:
        parser.error("without --verify, SCRATCH and BAZEL are required")
    only = set(filter(None, args.only.split(",")))
    if unknown := only - {mutant.id for mutant in MUTANTS}:
        parser.error("there is no mutant %s; mutants.py lists them all" %
                     ", ".join(sorted(unknown)))
    args.mutants = [m for m in MUTANTS if not only or m.id in only]
    return args


def main(argv):
    args = parse_arguments(argv)
    if found := misfits(args.repo, args.mutants):
        print("\n".join(found))
        return 1
    if args.verify:
        return 0

    copy = os.path.join(args.scratch, "mutated")
    copy_files(args.repo, copy)
    if args.disk_cache:
        pathlib.Path(copy, ".bazelrc.user").write_text(
            "build --disk_cache=%s --remote_upload_local_results=false\n" %
            args.disk_cache)
    try:
        if noticed := notice(args.bazel, copy):
            print("the tests fail without any mutant: " + noticed)
            return 1
        survivors, bad = run_mutants(args.bazel, copy, args.mutants)
    except BadMutant as error:
        print("the tests do not build without any mutant:\n%s" % error)
        return 1
    except Aborted as error:
        print(error)
        return 1
    tried = len(args.mutants) - len(bad)
    caught = tried - len(survivors)
    print("%d mutants, %d caught, %d survived, %d bad" %
          (len(args.mutants), caught, len(survivors), len(bad)))
    return 0 if not bad and caught >= CAUGHT_SHARE * tried else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
