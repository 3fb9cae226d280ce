#!/usr/bin/python3
"""The container image, built and run: image_test.py TDPD TDPCTL TDPBENCH

No container runtime is needed: bubblewrap stands in for one. Minutes, since
Debian packages are downloaded.
"""

import glob
import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

SECONDS = 60
USER = 10910


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True,
                            check=False, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.returncode}\n"
                             f"{result.stdout}{result.stderr}")
    return result.stdout


@unittest.skipIf(os.getuid() != 0, "needs root, for owners")
class ImageTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tdpd_image_", dir="/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        package = run("deploy/debian/build_package.sh", cls.folder,
                      *BINARIES).strip()
        run("deploy/container/build_image.sh", package, cls.folder)
        cls.root = f"{cls.folder}/root"
        cls.image = glob.glob(f"{cls.folder}/tdpd-*.tar")[0]

    def setUp(self):
        self.runtime = tempfile.mkdtemp(prefix="tdpd_run_", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.runtime)

    def inside(self, *command):
        """A command line that runs inside the image, as its user."""
        devices = []
        for device in ("/dev/kvm", "/dev/userfaultfd"):
            devices += ["--dev-bind-try", device, device]
        return ["bwrap", "--unshare-all", "--die-with-parent",
                "--uid", str(USER), "--gid", str(USER), "--cap-drop", "ALL",
                "--clearenv", "--ro-bind", self.root, "/", "--dev", "/dev",
                *devices, "--proc", "/proc", "--bind", self.runtime,
                "/run/tdpd", "--", *command]

    def test_it_holds_two_programs_and_nothing_to_get_more_with(self):
        self.assertEqual(sorted(os.listdir(f"{self.root}/usr/bin")),
                         ["tdpctl", "tdpd"])
        programs = set()
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = os.path.join(folder, name)
                mode = os.lstat(path).st_mode
                self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID), path)
                if mode & 0o111 and ".so" not in name and stat.S_ISREG(mode):
                    programs.add(os.path.relpath(path, self.root))
        self.assertEqual(programs, {"usr/bin/tdpctl", "usr/bin/tdpd"})

    def test_licences_come_with_it(self):
        for package in ("tdpd", "libgrpc++1.51", "libc6"):
            self.assertTrue(os.path.exists(
                f"{self.root}/usr/share/doc/{package}/copyright"), package)

    def test_it_is_an_image_as_oci_describes_it(self):
        with tarfile.open(self.image) as archive:
            def blob(digest):
                data = archive.extractfile(
                    "blobs/" + digest.replace(":", "/")).read()
                self.assertEqual(
                    "sha256:" + hashlib.sha256(data).hexdigest(), digest)
                return data
            index = json.load(archive.extractfile("index.json"))
            json.load(archive.extractfile("oci-layout"))
            manifest = json.loads(blob(index["manifests"][0]["digest"]))
            config = json.loads(blob(manifest["config"]["digest"]))
            layer = blob(manifest["layers"][0]["digest"])
        self.assertEqual(
            config["rootfs"]["diff_ids"],
            ["sha256:" + hashlib.sha256(gzip.decompress(layer)).hexdigest()])
        self.assertEqual(config["config"]["User"], f"{USER}:{USER}")
        self.assertEqual(config["config"]["Entrypoint"], ["/usr/bin/tdpd"])

    def test_its_daemon_serves_a_guest(self):
        self.assertEqual(run(*self.inside("/usr/bin/tdpd", "--version")),
                         run(BINARIES[0], "--version"))
        daemon = subprocess.Popen(self.inside("/usr/bin/tdpd"),
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        self.addCleanup(daemon.stdout.close)
        self.addCleanup(daemon.wait, SECONDS)
        self.addCleanup(daemon.kill)
        tdpctl = self.inside("/usr/bin/tdpctl",
                             "--target=unix:/run/tdpd/tdpd.sock")
        deadline = time.monotonic() + SECONDS
        while subprocess.run([*tdpctl, "info"], capture_output=True,
                             check=False).returncode != 0:
            if daemon.poll() is not None:
                self.fail(daemon.stdout.read())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        for words in ("vm create a --vcpus=1",
                      "slot create a ram --base=0 --size=16M",
                      "guest touch a --range=0..16M --write", "vm start a",
                      "vcpu wait a 0"):
            run(*tdpctl, *words.split())
        self.assertIn("compared 4096 frames: 0 divergent",
                      run(*tdpctl, "audit", "a", "0..16M"))


if __name__ == "__main__":
    BINARIES = [os.path.abspath(path) for path in sys.argv[1:]]
    del sys.argv[1:]
    unittest.main()
