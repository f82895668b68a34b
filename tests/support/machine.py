"""A whole machine for tests, out of namespaces: its own network, processes, mounts, host name and cgroup root, on this machine's programs.

What runs in it sees an empty /run and /var/log, nothing of an earlier server, and its own changes to /etc and /var/lib over the real
ones, so that a server with its default paths can run in several of them at once. Ending it is ending its first process: the kernel ends
the rest, and with them go all mounts. The mount tree is rshared, as it is on a machine with systemd.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.lan import Lan

_OVERLAID = ("etc", "var/lib")  # one's own changes over what this machine has: its packages are known there
_OWN = ("run", "var/log", "var/lib/minikube-py", "var/lib/kubelet", "var/lib/cni")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass
class Machine:
    """A running machine. `directory` holds its own file trees as this machine sees them: `directory/'run'` is its /run."""

    name: str
    ip: str
    gateway: str
    directory: Path
    lan: Lan
    cgroup: str
    init: int = 0
    _spawned: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, *command: str) -> list[str]:
        """The arguments that run a command inside."""
        enter = ("nsenter", "--target", str(self.init), "--mount", "--uts", "--net", "--pid", "--cgroup", "--wd=/")
        return ["sh", "-c", _join(self.cgroup, "/init"), "join", *enter, *command]

    def run(self, *command: str, timeout: float = 30.0, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for it."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, timeout=timeout, check=False, input=stdin)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def start(self, *command: str, log: Path, environment: Mapping[str, str] | None = None) -> int:
        """Start a command inside, its output in `log`; its pid as this machine sees it."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
            )
        self._spawned.append(process)
        return _only_child(process.pid, "nsenter")

    def pids(self) -> list[int]:
        """Every process inside, as this machine sees them."""
        mine = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == mine:
                    found.append(int(name))
        return found

    def inside(self, path: str) -> Path:
        """Where a path of the machine lies on this one: below /run, /var/log or /var/lib/minikube-py."""
        return self.directory / path.lstrip("/")


@contextlib.contextmanager
def machine(lan: Lan, name: str) -> Iterator[Machine]:
    """A machine on a Lan. Blocking."""
    namespace, ip = lan.attach(name)
    made = Machine(name, ip, lan.gateway, Path(tempfile.mkdtemp(prefix=f"{namespace}-")), lan, f"/{namespace}")
    first: subprocess.Popen[bytes] | None = None
    try:
        for own in (*_OWN, *(f"{kind}/{path}" for path in _OVERLAID for kind in ("upper", "work"))):
            (made.directory / own).mkdir(parents=True)
        _make_cgroups(made.cgroup)
        first = _boot(made, namespace)
        yield made
    finally:
        _halt(made, first)


def _boot(made: Machine, namespace: str) -> subprocess.Popen[bytes]:
    unshare = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "--propagation", "private")
    setup = ["set -e", f"hostname {made.name}", "mount -t sysfs sysfs /sys", *_cgroup_mounts()]
    setup += [
        f"mount -t overlay overlay -o lowerdir=/{path},upperdir={made.directory}/upper/{path},workdir={made.directory}/work/{path} /{path}"
        for path in _OVERLAID
    ]
    setup += [f"mkdir -p /{own} && mount --bind {made.directory}/{own} /{own}" for own in _OWN]
    # as the first process it must collect the orphans of all others: a waiting shell does
    setup += ["mount --make-rshared /", "touch /run/booted", "sleep infinity & wait"]
    arguments = ["sh", "-c", _join(made.cgroup), "join", "nsenter", f"--net=/run/netns/{namespace}", *unshare, "sh", "-c", "\n".join(setup)]
    with (made.directory / "boot.log").open("wb") as output:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + 10
    while not (made.directory / "run" / "booted").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{made.name} did not start: {(made.directory / 'boot.log').read_text()}")
        time.sleep(0.005)
    made.init = _only_child(process.pid, "unshare")
    return process


def _halt(made: Machine, first: subprocess.Popen[bytes] | None) -> None:
    if made.init:
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.init, signal.SIGKILL)
    for process in (*made._spawned, *((first,) if first is not None else ())):
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
    _remove_cgroups(made.cgroup)
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [mount for mount in mounts if Path(mount).is_relative_to(made.directory)]
    assert not left, f"{made.name} left mounts behind: {left}"
    shutil.rmtree(made.directory)


def _only_child(parent: int, name: str) -> int:
    """The process that a parent of that name has forked; the parent may still be on its way to become that."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            if children and Path(f"/proc/{parent}/comm").read_text().strip() == name:
                return int(children[0])
        time.sleep(0.002)
    raise AssertionError(f"process {parent} has no child")


# Cgroups: version 1 hierarchies beside one another, the unified one alone, or both.


def _join(cgroup: str, leaf: str = "") -> str:
    """A shell script that moves itself into a cgroup of every hierarchy and becomes its arguments; `leaf` is for the unified one."""
    files = f"{_CGROUPS}/*{cgroup}/cgroup.procs {_CGROUPS}{cgroup}{leaf}/cgroup.procs"
    return f'for procs in {files}; do [ -e "$procs" ] && echo $$ >"$procs"; done; exec "$@"'


def _hierarchies() -> Sequence[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        return (_CGROUPS,)
    return [path for path in sorted(_CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]


def _make_cgroups(cgroup: str) -> None:
    for hierarchy in _hierarchies():
        path = hierarchy / cgroup.strip("/")
        path.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 takes no process into a set of nothing
            if (hierarchy / "tasks").exists() and (path / name).exists():
                (path / name).write_text((hierarchy / name).read_text())


def _cgroup_mounts() -> list[str]:
    """Commands that mount the hierarchies anew: from inside, a machine's own cgroup is the root."""
    lines = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        place, (kind, _, options) = before.split(" ")[4], after.split(" ")
        if kind == "cgroup":
            wanted = ",".join(o for o in options.split(",") if o not in ("rw", "ro"))
            lines.append(f"mkdir -p {place} && mount -t cgroup -o {wanted} cgroup {place}")
        elif kind == "cgroup2":
            lines.append(f"mkdir -p {place} && mount -t cgroup2 cgroup2 {place}")
            if place == str(_CGROUPS):  # its root may have processes or children, not both
                lines.append(f"mkdir {place}/init && echo 1 >{place}/init/cgroup.procs")
    if not any("cgroup2" in line and line.endswith(str(_CGROUPS)) for line in lines):
        lines.insert(0, f"mount -t tmpfs tmpfs {_CGROUPS}")
    return lines


def _remove_cgroups(cgroup: str) -> None:
    deadline = time.monotonic() + 10
    for hierarchy in _hierarchies():
        top = hierarchy / cgroup.strip("/")
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if top.exists():
                assert time.monotonic() < deadline, f"{top} still has processes"
                time.sleep(0.02)
