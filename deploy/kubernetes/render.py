#!/usr/bin/python3
"""Prints the manifests for a cluster: render.py [VALUES] | kubectl apply -f -

VALUES is values.env beside this file, or a copy of it with other values. A value
that is missing, or that no manifest uses, is an error.
"""

import pathlib
import re
import string
import sys

HERE = pathlib.Path(__file__).resolve().parent
# In the order in which they are needed.
MANIFESTS = ["namespace", "service_account", "policy", "service",
             "network_policy", "daemon_set", "pod_monitor"]
SECCOMP_PROFILES = {
    "RuntimeDefault": "{type: RuntimeDefault}",
    "Localhost": "{type: Localhost, localhostProfile: profiles/tdpd.json}",
}


class ValueProblem(Exception):
    """The values do not fit the manifests."""


def read_values(path):
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Z][A-Z0-9_]*)=(\S+)", line)
        if not match:
            raise ValueProblem(f"{path}: \"{line}\" is not NAME=VALUE")
        values[match.group(1)] = match.group(2)
    kind = values.pop("SECCOMP_TYPE", None)
    if kind not in SECCOMP_PROFILES:
        raise ValueProblem(f"{path}: SECCOMP_TYPE={kind} must be one of "
                           f"{', '.join(SECCOMP_PROFILES)}")
    values["SECCOMP_PROFILE"] = SECCOMP_PROFILES[kind]
    return values


def render(values_path):
    values = read_values(values_path)
    texts = [(HERE / "manifests" / f"{name}.yaml").read_text(encoding="utf-8")
             for name in MANIFESTS]
    used = {name for text in texts
            for name in re.findall(r"\$\{(\w+)\}", text)}
    for name in sorted(used - values.keys()):
        raise ValueProblem(f"{values_path}: {name} is missing")
    for name in sorted(values.keys() - used):
        raise ValueProblem(f"{values_path}: no manifest uses {name}")
    return "---\n".join(string.Template(text).substitute(values)
                        for text in texts)


if __name__ == "__main__":
    try:
        print(render(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1
                     else HERE / "values.env"), end="")
    except (ValueProblem, OSError) as problem:
        sys.exit(f"render.py: {problem}")
