#!/usr/bin/python3
"""Runs a command under a container's seccomp profile, as a runtime would:
seccomp_exec.py PROFILE COMMAND [ARGUMENT...]

For tests. Needs libseccomp for Python.
"""

import ctypes
import json
import os
import sys

import seccomp

COMPARISONS = {"SCMP_CMP_EQ": seccomp.EQ,
               "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}
PR_SET_NO_NEW_PRIVS = 38


def action(name, error):
    if name == "SCMP_ACT_ALLOW":
        return seccomp.ALLOW
    assert name == "SCMP_ACT_ERRNO", name
    return seccomp.ERRNO(error)


def load(path):
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    rules = seccomp.SyscallFilter(defaction=action(
        profile["defaultAction"], profile["defaultErrnoRet"]))
    for entry in profile["syscalls"]:
        conditions = [
            seccomp.Arg(arg["index"], COMPARISONS[arg["op"]], arg["value"],
                        arg.get("valueTwo", 0))
            for arg in entry.get("args", [])]
        for name in entry["names"]:
            rules.add_rule(action(entry["action"], entry.get("errnoRet", 1)),
                           name, *conditions)
    rules.load()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    load(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
