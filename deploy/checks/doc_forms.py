"""Commands of documents that no test can run as they stand: what can be said
against their form. FORMS has every program that may appear; whatever is not
there is an error.

A form gets the words behind the program and raises Wrong.
"""

import importlib
import os
import re
import subprocess

from google.protobuf import descriptor_pool, json_format, message_factory

from doc_shell import (Wrong, need, operands, options, simple_commands,
                       without_sudo)


def is_known(text):
    """Whether a text of several words, in prose, is a command to be checked."""
    words = text.split()
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words = words[1:]
    return len(words) > 1 and (words[0] in FORMS or
                               words[0] in ("sudo", "env"))


def tells(told, name):
    """Whether a --help tells of an option: --token-file is not --token."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told)


class Forms:
    """The forms; `repo` is the tree, `programs` the built ones by name."""

    def __init__(self, repo, programs):
        self.repo = repo
        self.programs = programs
        version = re.search(r'kVersion\[\] = "(.*)"',
                            self.read("server/base/version.h")).group(1)
        self.version = version
        self.values = dict(
            line.split("=", 1)
            for line in self.read("deploy/kubernetes/values.env").split("\n")
            if re.match(r"^[A-Z]", line))

    def read(self, path):
        with open(os.path.join(self.repo, path), encoding="utf-8") as file:
            return file.read()

    def exists(self, path):
        need(os.path.exists(os.path.join(self.repo, path)),
             f"there is no {path}")

    def check(self, text):
        for words in simple_commands(text):
            words = without_sudo(words)
            program = words[0]
            form = FORMS.get(program)
            need(form, f"nobody knows how to check \"{program}\"")
            form(self, words[1:])

    def check_line(self, text):
        """A line of a block, which is run in a shell of its own."""
        need({words[0] for words in simple_commands(text)} - SHELL_STATE,
             "the next line does not feel this; put both in one line")
        self.check(text)

    # Our own programs.

    def dev_sh(self, words):
        usage = re.search(r"usage\(\) \{(.*?)\n\}", self.read("deploy/dev.sh"),
                          re.S).group(1)
        usage = usage[usage.index("usage:"):]
        verbs = re.findall(r"^  ([a-z][a-z-]*)(?=\s)", usage, re.M)
        need(words and words[0] in verbs, f"verbs are {', '.join(verbs)}")
        for name, _ in options(words):
            need(f"{words[0]} [{name}]" in usage, f"no option {name}")
        if words[0] == "fuzz" and len(words) > 2:
            need(words[2] in self.fuzzers(), f"no fuzzer {words[2]}")

    def fuzzers(self):
        names = set()
        for folder, folders, files in os.walk(self.repo):
            folders[:] = [f for f in folders if not f.startswith(".")]
            names |= {f[:-len(".cc")] for f in files if f.endswith("_fuzz.cc")}
        return names

    def own_flags(self, program, words):
        told = subprocess.run([self.programs[program], "--help"], check=True,
                              capture_output=True, text=True).stdout
        for name, _ in options(words):
            need(name == "--help" or tells(told, name), f"no flag {name}")

    def tdpd(self, words):
        self.own_flags("tdpd", words)

    def tdpbench(self, words):
        self.own_flags("tdpbench", words)

    def tdpctl(self, words):
        command = []
        told = self.tdpctl_help(command)
        for word in operands(words):
            if not re.match(r"^[a-z-]+$", word):
                break
            listed = re.search(r"^Subcommands:\n((?: .*\n)+)", told, re.M)
            if not listed:
                break
            need(re.search(rf"^  {word} ", listed.group(1), re.M),
                 f"tdpctl {' '.join(command)} has no \"{word}\"")
            command.append(word)
            told = self.tdpctl_help(command)
        everywhere = self.tdpctl_help([])
        for name, _ in options(words):
            need(tells(told, name) or tells(everywhere, name),
                 f"tdpctl {' '.join(command)} has no {name}")

    def tdpctl_help(self, command):
        return subprocess.run([self.programs["tdpctl"], *command, "--help"],
                              check=True, capture_output=True,
                              text=True).stdout + "\n"

    def grpcurl(self, words):
        data, rest = None, []
        words = iter(words)
        for word in words:
            name, equals, value = word.partition("=")
            name = name.removeprefix("-") if name.startswith("--") else name
            if not word.startswith("-"):
                rest.append(word)
                continue
            need(name in GRPCURL_FLAGS | GRPCURL_VALUES,
                 f"grpcurl has no {name}")
            if name in GRPCURL_VALUES and not equals:
                value = next(words, None)
                need(value is not None, f"{name} of what?")
            if name == "-d":
                data = value
        need(len(rest) == 2, "grpcurl takes an address and a method")
        self.method(rest[1], data)

    def buf(self, words):
        if words[0] == "curl":
            self.method(re.sub(r"^https?://[^/]*/?", "", words[-1]),
                        dict(options(words)).get("--data"))
        else:
            need(words == ["lint"], "buf is for curl and lint")

    def method(self, name, data):
        """A method as PACKAGE.SERVICE/METHOD, and its request as JSON."""
        if name in ("list", "") or name.endswith("..."):
            return
        for file in os.listdir(os.path.join(self.repo, "proto/tdp/v1")):
            if file.endswith(".proto"):
                stub = file.removesuffix(".proto") + "_pb2"
                importlib.import_module("tdp.v1." + stub)
        pool = descriptor_pool.Default()
        service, _, method = name.rpartition("/")
        try:
            found = pool.FindServiceByName(service).FindMethodByName(method)
        except KeyError as error:
            raise Wrong(f"no method {name}") from error
        need(found, f"no method {name}")
        if data is None:
            return
        request = message_factory.MessageFactory().GetPrototype(
            found.input_type)()
        try:
            json_format.Parse(data, request)
        except json_format.ParseError as error:
            raise Wrong(f"{data} is no {found.input_type.name}: {error}"
                       ) from error

    def repo_script(self, path, count):
        def form(words):
            self.exists(path)
            need(os.access(os.path.join(self.repo, path), os.X_OK),
                 f"{path} is not executable")
            need(len(operands(words)) == count,
                 f"{path} takes {count} arguments")
        return form

    def build_image(self, words):
        self.repo_script("deploy/container/build_image.sh", 2)(words)
        self.file_name(words[0])

    def render(self, words):
        self.repo_script("deploy/kubernetes/render.py", 1)(words)

    def probes(self, words):
        names = re.findall(r"tdp:(\w+)", " ".join(words))
        need(names, "which probe?")
        sources = ""
        for folder, _, files in os.walk(os.path.join(self.repo, "engine")):
            for file in files:
                if file.endswith((".cc", ".h")):
                    sources += self.read(os.path.join(folder, file))
        for name in names:
            need(f"TDP_TRACE({name}" in sources, f"no probe {name}")

    # What builds.

    def bazel(self, words):
        need(words[0] in ("build", "test", "run", "query"),
             f"bazel {words[0]} is for nobody")
        bazelrc = self.read(".bazelrc")
        rest = words[1:words.index("--")] if "--" in words else words[1:]
        for name, value in options(rest):
            if name == "--config":
                need(re.search(rf"^build:{value} ", bazelrc, re.M),
                     f"no config {value}")
        labels = [word for word in rest if word.startswith("//")]
        need(labels, "no target")
        for label in labels:
            self.label(label)

    def label(self, label):
        package, _, target = label[2:].partition(":")
        if package.endswith("..."):
            self.exists(package[:-len("...")] or ".")
            return
        target = target or os.path.basename(package)
        self.exists(os.path.join(package, "BUILD.bazel"))
        build = self.read(os.path.join(package, "BUILD.bazel"))
        targets = set(re.findall(r'\bname = "([^"]+)"', build))
        targets |= {name + "_test" for name in re.findall(
            r'^tdpd_fuzz_test\(\n    name = "([^"]+)"', build, re.M)}
        for names in re.findall(r"\bfor name in \[(.*?)\]", build, re.S):
            targets |= set(re.findall(r'"([^"]+)"', names))
        need(target in targets, f"no target {label}")

    def protoc(self, words):
        for path in operands(words):
            self.exists(os.path.dirname(path))

    def python3(self, words):
        need(words and words[0].startswith("client/"), "whose script is it?")
        self.exists(words[0])

    def promtool(self, words):
        need(words[:2] in (["check", "rules"], ["test", "rules"],
                           ["check", "metrics"]), "no such check")
        for path in words[2:]:
            need(any(os.path.exists(os.path.join(self.repo, folder, path))
                     for folder in ("", "deploy/prometheus")),
                 f"there is no {path}")

    # The package and what it installs.

    def file_name(self, name):
        """A file name with our version in it, as the builds make it."""
        base = name.rpartition("/")[2].rpartition(":")[0] or name
        base = base if base.startswith("tdpd_") else name.rpartition("/")[2]
        need(self.version in base, f"the version is {self.version}")
        need(re.match(rf"^tdpd(_{self.version}_amd64\.deb|-{self.version}\.tar"
                      rf"|:{self.version})$", base), f"nobody makes {base}")

    def apt_get(self, words):
        verb, *names = operands(words)
        need(verb in ("install", "remove", "purge"), f"apt-get {verb}?")
        setup = self.read("deploy/lib/setup.sh")
        for name in names:
            if name.endswith(".deb"):
                self.file_name(name)
            else:
                need(name == "tdpd" or re.search(rf"^  {name}$", setup, re.M),
                     f"{name} is in no list of deploy/lib/setup.sh")

    def unit(self, name):
        name = name if "." in name else name + ".service"
        self.exists(os.path.join("deploy/systemd", name))

    def systemctl(self, words):
        verb, *units = operands(words)
        need(verb in ("restart", "status", "start", "stop", "enable", "kill",
                      "daemon-reload"), f"systemctl {verb}?")
        need(bool(units) != (verb == "daemon-reload"), "which unit?")
        for unit in units:
            self.unit(unit)

    def journalctl(self, words):
        self.unit(dict(options(words))["--unit"])

    def systemd_analyze(self, words):
        need(words[0] == "security", f"systemd-analyze {words[0]}?")
        self.unit(words[1])

    def systemd_files(self, words):
        for name in operands(words):
            need(f"sysusers.d/{name}" in self.read("deploy/README.md") or
                 f"tmpfiles.d/{name}" in self.read("deploy/README.md"),
                 f"{name} was not installed before")

    def udevadm(self, words):
        rules = self.read("deploy/udev/60-tdpd.rules")
        for name, value in options(words):
            if name == "--name-match":
                need(f'KERNEL=="{value}"' in rules, f"no rule for {value}")

    def install(self, words):
        files = operands(words)
        if "-d" in words:
            return
        *sources, target = files
        need(sources and target.startswith("/"), "install what, and where?")
        examples = "/usr/share/doc/tdpd/examples/"
        package = self.read("deploy/debian/build_package.sh")
        for source in sources:
            if source.startswith(examples):
                name = source.removeprefix(examples)
                need(re.search(rf"/{re.escape(name)}(?![\w.-])", package),
                     f"the package has no {source}")
            elif "/" in source:
                self.exists(source)
            else:
                need(source in ("tdpd", "tdpctl", "tls.crt", "tls.key",
                                "ca.crt"), f"whence comes {source}?")

    def policy_line(self, words):
        for line in words:
            need(re.match(r"^(admin|operator|observer|none) "
                          r"((uid|user|gid|group|dns):\S+|spiffe://\S+|"
                          r"loopback)$", line), f"\"{line}\" is no line of a policy")

    def policy_file(self, words):
        for path in operands(words):
            need(f"--policy={path}" in self.read("deploy/systemd/tdpd.conf"),
                 f"the daemon does not read {path}")

    def usermod(self, words):
        need("tdpd" in operands(words), "the group is tdpd")

    # Containers and clusters.

    def image(self, words):
        for word in operands(words):
            if word.rpartition("/")[2].startswith("tdpd"):
                self.file_name(word)

    def kubectl(self, words):
        namespace = self.values["NAMESPACE"]
        for name, value in options(words):
            if name == "--namespace":
                need(value == namespace, f"the namespace is {namespace}")
        for before, word in zip([""] + words, words):
            name, equals, value = word.partition("=")
            if before in ("-f", "--filename"):
                name, equals, value = before, "=", word
            if name in ("-f", "--filename") and equals and value != "-":
                self.exists(value)
        verb, *rest = operands(words)
        if verb == "create":
            known = {"namespace": namespace,
                     "secret": self.values["TLS_SECRET"]}
            need(rest[-1] == known.get(rest[0]), f"{rest[-1]} is used nowhere")
        elif verb == "label":
            need(rest[-1] == self.values["NODE_LABEL"] + "=true",
                 f"{rest[-1]} is not the label of values.env")
        else:
            need(verb in ("apply", "get", "delete"), f"kubectl {verb}?")

    # What runs something else.

    def pidof(self, words):
        need(words == ["tdpd"], "whose process?")

    def ssh(self, words):
        words = list(words)
        while words and words[0].startswith("-"):
            has_value = len(words[0]) == 2 and words[0][1] in "iJLloprRW"
            words = words[2 if has_value else 1:]
        need(words, "ssh to where?")
        if len(words) > 1:
            self.check(" ".join(words[1:]))

    def anything(self, words):
        """Programs of the shell that can do nothing wrong here."""


FORMS = {
    "./deploy/dev.sh": Forms.dev_sh,
    "dev.sh": Forms.dev_sh,
    "tdpd": Forms.tdpd,
    "tdpctl": Forms.tdpctl,
    "tdpbench": Forms.tdpbench,
    "grpcurl": Forms.grpcurl,
    "buf": Forms.buf,
    "bpftrace": Forms.probes,
    "perf": Forms.probes,
    "bazel": Forms.bazel,
    "protoc": Forms.protoc,
    "python3": Forms.python3,
    "promtool": Forms.promtool,
    "deploy/container/build_image.sh": Forms.build_image,
    "deploy/kubernetes/render.py": Forms.render,
    "apt-get": Forms.apt_get,
    "systemctl": Forms.systemctl,
    "journalctl": Forms.journalctl,
    "systemd-analyze": Forms.systemd_analyze,
    "systemd-sysusers": Forms.systemd_files,
    "systemd-tmpfiles": Forms.systemd_files,
    "udevadm": Forms.udevadm,
    "install": Forms.install,
    "echo": Forms.policy_line,
    "tee": Forms.policy_file,
    "usermod": Forms.usermod,
    "podman": Forms.image,
    "skopeo": Forms.image,
    "kubectl": Forms.kubectl,
    "cd": Forms.anything,
    "curl": Forms.anything,
    "export": Forms.anything,
    "mkdir": Forms.anything,
    "pidof": Forms.pidof,
    "ssh": Forms.ssh,
}

# They change the shell that runs them, and nothing else.
SHELL_STATE = {"cd", "export"}

# What `grpcurl -help` tells of, without a value and with one.
GRPCURL_FLAGS = {"-allow-unknown-fields", "-emit-defaults", "-expand-headers",
                 "-format-error", "-help", "-insecure", "-msg-template",
                 "-plaintext", "-unix", "-use-reflection", "-v", "-version",
                 "-vv"}
GRPCURL_VALUES = {"-H", "-authority", "-cacert", "-cert", "-connect-timeout",
                  "-d", "-format", "-import-path", "-keepalive-time", "-key",
                  "-max-msg-sz", "-max-time", "-proto", "-protoset",
                  "-reflect-header", "-rpc-header", "-servername",
                  "-user-agent"}
