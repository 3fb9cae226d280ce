#!/usr/bin/python3
"""Runs a command under the restrictions of a systemd unit, without systemd.

    confine.py UNIT RUNTIME_DIRECTORY USER_ID GROUP_ID COMMAND [ARGUMENT...]

For tests, where no systemd runs. Needs root, bubblewrap, setpriv and libseccomp.
What it applies: file system, devices, namespaces, capabilities, limits and
system calls. What it does not: control groups (MemoryMax=, TasksMax=, the
device policy of a cgroup, for which a /dev of its own stands in), hidden
processes (ProtectProc=), RestrictSUIDSGID= and what clients notice only.

RUNTIME_DIRECTORY takes the place of the unit's; the command's file is bound
to /tmp. GROUP_ID is the group of the unit and of its devices.
"""

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile

BINARIES = "/tmp"


def read_unit(path):
    """The unit's settings, each with the values of all its lines."""
    settings = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.strip()
            if not line or line[0] in "#;[":
                continue
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value)
    return settings


def is_set(unit, key):
    return unit.get(key, ["no"])[-1] in ("yes", "true", "strict", "invisible")


def read_sets():
    """The words that stand for several system calls, each with its members."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter"],
                            check=True, capture_output=True, text=True).stdout
    sets = {}
    for line in listed.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = sets.setdefault(word, [])
        elif word and not word.startswith("#"):
            members.append(word)
    return sets


def allowed_calls(unit):
    sets = read_sets()

    def calls_of(word):
        if not word.startswith("@"):
            return {word}
        return set().union(*(calls_of(member) for member in sets[word]))

    allowed = calls_of("@default")
    for line in unit["SystemCallFilter"]:
        for word in line.lstrip("~").split():
            if line.startswith("~"):
                allowed -= calls_of(word)
            else:
                allowed |= calls_of(word)
    return allowed


def load_filter(unit):
    """Installs the unit's seccomp filter in this process."""
    # pylint: disable=import-error
    import seccomp
    equal, masked = seccomp.EQ, seccomp.MASKED_EQ
    write, execute = 2, 4
    conditions = {}
    if is_set(unit, "MemoryDenyWriteExecute"):
        conditions["mmap"] = [seccomp.Arg(2, masked, execute, 0),
                              seccomp.Arg(2, masked, write, 0)]
        for name in ("mprotect", "pkey_mprotect"):
            conditions[name] = [seccomp.Arg(2, masked, execute, 0)]
    if "RestrictAddressFamilies" in unit:
        conditions["socket"] = [
            seccomp.Arg(0, equal, getattr(socket, family))
            for family in unit["RestrictAddressFamilies"][-1].split()]
    if is_set(unit, "RestrictRealtime"):
        conditions["sched_setscheduler"] = [
            seccomp.Arg(1, equal, policy)
            for policy in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)]
    if is_set(unit, "LockPersonality"):
        conditions["personality"] = [seccomp.Arg(0, equal, 0)]
    refused = {}
    if is_set(unit, "RestrictNamespaces"):
        namespaces = 0x7e020080
        conditions["clone"] = [seccomp.Arg(0, masked, namespaces, 0)]
        # A filter cannot look into its argument; glibc then uses clone.
        refused["clone3"] = errno.ENOSYS
        refused["unshare"] = refused["setns"] = errno.EPERM

    error = getattr(errno, unit["SystemCallErrorNumber"][-1])
    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(error))
    for name in sorted(allowed_calls(unit)):
        if seccomp.resolve_syscall(seccomp.Arch(), name) < 0:
            continue  # another architecture's
        if refused.get(name) == error:
            continue
        action = seccomp.ALLOW
        if name in refused:
            action = seccomp.ERRNO(refused[name])
        for condition in conditions.get(name, [None]):
            rules.add_rule(action, name, *([condition] if condition else []))
    rules.load()


def run_inside(unit_path, command):
    """What remains to be done in the new namespaces."""
    unit = read_unit(unit_path)
    for key, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE),
                       ("LimitMEMLOCK", resource.RLIMIT_MEMLOCK),
                       ("LimitCORE", resource.RLIMIT_CORE)):
        if key in unit:
            value = int(unit[key][-1])
            _, hard = resource.getrlimit(limit)
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.setrlimit(limit, (value, value))
    os.umask(int(unit["UMask"][-1], 8))
    load_filter(unit)
    os.execv(command[0], command)


def make_device(folder, path, group):
    """A node for the device that the unit's group may open."""
    node = os.path.join(folder, os.path.basename(path))
    os.mknod(node, stat.S_IFCHR | 0o660, os.stat(path).st_rdev)
    os.chown(node, 0, group)
    os.chmod(node, 0o660)
    return node


def sandbox(unit, unit_path, runtime, user, group, command, folder):
    """The command line that puts the command into its namespaces."""
    binary = os.path.join(BINARIES, os.path.basename(command[0]))
    inner_unit = os.path.join(BINARIES, "unit")
    inner_self = os.path.join(BINARIES, "confine.py")
    bwrap = ["bwrap", "--die-with-parent", "--ro-bind", "/", "/",
             "--dev", "/dev"]
    for line in unit.get("DeviceAllow", []):
        path = line.split()[0]
        if os.path.exists(path):
            bwrap += ["--dev-bind", make_device(folder, path, group), path]
    for key, places in (("PrivateTmp", ["/tmp", "/var/tmp"]),
                        ("ProtectHome", ["/home", "/root"])):
        if is_set(unit, key):
            for place in places:
                bwrap += ["--perms", "0755", "--tmpfs", place]
    for key, option in (("PrivateNetwork", "--unshare-net"),
                        ("PrivateIPC", "--unshare-ipc"),
                        ("ProtectHostname", "--unshare-uts")):
        if is_set(unit, key):
            bwrap.append(option)
    if "LogsDirectory" in unit:
        logs = os.path.join(folder, "logs")
        os.mkdir(logs, int(unit["LogsDirectoryMode"][-1], 8))
        os.chown(logs, user, group)
        bwrap += ["--perms", "0755", "--tmpfs", "/var/log",
                  "--bind", logs, "/var/log/" + unit["LogsDirectory"][-1]]
    bwrap += ["--perms", "0755", "--tmpfs", "/run",
              "--bind", runtime, "/run/" + unit["RuntimeDirectory"][-1],
              "--ro-bind", os.path.realpath(command[0]), binary,
              "--ro-bind", os.path.realpath(unit_path), inner_unit,
              "--ro-bind", os.path.realpath(__file__), inner_self,
              "--cap-add", "ALL"]
    setpriv = ["/usr/bin/setpriv", "--reuid", str(user), "--regid", str(group),
               "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all",
               "--bounding-set=-all", "--no-new-privs"]
    return (bwrap + ["--"] + setpriv +
            ["--", "/usr/bin/python3", "-B", inner_self, "--inside",
             inner_unit, binary] + command[1:])


def main(arguments):
    if arguments and arguments[0] == "--inside":
        return run_inside(arguments[1], arguments[2:])
    if len(arguments) < 5:
        sys.exit(__doc__)
    unit_path, runtime, user, group = arguments[:4]
    with tempfile.TemporaryDirectory(prefix="tdpd_confine_") as folder:
        process = subprocess.Popen(
            sandbox(read_unit(unit_path), unit_path, runtime, int(user),
                    int(group), arguments[4:], folder))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: process.send_signal(n))
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
