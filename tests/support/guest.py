"""Virtual machines for tests: real systemd as the first process, cgroup v2, a kernel of their own, a disk that outlives a cut of power.

Each is one QEMU process, ended by its pid. Its network card leads to this machine alone: QEMU forwards the ports of ssh and of the API
server from loopback addresses here, and lets nothing out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.command import Completed, Kubectl
from tests.support.guestimage import Image, build
from tests.support.server import Server, free_port

API_PORT = 6443
_KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off quiet"
_SLOW = """
mkdir -p /etc/systemd/system/minikube-py.service.d
printf '[Service]\\nTimeoutStartSec=infinity\\n' >/etc/systemd/system/minikube-py.service.d/slow.conf
systemctl daemon-reload
"""


def hardware() -> bool:
    """Whether guests run on the processor itself. A kvm that is itself emulated (PVM) runs only kernels that are made for it."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and not Path("/sys/module/kvm_pvm").exists()


STRETCH = 1.0 if hardware() else 30.0
"""How many times longer than on the processor itself things may take."""


class Patient(Kubectl):
    """kubectl waits ten seconds for a TLS handshake and half a minute for an answer, and cannot be told to wait longer: then it is asked
    again."""

    def result(self, *arguments: str, stdin: str | None = None) -> Completed:
        done = super().result(*arguments, stdin=stdin)
        for _ in range(int(STRETCH)):
            if "TLS handshake timeout" not in done.stderr and "Client.Timeout exceeded" not in done.stderr:
                break
            done = super().result(*arguments, stdin=stdin)
        return done


def _disk(directory: Path) -> Path:
    return directory / "disk.qcow2"


def drive(directory: Path) -> str:
    """QEMU's argument for the disk of a guest. What the guest has flushed is on it; what it has not may be lost with the process."""
    return f"if=virtio,format=qcow2,cache=none,discard=unmap,file={_disk(directory)}"


@dataclass
class Guest:
    """One machine. `boot` it, `run` commands in it; `close` ends it and leaves the disk."""

    image: Image
    directory: Path
    memory: int = 2048
    process: subprocess.Popen[bytes] | None = None
    ssh_port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)

    @property
    def console(self) -> Path:
        """What the kernel and systemd have printed, of all boots."""
        return self.directory / "console.log"

    def start(self) -> None:
        """Switch it on; returns at once."""
        disk = _disk(self.directory)
        if not disk.exists():
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.image.disk), "-F", "raw", str(disk)], check=True, timeout=30
            )
        with (self.directory / "qemu.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def boot(self, timeout: float = 30) -> None:
        """Switch it on and wait until systemd has started everything."""
        self.start()
        self.up(timeout)

    def up(self, timeout: float = 30) -> None:
        """Wait until a command can be run in it."""
        deadline = time.monotonic() + timeout * STRETCH
        while True:
            assert self.process is not None and self.process.poll() is None, self._said()
            assert time.monotonic() < deadline, f"the guest did not start: {self._said()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.run("true", check=False, timeout=20).returncode == 0:
                    return
            time.sleep(0.5)

    def run(self, command: str, *, check: bool = True, timeout: float = 60, stdin: str | None = None) -> Completed:
        """Run a shell command in it as root. `timeout` is not stretched."""
        done = subprocess.run(self.ssh(command), input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: status {done.returncode}: {done.stderr[-3000:]}{done.stdout[-3000:]}")
        return done

    def out(self, command: str, *, timeout: float = 60) -> str:
        """What a command prints."""
        return self.run(command, timeout=timeout).stdout.strip()

    def until(self, command: str, timeout: float = 20) -> None:
        """Run a shell command in it again and again until it works."""
        loop = f"until {command}; do sleep 0.2; done"
        try:
            self.run(loop, timeout=timeout * STRETCH)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not within {timeout * STRETCH:.0f} s: {command}") from None

    def ssh(self, *command: str) -> list[str]:
        """The command line of ssh."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes", "ConnectTimeout=20")
        shared = ("ControlMaster=auto", "ControlPersist=600", f"ControlPath={self.directory}/ssh", "ServerAliveInterval=30")
        flags = [part for option in (*options, *shared) for part in ("-o", option)]
        return ["ssh", "-F", "none", *flags, "-i", str(self.image.key), "-p", str(self.ssh_port), "root@127.0.0.1", *command]

    def serve(self, config: str = "") -> None:
        """Have the server run as a unit, at every boot, with this in its configuration file; returns when it is active."""
        if STRETCH > 1:  # the unit's own patience is made for processors
            self.run(_SLOW, timeout=10 * STRETCH)
        self.run("mkdir -p /etc/minikube-py && cat >/etc/minikube-py/config.yaml", stdin=config)
        done = self.run("systemctl enable --now minikube-py", check=False, timeout=30 * STRETCH)
        assert done.returncode == 0, done.stderr + self.out("journalctl -u minikube-py -n 30 -o cat --no-pager")

    def api(self) -> Server:
        """The API server in it, as the administrator reaches it from here."""
        text = self.out("cat /etc/minikube-py/kubeconfig.yaml")
        (self.directory / "kubeconfig.local").write_text(text)
        server = Server(self.directory, ip="127.0.0.1", port=self.api_port)
        server.ready(30 * STRETCH)
        return server

    def kubectl(self) -> Kubectl:
        """kubectl of this machine, as the administrator of the cluster in it."""
        found = self.api().kubectl()
        return Patient(found.program, found.kubeconfig, timeout=60 * STRETCH)

    def cut_power(self) -> None:
        """End it without a word: what it has not had written to the disk is lost."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.ended(10)

    def ended(self, timeout: float) -> None:
        """Wait until it is off."""
        assert self.process is not None
        self.process.wait(timeout)
        self.process = None
        self._forget()

    def restarted(self, before: str, timeout: float = 60) -> None:
        """Wait until it has booted again; `before` is the boot_id() of the last time."""
        deadline = time.monotonic() + timeout * STRETCH
        while True:
            assert time.monotonic() < deadline, f"the guest did not boot again: {self._said()}"
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                if self.boot_id() not in ("", before):
                    return
            self._forget()
            time.sleep(1)

    def boot_id(self) -> str:
        """Names this boot."""
        return self.out("cat /proc/sys/kernel/random/boot_id", timeout=20)

    def close(self) -> None:
        """Switch it off."""
        self._forget()
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def _forget(self) -> None:
        """End the shared connection."""
        if (self.directory / "ssh").exists():
            subprocess.run([*self.ssh()[:-1], "-O", "exit", "guest"], capture_output=True, check=False, timeout=10)
            (self.directory / "ssh").unlink(missing_ok=True)

    def _said(self) -> str:
        texts = [path.read_text(errors="replace")[-2000:] for path in (self.directory / "qemu.log", self.console) if path.exists()]
        return "\n".join(texts)

    def _command(self) -> list[str]:
        # an emulated processor without AVX: programs choose by what it says it can, and that one would be slow
        processor = ("kvm", "-cpu", "host") if hardware() else ("tcg,thread=multi,tb-size=512", "-cpu", "Westmere,+rdrand")
        forwards = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22,hostfwd=tcp:127.0.0.1:{self.api_port}-:{API_PORT}"
        return [
            *("qemu-system-x86_64", "-accel", *processor, "-machine", "q35", "-smp", "2", "-m", f"{self.memory}M"),
            *("-display", "none", "-monitor", "none", "-no-user-config", "-nodefaults"),
            *("-chardev", f"file,id=console,append=on,path={self.console}", "-serial", "chardev:console"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd), "-append", _KERNEL),
            *("-drive", drive(self.directory), "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=outside,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=outside"),
        ]


@contextlib.contextmanager
def fresh_guest() -> Iterator[Guest]:
    """A machine with a fresh disk, switched off. It, and its disk, are gone at the end. Raises CannotBuild."""
    directory = Path(tempfile.mkdtemp(prefix="mkpy-guest-"))
    guest: Guest | None = None
    try:
        guest = Guest(build(directory), directory)
        yield guest
    finally:
        if guest is not None:
            guest.close()
        shutil.rmtree(directory, ignore_errors=True)
