"""Finds the commands in documents.

A fenced block says by its language what it holds:

    console   lines that begin with "$ " are commands, and what follows is
              what they print, up to "..." and what differs between runs
    bash      commands, one a line, no output
    others    no commands; OTHERS names them all

A command goes on behind a backslash at the end of its line.
"""

import dataclasses
import re

OTHERS = {"cpp", "policy", "promql", "python", "starlark", "text"}


@dataclasses.dataclass
class Command:
    path: str
    line: int
    text: str
    output: list  # the lines shown; empty if none are

    def where(self):
        return f"{self.path}:{self.line}"


@dataclasses.dataclass
class Block:
    path: str
    line: int  # of its first line, not of the fence
    language: str
    lines: list


def blocks(path, text):
    """The fenced blocks; those in lists lose their indentation."""
    found = []
    fence = None
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r"^( *)```(\S*)\s*$", line)
        if match and fence is None:
            fence = match.group(1)
            found.append(Block(path, number + 1, match.group(2), []))
        elif match:
            fence = None
        elif fence is not None:
            found[-1].lines.append(line.removeprefix(fence))
    return found


def commands(block):
    """The commands of a block; ValueError if its language says nothing."""
    if block.language in OTHERS:
        return []
    if block.language not in ("console", "bash"):
        raise ValueError(
            f"{block.path}:{block.line - 1}: the block's language is "
            f"\"{block.language}\"; take console, bash or one of "
            f"{', '.join(sorted(OTHERS))}")
    found = []
    unfinished = False
    for number, line in enumerate(block.lines, block.line):
        if unfinished:
            found[-1].text += "\n" + line
        elif block.language == "bash":
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found.append(Command(block.path, number, line, []))
        elif line.startswith("$ "):
            found.append(Command(block.path, number, line[2:], []))
        elif found:
            found[-1].output.append(line)
            continue
        else:
            raise ValueError(f"{block.path}:{number}: no command before this")
        unfinished = line.endswith("\\")
    return found


def inline_code(path, text):
    """(line, code) of each span of code outside fenced blocks."""
    fenced = False
    kept = []
    for line in text.split("\n"):
        if re.match(r"^ *```", line):
            fenced = not fenced
            line = ""
        kept.append("" if fenced else line)
    outside = "\n".join(kept)
    for match in re.finditer(r"`([^`]+)`", outside):
        yield outside.count("\n", 0, match.start()) + 1, " ".join(
            match.group(1).split())


# What differs between runs, in the order of replacement.
VARIABLE = [
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"0x[89a-f][0-9a-f]{15}\b", "ENTRY"),
    (r"\b\d+(\.\d+)?(ns|us|ms)\b", "DURATION"),
]


def normal(line):
    for pattern, word in VARIABLE:
        line = re.sub(pattern, word, line)
    return " ".join(line.split())


def mismatch(shown, printed):
    """What of the lines shown was not printed, or None.

    A line "..." stands for any number of lines.
    """
    shown = [normal(line) for line in shown if line.strip()]
    printed = [normal(line) for line in printed if line.strip()]
    if not shown:
        return None
    at = 0
    anywhere = False
    for line in shown:
        if line == "...":
            anywhere = True
            continue
        while anywhere and at < len(printed) and printed[at] != line:
            at += 1
        if at == len(printed) or printed[at] != line:
            return line
        at += 1
        anywhere = False
    if not anywhere and at < len(printed):
        return "the end"
    return None
