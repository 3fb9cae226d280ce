#!/usr/bin/python3
"""The daemon under the restrictions of its unit: confined_test.py TDPD TDPCTL.

Where no systemd runs, confine.py applies them by hand.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.abspath("deploy/systemd")
# Of nobody on this machine.
USER, GROUP = 64123, 64124
SECONDS = 60


def await_that(condition, what):
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {SECONDS} s: {what}")
        time.sleep(0.02)


@unittest.skipIf(os.getuid() != 0, "needs root, to become somebody else")
class ConfinedTest(unittest.TestCase):

    def setUp(self):
        # Not TEST_TMPDIR: a socket's path holds 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="tdpd_unit_", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chown(self.folder, USER, GROUP)
        os.chmod(self.folder, 0o750)
        self.socket = f"{self.folder}/tdpd.sock"

    def confine(self, *command, **options):
        return subprocess.Popen(
            [f"{HERE}/confine.py", f"{HERE}/tdpd.service", self.folder,
             str(USER), str(GROUP), *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            **options)

    def start_daemon(self, *flags):
        daemon = self.confine(TDPD, *flags)
        self.addCleanup(self.end, daemon)
        await_that(lambda: daemon.poll() is not None or self.answers(),
                   "the daemon serves")
        if daemon.poll() is not None:
            self.fail(daemon.stdout.read())
        return daemon

    def end(self, process):
        if process.poll() is None:
            process.terminate()
        process.wait(SECONDS)
        process.stdout.close()

    def tdpctl(self, *arguments, check=True):
        return subprocess.run(
            [TDPCTL, f"--target=unix:{self.socket}", *arguments],
            capture_output=True, text=True, check=check)

    def answers(self):
        return self.tdpctl("info", check=False).returncode == 0

    def pid_of_daemon(self, process):
        """The last of the line: confine.py, bwrap, tdpd."""
        pid = process.pid
        while True:
            with open(f"/proc/{pid}/task/{pid}/children",
                      encoding="utf-8") as file:
                children = file.read().split()
            if not children:
                return pid
            pid = int(children[0])

    def run_guest(self):
        """A guest that writes to 16 MiB; what it does goes through all of it."""
        self.tdpctl("vm", "create", "a", "--vcpus=1")
        self.tdpctl("slot", "create", "a", "ram", "--base=0", "--size=16M")
        self.tdpctl("guest", "touch", "a", "--range=0..16M", "--write")
        self.tdpctl("vm", "start", "a")
        self.tdpctl("vcpu", "wait", "a", "0")
        vcpu = self.tdpctl("--json", "vcpu", "get", "a", "0").stdout
        self.assertIn('"touchedFrameCount":"4096"', vcpu)
        self.tdpctl("collapse", "a", "0..16M")
        audit = self.tdpctl("audit", "a", "0..16M").stdout
        self.assertIn("compared 4096 frames: 0 divergent", audit)

    def test_the_daemon_has_no_privilege_and_needs_none(self):
        daemon = self.start_daemon()
        if os.path.exists("/dev/kvm"):
            info = self.tdpctl("info").stdout
            self.assertRegex(info, r"kvm")
        with open(f"/proc/{self.pid_of_daemon(daemon)}/status",
                  encoding="utf-8") as file:
            status = dict(line.split(":\t", 1)
                          for line in file.read().splitlines()
                          if ":\t" in line)
        for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[capabilities], 16), 0, capabilities)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(status["Uid"].split(), [str(USER)] * 4)
        mode = os.stat(self.socket)
        self.assertEqual((mode.st_mode & 0o7777, mode.st_uid, mode.st_gid),
                         (0o660, USER, GROUP))
        self.run_guest()
        os.kill(self.pid_of_daemon(daemon), 15)
        self.assertEqual(daemon.wait(SECONDS), 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_daemon_that_is_killed_is_followed_by_one_that_serves(self):
        daemon = self.start_daemon()
        self.run_guest()
        os.kill(self.pid_of_daemon(daemon), 9)
        self.assertNotEqual(daemon.wait(SECONDS), 0)
        self.start_daemon()
        self.run_guest()

    def test_the_state_is_written_where_the_unit_lets_it(self):
        daemon = self.start_daemon("--dump_dir=/var/log/tdpd")
        pid = self.pid_of_daemon(daemon)
        logs = f"/proc/{pid}/root/var/log/tdpd"
        os.kill(pid, signal.SIGUSR1)
        await_that(lambda: os.listdir(logs), "the state is written")
        [name] = os.listdir(logs)
        self.assertRegex(name, r"^tdpd-state-.*\.txt$")
        status = os.stat(f"{logs}/{name}")
        self.assertEqual((status.st_mode & 0o7777, status.st_uid),
                         (0o600, USER))

    def test_the_restrictions_are_in_force(self):
        attempts = {
            "a TCP socket": "import socket; socket.socket()",
            "a writable program": "import mmap; mmap.mmap(-1, 4096, prot=7)",
            "a namespace": "import ctypes; "
                           "assert ctypes.CDLL(None).unshare(1 << 28) == 0",
            "a file of the system": "open('/etc/tdpd-was-here', 'w')",
            "a real-time priority": "import os; os.sched_setscheduler("
                                    "0, os.SCHED_FIFO, os.sched_param(1))",
            "a setting of the kernel":
                "open('/proc/sys/kernel/hostname', 'w')",
            "another device": "open('/dev/mem')",
            "a low priority": "import os; os.sched_setscheduler("
                              "0, os.SCHED_IDLE, os.sched_param(0))",
        }
        script = "".join(
            f"try:\n exec({attempt!r})\n print({what!r})\n"
            "except Exception: pass\n" for what, attempt in attempts.items())
        process = self.confine("/usr/bin/python3", "-c", script)
        output, _ = process.communicate(timeout=SECONDS)
        self.assertEqual(output.splitlines(), ["a low priority"])


if __name__ == "__main__":
    TDPCTL = os.path.abspath(sys.argv.pop())
    TDPD = os.path.abspath(sys.argv.pop())
    unittest.main()
