"""Replays what proto/README.md shows, against a daemon at $TDPD_SOCKET.

Each "$ buf curl" line is run and its answer compared with the one below it;
fields that differ from run to run need only be there. The "$ grpcurl" line that
follows must ask for the same method with the same JSON. The table of errors must
be that of error.proto.

    proto_readme_test.py README ERROR_PROTO BUF
"""

import json
import os
import re
import shlex
import subprocess
import sys

# Different in every run.
VOLATILE = {"createTime"}


def blocks(text):
    """The console blocks: lists of (command line, expected output)."""
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        parts = re.split(r"^\$ ", block, flags=re.M)[1:]
        yield [tuple(part.split("\n", 1)) for part in parts]


def same(expected, actual):
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(
            key in VOLATILE or same(expected[key], actual[key])
            for key in expected
        )
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return expected == actual


def option(words, name):
    """The value of an option, as --name=value or in the word behind it."""
    for i, word in enumerate(words):
        if word.startswith(name + "="):
            return word[len(name) + 1 :]
        if word == name:
            return words[i + 1]
    return None


def check_block(block, buf):
    (buf_line, expected), (grpcurl_line, rest) = block
    words = shlex.split(buf_line)
    assert words[:2] == ["buf", "curl"], buf_line
    command = [buf] + [
        word.replace("$SOCKET", os.environ["TDPD_SOCKET"]) for word in words[1:]
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    others = shlex.split(grpcurl_line)
    assert others[0] == "grpcurl" and not rest.strip(), grpcurl_line
    assert others[-2] == "$SOCKET", grpcurl_line

    if "--list-methods" in words:
        assert others[-1] == "list", grpcurl_line
        assert "tdp.v1.MmuService/MapRange" in done.stdout.split(), done
        return "--list-methods"

    answer = done.stdout if done.returncode == 0 else done.stderr
    assert same(json.loads(expected), json.loads(answer)), (
        f"{buf_line}\nanswered\n{answer}\ninstead of\n{expected}"
    )
    method = words[-1].removeprefix("http://localhost/")
    assert others[-1] == method, grpcurl_line
    assert json.loads(option(others, "-d")) == json.loads(
        option(words, "--data")
    ), grpcurl_line
    return method


def check_errors(readme, error_proto):
    told = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", readme, re.M))
    defined = {
        (name, code)
        for code, name in re.findall(
            r"// \[(\w+)\](?:.*\n\s*//)*.*\n\s*ERROR_REASON_(\w+) =",
            error_proto,
        )
    }
    assert told == defined, f"errors: {told ^ defined}"


def main():
    readme_path, error_path, buf = sys.argv[1:]
    with open(readme_path, encoding="utf-8") as file:
        readme = file.read()
    with open(error_path, encoding="utf-8") as file:
        check_errors(readme, file.read())
    methods = [check_block(block, buf) for block in blocks(readme)]
    for needed in ("MapRange", "WalkGfn", "ZapRange"):
        assert any(method.endswith("/" + needed) for method in methods), needed
    print(f"{len(methods)} calls of {readme_path} answered as it says")


if __name__ == "__main__":
    main()
