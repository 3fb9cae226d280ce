#!/usr/bin/python3
"""What the page may be that the build puts into the daemon."""

import unittest

import embed_files


class EmbedFilesTest(unittest.TestCase):
    def test_a_page_that_asks_others_for_something_is_refused(self):
        for text in (
            b'<script src="https://cdn.example/x.js"></script>',
            b'<img src=//evil.example/x.png>',
            b"fetch('//evil.example')",
            b'new WebSocket("ws://evil.example")',
            b"a { background: url(http://evil.example/x.png) }",
            b"@import 'HTTP://evil.example/x.css';",
        ):
            for name in ("x.html", "x.js", "x.css", "x.svg"):
                self.assertIn("another host",
                              embed_files.problem_of(name, text) or "", text)

    def test_what_only_looks_like_it_is_taken(self):
        for text in (
            b"// a comment\nlet x = 4 // 2\n",
            b'createElementNS("http://www.w3.org/2000/svg", "svg")',
            b'fetch("/api/charts") // the data',
            b'img { content: url("data:image/png;base64,AAAA//8=") }',
        ):
            self.assertIsNone(embed_files.problem_of("x.js", text), text)

    def test_a_file_of_an_unknown_kind_is_refused(self):
        self.assertIn("no content type",
                      embed_files.problem_of("notes.txt", b""))

    def test_every_byte_is_written_so_that_it_comes_out_the_same(self):
        data = bytes(range(256)) + b"?" b"?=1234\n\\\""
        literal = embed_files.literal(data)
        self.assertTrue(literal.isascii())
        parts = [line.strip()[1:-1] for line in literal.split("\n")]
        self.assertEqual(
            "".join(parts).encode().decode("unicode_escape").encode("latin-1"),
            data)

    def test_index_is_the_root(self):
        source = embed_files.source_of(
            [("index.html", b"x"), ("sub/app.js", b"")])
        self.assertIn('{"/", "text/html; charset=utf-8",', source)
        self.assertIn('{"/sub/app.js", "text/javascript; charset=utf-8",',
                      source)


if __name__ == "__main__":
    unittest.main()
