#!/usr/bin/python3
"""Every command in the documents is run, or checked by its form:

    documents_test.py TDPD TDPCTL TDPBENCH

Documents are all *.md files of the tree. Each one with commands gets a daemon
and a folder of its own, in which the tree appears as in a checkout. Commands of
RUNNABLE are run there in the document's order, each in a shell of its own, and
must print what the document shows; doc_forms.py judges all others, and those in
running text. A command that nobody knows fails, with file and line.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import doc_commands
import doc_forms
import doc_shell

# Their commands are replayed by another test.
REPLAYED = {"proto/README.md": "client/interop/proto_readme_test.py"}
# Programs that do no harm here; a command of these alone is run.
RUNNABLE = {"cd", "curl", "mkdir", "protoc", "promtool", "python3", "tdpbench",
            "tdpctl"}
RUNNABLE_FROM_NPM = "buf"
# Works with an installed daemon only, whose token it reads.
NOT_HERE = {"tdpctl web"}
# 3: the machine is too slow for a threshold, which is no fault of the document.
STATUSES = {"tdpbench": (0, 3)}
TIMEOUT_S = 60
# What a source of excerpts is, by the language of the block.
EXCERPTS = {"cpp": "client/example/example.cc",
            "python": "client/python/example.py"}


def npm_buf():
    home = os.environ.get("TDPD_NPM") or os.path.expanduser("~/.cache/tdpd/npm")
    path = os.path.join(home, "node_modules/.bin/buf")
    return path if os.path.exists(path) else None


class Daemon:
    """A daemon on a socket of its own, with its HTTP port."""

    def __init__(self, folder):
        self.socket = os.path.join(folder, "socket")
        os.mkdir(os.path.join(folder, "images"))
        log = os.path.join(folder, "log")
        with open(log, "w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [PROGRAMS["tdpd"], f"--listen=unix:{self.socket}",
                 f"--image_dir={folder}/images", "--http=127.0.0.1:0",
                 # What VMs get by default would depend on the host's memory.
                 f"--max_page_table_bytes={4 << 30}"],
                stderr=file)
        self.http = self._address_of_http(log)

    def _address_of_http(self, log):
        """From the line that tells that the daemon serves."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end and self._process.poll() is None:
            ready = re.search(r"http://(\S+)/metrics\n", read(log))
            if ready:
                return ready.group(1)
            time.sleep(0.05)
        self._process.kill()
        raise RuntimeError("the daemon does not serve: " + read(log))

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()


class Reader:
    """Follows one document."""

    def __init__(self, test, path, folder, daemon):
        self._test = test
        self._path = path
        self._folder = folder
        self._daemon = daemon
        self._buf = npm_buf()
        self.run_count = 0
        bin_folder = os.path.join(folder, "bin")
        os.mkdir(bin_folder)
        for name, program in PROGRAMS.items():
            os.symlink(program, os.path.join(bin_folder, name))
        if self._buf:
            os.symlink(self._buf, os.path.join(bin_folder, "buf"))
        self._tree = os.path.join(folder, "tree")
        os.mkdir(self._tree)
        for name in ("client", "deploy", "engine", "proto", "server"):
            os.symlink(os.path.join(REPO, name),
                       os.path.join(self._tree, name))
        self._environment = dict(
            os.environ, PATH=bin_folder + ":/usr/sbin:/usr/bin:/bin",
            TDPD_TARGET=f"unix:{daemon.socket}", HOME=folder,
            SOCKET=daemon.socket, PYTHONDONTWRITEBYTECODE="1")

    def runs(self, text):
        programs = {words[0] for words in doc_shell.simple_commands(
            text.replace("sudo ", ""))}
        if text in NOT_HERE:
            return False
        allowed = RUNNABLE | ({RUNNABLE_FROM_NPM} if self._buf else set())
        return self._path not in REPLAYED and programs <= allowed

    def run(self, command):
        text = command.text.replace("sudo ", "")
        for place in ("unix:/run/tdpd/tdpd.sock", "unix:PATH"):
            text = text.replace(place, f"unix:{self._daemon.socket}")
        text = text.replace("--unix-socket=PATH",
                            f"--unix-socket={self._daemon.socket}")
        text = text.replace("127.0.0.1:9464", self._daemon.http)
        if text.startswith("tdpbench"):
            text = re.sub(r" --duration=\S+", "", text)
            text += " --duration=300ms --warm_up=0"
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text],
                              cwd=self._tree, env=self._environment,
                              capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
        statuses = STATUSES.get(text.split()[0], (0,))
        self._test.assertIn(
            done.returncode, statuses,
            f"{command.where()}: {text}\n{done.stdout}{done.stderr}")
        self.run_count += 1
        if os.path.exists("/dev/kvm"):
            line = doc_commands.mismatch(command.output,
                                         done.stdout.split("\n"))
            self._test.assertIsNone(
                line, f"{command.where()}: {text}\nprinted\n{done.stdout}"
                f"but the document shows: {line}")


class DocumentsTest(unittest.TestCase):

    def setUp(self):
        self.forms = doc_forms.Forms(REPO, PROGRAMS)

    def check_form(self, where, text, check):
        try:
            check(text)
        except (doc_shell.Wrong, OSError, ValueError, KeyError,
                IndexError) as wrong:
            self.fail(f"{where}: {text}: {wrong}")

    def follow(self, path):
        text = read(path)
        commands = [command for block in doc_commands.blocks(path, text)
                    for command in doc_commands.commands(block)]
        for line, code in doc_commands.inline_code(path, text):
            if doc_forms.is_known(code):
                self.check_form(f"{path}:{line}", code, self.forms.check)
        if commands:
            self.follow_commands(path, commands)

    def follow_commands(self, path, commands):
        # Not TEST_TMPDIR: a socket's path holds 107 bytes.
        folder = tempfile.mkdtemp(prefix="tdpd_documents_", dir="/tmp")
        daemon = Daemon(folder)
        try:
            reader = Reader(self, path, folder, daemon)
            for command in commands:
                self.check_form(command.where(), command.text,
                                self.forms.check_line)
                if reader.runs(command.text):
                    reader.run(command)
            print(f"{path}: {len(commands)} commands, {reader.run_count} run")
        finally:
            status = daemon.stop()
            shutil.rmtree(folder)
        self.assertEqual(status, 0, "exit status of the daemon")

    def test_every_command_can_be_followed(self):
        for path in DOCUMENTS:
            with self.subTest(path):
                self.follow(path)

    def test_excerpts_are_part_of_their_program(self):
        for path in DOCUMENTS:
            for block in doc_commands.blocks(path, read(path)):
                if block.language not in EXCERPTS:
                    continue
                source = squeezed(read(EXCERPTS[block.language]).split("\n"))
                self.assertIn(squeezed(block.lines), source,
                              f"{path}:{block.line}")

    def test_policies_are_well_formed(self):
        for path in DOCUMENTS:
            for block in doc_commands.blocks(path, read(path)):
                for line in block.lines if block.language == "policy" else []:
                    if not line.startswith("#"):
                        self.forms.policy_line([" ".join(line.split())])


def documents():
    """The paths of all documents, but those of installed modules."""
    found = []
    for folder, folders, files in os.walk(REPO):
        folders[:] = sorted(name for name in folders
                            if not name.startswith(".")
                            and name != "node_modules")
        found += [os.path.relpath(os.path.join(folder, name), REPO)
                  for name in sorted(files) if name.endswith(".md")]
    return found


def read(path):
    with open(os.path.join(REPO, path), encoding="utf-8") as file:
        return file.read()


def squeezed(lines):
    return "\n" + "\n".join(
        " ".join(line.split()) for line in lines if line.strip()) + "\n"


class CheckerTest(unittest.TestCase):
    """The checker itself: it notices what it is for."""

    def commands(self, text):
        return [c for b in doc_commands.blocks("d.md", text)
                for c in doc_commands.commands(b)]

    def wrong(self, text):
        with self.assertRaises(doc_shell.Wrong, msg=text):
            doc_forms.Forms(REPO, PROGRAMS).check(text)

    def test_commands_have_their_lines_and_outputs(self):
        found = self.commands("a\n\n```console\n$ x \\\n  y\nout\n$ z\n```\n"
                              "- b\n\n  ```bash\n  # c\n  w\n  ```\n")
        self.assertEqual([(c.line, c.text, c.output) for c in found],
                         [(4, "x \\\n  y", ["out"]), (7, "z", []),
                          (13, "w", [])])

    def test_a_block_must_say_what_it_is(self):
        for language in ("", "sh"):
            with self.assertRaisesRegex(ValueError, "^d.md:2:"):
                self.commands(f"\n```{language}\nls\n```\n")
        self.assertEqual(self.commands("```text\nls\n```\n"), [])

    def test_commands_that_nobody_knows_are_wrong(self):
        self.wrong("frobnicate --now")
        self.wrong("tdpctl vm list | frobnicate")
        self.wrong("cd x && sudo frobnicate")

    def test_commands_that_do_not_exist_any_more_are_wrong(self):
        for text in ("./deploy/dev.sh fly", "./deploy/dev.sh test --short",
                     "./deploy/dev.sh fuzz 60 none_fuzz", "tdpctl vm fly demo",
                     "tdpctl vm create demo --wings=2", "tdpd --wings",
                     "tdpbench demo --wings=2", "bazel test //engine:none_test",
                     "bazel test --config=none //engine/...",
                     "./deploy/dev.sh link", "tdpctl vm create demo --vcpu=2",
                     "tdpctl info --tls=x", "tdpd --socket=x",
                     "bazel test //client/lib:names_lib",
                     "bazel test //client/lib:channel_test",
                     "bazel test --config=as //engine/...",
                     "bazel test //none/...", "systemctl restart tdpdd",
                     "grpcurl -d '{}' $SOCKET tdp.v1.VmService/FlyVm",
                     "grpcurl -d '{}' $SOCKET tdp.v1.FlyService/GetVm",
                     "grpcurl -wings $SOCKET tdp.v1.VmService/GetVm",
                     "grpcurl -d '{' $SOCKET tdp.v1.VmService/GetVm",
                     "grpcurl -d '{\"wings\": 2}' $SOCKET "
                     "tdp.v1.VmService/GetVm",
                     "grpcurl $SOCKET",
                     "kubectl apply -f deploy/none.yaml",
                     "kubectl apply -f=deploy/none.yaml",
                     "kubectl apply --filename=deploy/none.yaml",
                     "kubectl apply --filename deploy/none.yaml",
                     "sudo apt-get install ./tdpd_0.0.9_amd64.deb",
                     "sudo apt-get install tdpd-wings",
                     "kubectl label node NODE wings=true",
                     "promtool check rules deploy/none.yaml",
                     "bpftrace -e 'usdt:*:tdp:none { exit(); }'",
                     "bpftrace -p $(pidof none) -e 'usdt:*:tdp:fault { }'",
                     "tdpctl info --target=\"$(tdpctl fly)\"",
                     "tdpctl info --target=`tdpctl fly`",
                     "ssh NODE tdpctl fly",
                     "ssh -p 22 NODE 'sudo systemctl restart tdpdd'",
                     "tdpd & tdpctl fly", "sudo tdpctl fly",
                     "sudo env A=b tdpctl fly",
                     "install -D deploy/none /etc/none",
                     "echo 'pilot user:alice' | sudo tee /etc/tdpd/policy"):
            self.wrong(text)

    def test_what_they_name_may_be_written_in_several_ways(self):
        for text in ("ssh -N -L 9464:127.0.0.1:9464 NODE",
                     "ssh NODE sudo tdpctl info", "tdpd & tdpctl info",
                     "kubectl apply -f deploy/kubernetes/manifests/"
                     "daemon_set.yaml", "kubectl apply --filename=-",
                     "grpcurl -d='{\"name\": \"vms/a\"}' HOST:PORT "
                     "tdp.v1.VmService/GetVm",
                     "bazel test //engine/base:range_fuzz_test",
                     "tdpctl info > /dev/null 2>&1"):
            doc_forms.Forms(REPO, PROGRAMS).check(text)

    def test_commands_in_prose_are_found(self):
        for code in ("tdpctl vm list", "sudo frobnicate --now",
                     "TDPD_TARGET=unix:PATH tdpctl info", "env A=b tdpctl x"):
            self.assertTrue(doc_forms.is_known(code), code)
        for code in ("tdpctl", "sudo", "max_unread_seconds", "a + b", ""):
            self.assertFalse(doc_forms.is_known(code), code)

    def test_a_line_must_not_count_on_the_shell_of_the_line_before(self):
        forms = doc_forms.Forms(REPO, PROGRAMS)
        for text in ("cd deploy", "export TDPD_TARGET=unix:PATH",
                     "cd deploy && export A=b", "A=b"):
            with self.assertRaises(doc_shell.Wrong, msg=text):
                forms.check_line(text)
        forms.check_line("cd deploy && tdpctl info")

    def test_what_a_command_prints_must_be_what_is_shown(self):
        printed = ["NAME  TIME", "a     2026-01-02T03:04:05.678Z", "b  7"]
        for shown, missing in (
                ([], None),
                (["NAME TIME", "a 2020-09-09T00:00:00Z", "b 7"], None),
                (["NAME TIME", "...", "b 7"], None),
                (["...", "a 2020-09-09T00:00:00Z", "..."], None),
                (["NAME TIME", "b 7"], "b 7"),
                (["NAME TIME", "...", "b 8"], "b 8"),
                (["NAME TIME"], "the end")):
            self.assertEqual(doc_commands.mismatch(shown, printed), missing,
                             shown)


if __name__ == "__main__":
    PROGRAMS = {name: os.path.abspath(path) for name, path in
                zip(("tdpd", "tdpctl", "tdpbench"), sys.argv[1:4])}
    # The tree behind the links: forms look at files all over it.
    REPO = os.path.dirname(os.path.realpath("README.md"))
    DOCUMENTS = documents()
    sys.path.insert(0, os.path.abspath("proto"))  # the generated modules
    del sys.argv[1:]
    unittest.main()
