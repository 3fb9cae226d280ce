"""The commands of a line of shell: what a document tells its reader to type."""

import re
import shlex


class Wrong(Exception):
    """What is wrong with a command."""


def need(condition, sentence):
    if not condition:
        raise Wrong(sentence)


def split_substitutions(text):
    """The text with a word for each $(...) in it, and what stands in these."""
    outer, inner = "", []
    quote = None
    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\" and quote != "'":
            outer += text[i:i + 2]
            i += 2
            continue
        if char in "'\"" and quote in (None, char):
            quote = None if quote else char
        if char == "`" and quote != "'":
            raise Wrong("backquotes; take $(...)")
        if quote == "'" or not text.startswith("$(", i):
            outer += char
            i += 1
            continue
        end, depth = i + 2, 1
        while depth:
            need(end < len(text), "$( has no end")
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        outer += "SUBSTITUTED"
        inner.append(text[i + 2:end - 1])
        i = end
    return outer, inner


def simple_commands(text):
    """The words of each command of a line: behind |, &&, & and ; another
    begins, and one stands in each $(...).

    Redirections and assignments of variables are left out.
    """
    text, inner = split_substitutions(text)
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True,
                        punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found = [words for command in inner for words in simple_commands(command)]
    found.append([])
    skip = False
    for word in lexer:
        if word in ("|", "|&", "||", "&&", "&", ";"):
            found.append([])
        elif word in ("<", ">", ">>", ">&", "&>"):
            skip = True
        elif skip:
            skip = False
        elif found[-1] or not re.match(r"^[A-Z_]+=", word):
            found[-1].append(word)
    return [words for words in found if words]


def without_sudo(words):
    """The words from the program on that sudo or env is to run."""
    while words and words[0] in ("sudo", "env"):
        words = words[1:]
        while words and re.match(r"^[A-Z_]+=", words[0]):
            words = words[1:]
    return words


def options(words):
    """(name, value or None) of each --option."""
    for word in words:
        if word.startswith("--") and word != "--":
            name, _, value = word.partition("=")
            yield name, value if "=" in word else None


def operands(words):
    return [word for word in words if not word.startswith("-")]
