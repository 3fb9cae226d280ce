#!/usr/bin/python3
"""Every flag that what is deployed passes to the daemon is one of its flags:
flags_test.py TDPD FILE...
"""

import re
import subprocess
import sys
import unittest


class FlagsTest(unittest.TestCase):

    def test_the_daemon_knows_every_flag(self):
        told = subprocess.run([TDPD, "--help"], check=True,
                              capture_output=True, text=True).stdout
        known = set(re.findall(r"--(\w+)", told))
        self.assertIn("listen", known)
        for path in FILES:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            used = set()
            # A manifest's arguments, or the line of the environment file.
            used |= set(re.findall(r"^ *- --(\w+)", text, re.MULTILINE))
            for line in re.findall(r"TDPD_FLAGS=\"(.*)\"", text):
                used |= set(re.findall(r"--(\w+)", line))
            self.assertTrue(used, path)
            self.assertLessEqual(used, known, path)


if __name__ == "__main__":
    TDPD, *FILES = sys.argv[1:]
    del sys.argv[1:]
    unittest.main()
