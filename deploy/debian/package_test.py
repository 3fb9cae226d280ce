#!/usr/bin/python3
"""The Debian package, installed below a folder of the test's own:
package_test.py TDPD TDPCTL TDPBENCH.
"""

import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

SYSTEM_FILES = {
    "etc/tdpd/policy": 0o644,
    "etc/tdpd/tdpd.conf": 0o644,
    "lib/systemd/system/tdpd.service": 0o644,
    "lib/udev/rules.d/60-tdpd.rules": 0o644,
    "usr/bin/tdpbench": 0o755,
    "usr/bin/tdpctl": 0o755,
    "usr/bin/tdpd": 0o755,
    "usr/lib/sysusers.d/tdpd.conf": 0o644,
    "usr/lib/tmpfiles.d/tdpd.conf": 0o644,
    "usr/share/bash-completion/completions/tdpctl": 0o644,
    "usr/share/fish/vendor_completions.d/tdpctl.fish": 0o644,
    "usr/share/man/man1/tdpbench.1.gz": 0o644,
    "usr/share/man/man1/tdpctl.1.gz": 0o644,
    "usr/share/man/man8/tdpd.8.gz": 0o644,
    "usr/share/zsh/vendor-completions/_tdpctl": 0o644,
}


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True,
                            check=False, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.returncode}\n"
                             f"{result.stdout}{result.stderr}")
    return result.stdout


def files_below(root):
    """Every path that is no folder, and every empty folder."""
    found = set()
    for folder, folders, files in os.walk(root):
        for name in files:
            found.add(os.path.relpath(os.path.join(folder, name), root))
        if not folders and not files:
            found.add(os.path.relpath(folder, root))
    return found


# The package, built once.
FOLDER = tempfile.TemporaryDirectory(prefix="tdpd_package_")


def setUpModule():  # pylint: disable=invalid-name
    global PACKAGE  # pylint: disable=global-variable-undefined
    PACKAGE = build_package(FOLDER.name)


def tearDownModule():  # pylint: disable=invalid-name
    FOLDER.cleanup()


def build_package(folder):
    """Its path. Less tightly packed than for users, for speed."""
    return run("deploy/debian/build_package.sh", folder, *BINARIES,
               env={**os.environ, "TDPD_PACK_LEVEL": "0"}).strip()


class PackageTest(unittest.TestCase):

    def field(self, name):
        return run("dpkg-deb", "--field", PACKAGE, name).strip()

    def test_it_is_named_by_version_and_architecture(self):
        version = re.search(r" ([0-9.]+)\n",
                            run(BINARIES[0], "--version")).group(1)
        architecture = run("dpkg", "--print-architecture").strip()
        self.assertEqual(os.path.basename(PACKAGE),
                         f"tdpd_{version}_{architecture}.deb")
        self.assertEqual(self.field("Version"), version)

    def test_it_depends_on_every_library_that_it_is_linked_with(self):
        depends = self.field("Depends")
        libraries = run("ldd", BINARIES[0])
        for library, package in (("libgrpc++.so", "libgrpc++1.51"),
                                 ("libprotobuf.so", "libprotobuf32"),
                                 ("liburcu-memb.so", "liburcu8"),
                                 ("libsystemd.so", "libsystemd0"),
                                 ("libc.so", "libc6")):
            self.assertIn(library, libraries)
            self.assertIn(package, depends)
        run("dpkg-deb", "--info", PACKAGE)

    def test_the_same_inputs_make_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as again:
            with open(PACKAGE, "rb") as a:
                with open(build_package(again), "rb") as b:
                    self.assertEqual(a.read(), b.read())


@unittest.skipIf(os.getuid() != 0, "needs root, for owners")
class InstallTest(unittest.TestCase):

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="tdpd_root_")
        self.addCleanup(shutil.rmtree, self.root)
        os.makedirs(f"{self.root}/var/lib/dpkg/updates")
        os.makedirs(f"{self.root}/var/lib/dpkg/info")
        os.makedirs(f"{self.root}/etc")
        for name in ("status", "available"):
            with open(f"{self.root}/var/lib/dpkg/{name}", "w",
                      encoding="utf-8"):
                pass
        # A user database that others have been in before.
        for name, line in (("passwd", "root:x:0:0:root:/root:/bin/sh"),
                           ("group", "root:x:0:")):
            with open(f"{self.root}/etc/{name}", "w",
                      encoding="utf-8") as file:
                file.write(line + "\n")

    def dpkg(self, *arguments):
        # What it depends on is there, but not in this folder.
        run("dpkg", f"--root={self.root}", "--force-script-chrootless",
            "--force-depends", "--log=/dev/null", *arguments,
            env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
                 "DEBIAN_FRONTEND": "noninteractive"})

    def path(self, name):
        return os.path.join(self.root, name)

    def names_in(self, database):
        with open(self.path(f"etc/{database}"), encoding="utf-8") as file:
            return {line.split(":")[0] for line in file}

    def data(self):
        """All but what dpkg and the tools of users keep for themselves."""
        return {name for name in files_below(self.root)
                if not re.match(r"var/lib/dpkg/|etc/(passwd|group|g?shadow|"
                                r"\.pwd\.lock|sub[ug]id)", name)}

    def test_it_installs_files_a_user_and_a_service(self):
        self.dpkg("--install", PACKAGE)
        for name, mode in SYSTEM_FILES.items():
            status = os.stat(self.path(name))
            self.assertEqual(stat.S_IMODE(status.st_mode), mode, name)
            self.assertEqual((status.st_uid, status.st_gid), (0, 0), name)
        self.assertIn("tdpd", self.names_in("passwd"))
        self.assertLessEqual({"tdpd", "kvm"}, self.names_in("group"))
        images = os.stat(self.path("var/lib/tdpd/images"))
        self.assertEqual(stat.S_IMODE(images.st_mode), 0o750)
        self.assertTrue(os.path.islink(self.path(
            "etc/systemd/system/multi-user.target.wants/tdpd.service")))
        for name in ("tdpd", "tdpctl", "tdpbench"):
            run(self.path(f"usr/bin/{name}"), "--help")
        self.assertEqual(run(self.path("usr/bin/tdpd"), "--version"),
                         run(BINARIES[0], "--version"))

    def test_manual_pages_and_completions_are_what_tdpctl_prints(self):
        self.dpkg("--install", PACKAGE)
        for shell, name in (
                ("bash", "bash-completion/completions/tdpctl"),
                ("fish", "fish/vendor_completions.d/tdpctl.fish"),
                ("zsh", "zsh/vendor-completions/_tdpctl")):
            with open(self.path(f"usr/share/{name}"),
                      encoding="utf-8") as file:
                self.assertEqual(file.read(),
                                 run(BINARIES[1], "completion", shell), shell)
        pages = {}
        for page in ("tdpctl", "tdpbench"):
            with gzip.open(self.path(f"usr/share/man/man1/{page}.1.gz"), "rt",
                           encoding="utf-8") as file:
                pages[page] = file.read()
        self.assertEqual(pages["tdpctl"], run(BINARIES[1], "man"))
        self.assertRegex(pages["tdpbench"], r"^\.TH TDPBENCH 1 ")
        self.assertIn(r"\-\-max_p99", pages["tdpbench"])

    def test_settings_and_data_outlive_a_removal_and_an_upgrade(self):
        self.dpkg("--install", PACKAGE)
        with open(self.path("etc/tdpd/tdpd.conf"), "a",
                  encoding="utf-8") as file:
            file.write("# mine\n")
        with open(self.path("var/lib/tdpd/images/a"), "w",
                  encoding="utf-8") as file:
            file.write("precious")
        self.dpkg("--install", PACKAGE)
        self.dpkg("--remove", "tdpd")
        self.assertFalse(os.path.exists(self.path("usr/bin/tdpd")))
        self.assertTrue(os.path.exists(self.path("var/lib/tdpd/images/a")))
        self.assertIn("tdpd", self.names_in("passwd"))
        self.dpkg("--install", PACKAGE)
        with open(self.path("etc/tdpd/tdpd.conf"), encoding="utf-8") as file:
            self.assertTrue(file.read().endswith("# mine\n"))

    def test_a_purge_leaves_nothing_behind(self):
        before = self.data()
        self.dpkg("--install", PACKAGE)
        self.assertGreater(len(self.data()), len(before) + 8)
        with open(self.path("var/lib/tdpd/images/a"), "w",
                  encoding="utf-8") as file:
            file.write("data")
        self.dpkg("--purge", "tdpd")
        self.assertEqual(self.names_in("passwd"), {"root"})
        self.assertEqual(self.names_in("group"), {"root", "kvm"})
        left = {name for name in self.data() - before
                if os.path.isfile(self.path(name))}
        self.assertEqual(left, set())
        self.assertFalse(os.path.exists(self.path("var/lib/tdpd")))
        self.assertFalse(os.path.exists(self.path("etc/tdpd")))


if __name__ == "__main__":
    BINARIES = [os.path.abspath(path) for path in sys.argv[1:]]
    del sys.argv[1:]
    unittest.main()
