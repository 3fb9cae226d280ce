#!/usr/bin/python3
"""Writes web_files.cc: the files of the web page as constants of the daemon.

Refuses a page that is too large, and one that asks others for anything.

usage: embed_files.py OUTPUT PAGE_FOLDER FILE...
"""

import os
import re
import sys

MAX_BYTES = 300 * 1000
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
}
TEXT_TYPES = (".html", ".js", ".css", ".svg")
# A URL with a host: with a scheme, or with the page's own behind a quote or a
# parenthesis.
OUTSIDE_URL = re.compile(rb"(?:[a-z][a-z0-9+.-]*:|[\"'`(=]\s*)//[^\s/]", re.I)
# Names of XML namespaces look like URLs, and nobody asks for them.
NAMESPACE = re.compile(rb"http://www\.w3\.org/(?:2000/svg|1999/xhtml|1999/xlink)")


def outside_url(text):
    """What in `text` names another host, or None."""
    text = NAMESPACE.sub(b"", text)
    found = OUTSIDE_URL.search(text)
    if found is None:
        return None
    shown = text[found.start():found.end() + 40].split(b"\n")[0]
    return shown.decode("utf-8", "replace")


def problem_of(name, data):
    """What is wrong with a file of the page, or None."""
    extension = os.path.splitext(name)[1]
    if extension not in CONTENT_TYPES:
        return "no content type is known for it"
    if extension in TEXT_TYPES:
        url = outside_url(data)
        if url is not None:
            return "it names another host: " + url
    return None


def literal(data):
    """C++ string literals, a line each, that together are `data`."""
    lines = []
    for i in range(0, len(data), 64):
        line = "".join(
            chr(byte) if 32 <= byte < 127 and chr(byte) not in "\"\\?"
            else "\\%03o" % byte for byte in data[i:i + 64])
        lines.append('    "%s"' % line)
    return "\n".join(lines) or '    ""'


def source_of(files):
    """The text of web_files.cc; `files` has a pair of name and bytes each."""
    out = ['#include "server/web/web_files.h"', "", "namespace tdp::server {",
           "namespace {", ""]
    for i, (_, data) in enumerate(files):
        out += ["constexpr char kFile%d[] =" % i, literal(data) + ";", ""]
    out += ["constexpr WebFile kFiles[] = {"]
    for i, (name, data) in enumerate(files):
        path = "/" if name == "index.html" else "/" + name
        content_type = CONTENT_TYPES[os.path.splitext(name)[1]]
        out += ['    {"%s", "%s",' % (path, content_type),
                "     absl::string_view(kFile%d, %d)}," % (i, len(data))]
    out += ["};", "", "}  // namespace", "",
            "absl::Span<const WebFile> WebFiles() { return kFiles; }", "",
            "}  // namespace tdp::server", ""]
    return "\n".join(out)


def main():
    output, folder = sys.argv[1:3]
    files = []
    for path in sorted(sys.argv[3:]):
        name = os.path.relpath(path, folder)
        with open(path, "rb") as file:
            data = file.read()
        problem = problem_of(name, data)
        if problem is not None:
            sys.exit("%s: %s" % (path, problem))
        files.append((name, data))
    total = sum(len(data) for _, data in files)
    if total >= MAX_BYTES:
        sys.exit("the page has %d bytes; it must stay below %d"
                 % (total, MAX_BYTES))
    with open(output, "w", encoding="ascii") as file:
        file.write(source_of(files))


if __name__ == "__main__":
    main()
