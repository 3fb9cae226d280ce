#!/usr/bin/python3
"""The unit, its drop-ins, and what goes with them, as systemd's tools see them."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

HERE = "deploy/systemd"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True,
                          text=True).stdout


class UnitTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tdpd_unit_")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def place_unit(self, *drop_ins):
        """Copies the unit, and drop-ins for it, as systemd would find them."""
        place = os.path.join(self.folder, "tdpd.service.d")
        os.mkdir(place)
        unit = shutil.copy(f"{HERE}/tdpd.service", self.folder)
        for drop_in in drop_ins:
            shutil.copy(f"{HERE}/{drop_in}", place)
        return unit

    def exposure(self, unit):
        report = run("systemd-analyze", "--no-pager", "security",
                     "--offline=true", unit)
        return float(re.search(r"Overall exposure level .*: ([0-9.]+)",
                               report).group(1))

    def test_the_unit_is_exposed_by_at_most_1_0(self):
        self.assertLessEqual(self.exposure(self.place_unit()), 1.0)

    def test_with_the_http_port_it_is_exposed_by_at_most_1_5(self):
        exposure = self.exposure(self.place_unit("http.conf"))
        self.assertLessEqual(exposure, 1.5)
        self.assertGreater(exposure, 1.0, "the drop-in was not read")

    def test_with_tls_for_a_network_it_is_exposed_by_at_most_1_5(self):
        unit = self.place_unit("tls.conf")
        drop_in = f"{unit}.d/tls.conf"
        local = self.exposure(unit)
        self.assertLessEqual(local, 1.5)
        self.assertGreater(local, 1.0, "the drop-in was not read")
        with open(drop_in, encoding="utf-8") as file:
            text = file.read()
        network = text.replace("#IPAddressAllow=", "IPAddressAllow=")
        self.assertNotEqual(text, network)
        with open(drop_in, "w", encoding="utf-8") as file:
            file.write(network)
        self.assertLessEqual(self.exposure(unit), 1.5)

    def test_with_both_drop_ins_it_is_exposed_by_at_most_1_5(self):
        unit = self.place_unit("http.conf", "tls.conf")
        self.assertLessEqual(self.exposure(unit), 1.5)

    def test_systemd_knows_every_setting(self):
        unit = self.place_unit("http.conf", "tls.conf")
        with open(unit, encoding="utf-8") as file:
            text = file.read()
        with open(unit, "w", encoding="utf-8") as file:
            file.write(text.replace("/usr/bin/tdpd", "/usr/bin/true"))
        checked = subprocess.run(["systemd-analyze", "verify", unit],
                                 capture_output=True, text=True, check=False)
        about_us = [line for line in checked.stderr.splitlines()
                    if "tdpd" in line]
        self.assertEqual(about_us, [])

    def test_the_watchdog_is_more_patient_than_the_drain(self):
        with open(f"{HERE}/tdpd.service", encoding="utf-8") as file:
            unit = file.read()
        for setting in ("WatchdogSec", "TimeoutStopSec"):
            seconds = int(re.search(rf"^{setting}=(\d+)$", unit,
                                    re.MULTILINE).group(1))
            self.assertGreater(seconds, 20, setting)

    def test_the_user_the_group_and_the_folders_come_to_be(self):
        root = os.path.join(self.folder, "root")
        os.makedirs(f"{root}/etc")
        users = os.path.abspath(f"{HERE}/sysusers.conf")
        run("systemd-sysusers", f"--root={root}", users)
        with open(f"{root}/etc/passwd", encoding="utf-8") as file:
            user = file.read().splitlines()
        self.assertEqual(len(user), 1)
        name, _, _, _, _, home, shell = user[0].split(":")
        self.assertEqual((name, home), ("tdpd", "/var/lib/tdpd"))
        self.assertTrue(shell.endswith("nologin"), shell)
        with open(f"{root}/etc/group", encoding="utf-8") as file:
            groups = dict(line.split(":")[0:3:2] for line in file)
        self.assertLessEqual({"kvm", "tdpd"}, groups.keys())
        if os.getuid() != 0:
            return  # owners cannot be set
        run("systemd-tmpfiles", f"--root={root}", "--create",
            os.path.abspath(f"{HERE}/tmpfiles.conf"))
        images = os.stat(f"{root}/var/lib/tdpd/images")
        self.assertEqual(images.st_mode & 0o7777, 0o750)
        self.assertEqual((images.st_uid, images.st_gid),
                         (0, int(groups["tdpd"])))

    def test_the_rules_of_udev_are_well_formed(self):
        pair = r'[A-Z]+(\{[a-z]+\})?(==|=|\+=)"[^"]*"'
        with open("deploy/udev/60-tdpd.rules", encoding="utf-8") as file:
            rules = [line.strip() for line in file
                     if line.strip() and not line.startswith("#")]
        self.assertEqual(len(rules), 2)
        for rule in rules:
            self.assertRegex(rule, rf"^{pair}(, {pair})*$")
            self.assertIn('MODE="0660"', rule)


if __name__ == "__main__":
    unittest.main()
