"""Commands of documents that no test can run as they stand: what can be said
against their form. FORMS has every program that may appear; whatever is not
there is an error.

A form gets the words behind the program and raises Wrong.
"""

import os
import re
import shlex
import subprocess


class Wrong(Exception):
    """What is wrong with a command."""


def need(condition, sentence):
    if not condition:
        raise Wrong(sentence)


def simple_commands(text):
    """The words of each command of a line: behind |, && and ; another begins.

    Redirections and assignments of variables are left out.
    """
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True,
                        punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found = [[]]
    skip = False
    for word in lexer:
        if word in ("|", "||", "&&", ";"):
            found.append([])
        elif word in ("<", ">", ">>"):
            skip = True
        elif skip:
            skip = False
        elif found[-1] or not re.match(r"^[A-Z_]+=", word):
            found[-1].append(word)
    return [words for words in found if words]


def options(words):
    """(name, value or None) of each --option."""
    for word in words:
        if word.startswith("--") and word != "--":
            name, _, value = word.partition("=")
            yield name, value if "=" in word else None


def operands(words):
    return [word for word in words if not word.startswith("-")]


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
            while words and words[0] in ("sudo", "env"):
                words = [w for i, w in enumerate(words)
                         if i > 0 and not re.match(r"^[A-Z_]+=", w)]
            program = words[0]
            form = FORMS.get(program)
            need(form, f"nobody knows how to check \"{program}\"")
            form(self, words[1:])

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
            need(name == "--help" or re.search(rf"{name}\b", told),
                 f"no flag {name}")

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
            pattern = rf"{name}\b"
            need(re.search(pattern, told) or re.search(pattern, everywhere),
                 f"tdpctl {' '.join(command)} has no {name}")

    def tdpctl_help(self, command):
        return subprocess.run([self.programs["tdpctl"], *command, "--help"],
                              check=True, capture_output=True,
                              text=True).stdout + "\n"

    def grpcurl(self, words):
        self.method(words[-1])

    def buf(self, words):
        if words[0] == "curl":
            self.method(re.sub(r"^https?://[^/]*/?", "", words[-1]))
        else:
            need(words == ["lint"], "buf is for curl and lint")

    def method(self, name):
        if name in ("list", "") or name.endswith("..."):
            return
        service, _, method = name.rpartition("/")
        package, _, service = service.rpartition(".")
        need(package == "tdp.v1", f"no package {package}")
        folder = os.path.join(self.repo, "proto/tdp/v1")
        text = "".join(self.read(os.path.join("proto/tdp/v1", file))
                       for file in os.listdir(folder))
        body = re.search(rf"^service {service} \{{(.*?)^\}}", text,
                         re.M | re.S)
        need(body and f"rpc {method}(" in body.group(1), f"no method {name}")

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
                need(re.search(rf"^build:{value}\b", bazelrc, re.M),
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
        base = re.sub(r"_test$", "", target)
        need(any(f'"{name}"' in build or f'"{name}.cc"' in build
                 for name in (target, base)), f"no target {label}")

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
                need(re.search(rf"/{re.escape(name)}\b", package),
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
    "ssh": Forms.anything,
}
