"""The disk of a virtual machine as users have one: Debian 12 with systemd, cgroup v2, and the program where the README puts it.

Debian's packages and Python's are fetched once and kept, unpacked, in a cache folder; this tree is installed there anew each time, and a
file system is made of the result, which takes seconds. Everything is installed at this machine's own speed, in the folder: a guest
that is emulated would need minutes.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import write_archives
from tests.support.kubectl import mirror

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PROGRAM = "/opt/minikube-py"
TESTS = "/opt/tests"  # a Python with what the tests need too
TREE = "/root/minikube_py"  # the tests
SIZE = "12G"  # sparse

_SYSTEM = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "kmod", "linux-image-cloud-amd64", "initramfs-tools"),
    *("openssh-server", "ca-certificates", "python3"),
)
_TEST_PYTHON = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "kubernetes")
_NOT_STARTED = (
    "containerd",
    "etcd",
    "docker-registry",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_reap",
)
"""Of the packages' own services; a test starts the distribution's containerd where it is meant."""
_COPIED = ("minikube_py", "tests", "scripts", "systemd", "examples", "pyproject.toml", "README.md")


class CannotBuild(Exception):
    """The disk cannot be made here; the message says why."""


@dataclass(frozen=True)
class Image:
    """A disk and what it is started with."""

    disk: Path
    kernel: Path
    initrd: Path
    key: Path


def build(directory: Path) -> Image:
    """Make a disk of this tree in a directory. The first call on a machine takes some minutes. Raises CannotBuild."""
    with _cache() as home:
        root = home / "root"
        if not (home / "complete").exists():
            _make_root(home, root)
            (home / "complete").touch()
        _install(root)
        disk = directory / "base.img"
        _run("truncate", "--size", SIZE, str(disk))
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-d", str(root), str(disk))
        boot = root / "boot"
        return Image(disk, _copy(boot, "vmlinuz-*", directory), _copy(boot, "initrd.img-*", directory), _copy(home, "key", directory))


@contextmanager
def _cache() -> Iterator[Path]:
    """The folder of what this recipe makes, for one process at a time; what other recipes made is removed."""
    steps = (inspect.getsource(step) for step in (_make_root, _venv, _configure))
    recipe = hashlib.sha256(repr((*steps, _packages(), _python(), _NOT_STARTED)).encode()).hexdigest()[:12]
    above = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minikube-py-tests" / "guest"
    above.mkdir(parents=True, exist_ok=True)
    with (above / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = above / recipe
        for other in above.iterdir():
            if other.is_dir() and (other != home or not (other / "complete").exists()):
                _run("rm", "-rf", "--one-file-system", str(other))
        home.mkdir(exist_ok=True)
        yield home


def _packages() -> tuple[str, ...]:
    listed = subprocess.run([ROOT / "scripts/packages", "--list", "test"], capture_output=True, text=True, check=True).stdout.split()
    return (*_SYSTEM, *listed)


def _python() -> tuple[str, ...]:
    return (*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"], *_TEST_PYTHON)


def _make_root(home: Path, root: Path) -> None:
    source, key = mirror()
    options = ("--variant=minbase", "--mode=root", "--format=directory", '--aptopt=Acquire::Languages "none"')
    keyring = (f"--keyring={key}",) if key else ()
    # what it mounts there ends with it, however it ends
    private = ("unshare", "--mount", "--propagation", "private")
    _run(
        *private, "mmdebstrap", "--quiet", '--aptopt=Acquire::Languages "none"', *keyring, *options, SUITE, str(root), source, timeout=1800
    )
    wheels = root / "opt" / "wheels"
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels), *_python(), timeout=1800)
    _venv(root, PROGRAM, _python()[: -len(_TEST_PYTHON)])
    _venv(root, TESTS, _python())
    shutil.rmtree(wheels)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key"))
    _configure(root, (home / "key.pub").read_text())


def _venv(root: Path, path: str, packages: Sequence[str]) -> None:
    _inside(root, "python3", "-m", "venv", path)
    _inside(root, f"{path}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/opt/wheels", *packages)


def _configure(root: Path, key: str) -> None:
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_text(key)
    (root / "etc/ssh/sshd_config.d/guest.conf").write_text("UsePAM no\nUseDNS no\nMaxSessions 50\nPermitRootLogin prohibit-password\n")
    networks = root / "etc/systemd/network"
    # QEMU's network gives no route where it is restricted; a machine has one, and nothing comes through it
    (networks / "outside.network").write_text("[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n")
    for service in _NOT_STARTED:
        _inside(root, "systemctl", "disable", "--quiet", service, check=False)
    _inside(root, "systemctl", "enable", "--quiet", "ssh", "systemd-networkd")
    journal = root / "etc/systemd/journald.conf.d"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "guest.conf").write_text("[Journal]\nStorage=persistent\n")


def _install(root: Path) -> None:
    """This tree's program as a wheel, its units, the tests, and images for pods."""
    wheels = root / "opt" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT), timeout=600)
    (wheel,) = wheels.iterdir()
    _inside(root, f"{PROGRAM}/bin/pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", f"/opt/wheels/{wheel.name}")
    for unit in (ROOT / "systemd").glob("*.service"):
        shutil.copy(unit, root / "etc/systemd/system")
    tree = root / TREE.lstrip("/")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    _inside(root, f"{TESTS}/bin/python", "-m", "compileall", "-q", TREE)
    images = root / "var/lib/minikube-py/agent/images"
    images.mkdir(parents=True, exist_ok=True)
    write_archives(images)


def _copy(directory: Path, pattern: str, to: Path) -> Path:
    """A copy under the pattern's own name."""
    (found,) = directory.glob(pattern)
    return Path(shutil.copy(found, to / pattern.rstrip("-*")))


def _inside(root: Path, *command: str, check: bool = True) -> None:
    _run("chroot", str(root), *command, check=check)


def _run(*command: str, check: bool = True, timeout: float = 300) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{error} (scripts/packages guest installs what is needed)") from error
    if check and done.returncode != 0:
        raise CannotBuild(f"{' '.join(command[:6])}: status {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
