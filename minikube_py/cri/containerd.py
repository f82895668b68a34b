"""A containerd of the node's own: configured, started or adopted, watched, restarted when it dies.

It outlives this process: when the server restarts it finds the running containerd by its pid file and socket and leaves it be, unless its
configuration has changed. When containerd dies it is started again with backoff; the pods live in shims and notice nothing. Only `stop`
ends it, and only `teardown.stop_all` ends the pods. It shares nothing with another containerd of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec

from minikube_py.aio import Health, cancel
from minikube_py.cri import errors, images, pause
from minikube_py.cri.client import CriClient
from minikube_py.cri.host import HostFacts, Programs, find_programs, probe
from minikube_py.cri.process import Daemon
from minikube_py.cri.runtimeconfig import Layout, render

log = logging.getLogger(__name__)

_START_SECONDS: Final = 30.0
_ADOPT_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0
_LOG_LIMIT: Final = 32 * 1024 * 1024
_IPTABLES: Final = tuple(f"{family}{action}" for family in ("iptables", "ip6tables") for action in ("", "-save", "-restore"))


class ContainerdOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What one node's containerd is told."""

    data_dir: Path
    """Where layers and images are kept, `<data-dir>/agent` of the server."""
    run_dir: Path | None = None
    """Where sockets and mounts of running pods are; a directory of its own under /run when not given. Short: socket names are limited."""
    cni_conf: Path | None = None
    """The directory of the network's configuration; below data_dir when not given."""
    iptables: str = ""
    """'legacy' or 'nft': the variant that CNI plugins use; what the system has when empty."""
    systemd_cgroup: bool = False
    log_level: str = "warn"
    path: str | None = None
    """Where programs are looked for, instead of PATH."""
    enter: tuple[str, ...] = ()
    """A command that containerd is started through, such as nsenter into a node's namespaces. It must exec, so that the pid stays."""

    def layout(self) -> Layout:
        """The places that follow from the options."""
        base = self.data_dir / "containerd"
        state = self.run_dir or Path("/run/minikube-py") / hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:8]
        return Layout(
            root=base / "root",
            state=state,
            socket=state / "containerd.sock",
            config=self.data_dir / "etc" / "containerd" / "config.toml",
            log=base / "containerd.log",
            pid=base / "containerd.pid",
            registries=self.data_dir / "etc" / "containerd" / "certs.d",
            cni_conf=self.cni_conf or self.data_dir / "etc" / "cni" / "net.d",
            tools=self.data_dir / "bin",
        )


class Containerd:
    """One supervised containerd. `start` or `run` first; then `socket` serves CRI."""

    def __init__(self, options: ContainerdOptions) -> None:
        self.options = options
        self.layout = options.layout()
        self.adopted = False  # whether the one that runs was found rather than started
        self.facts: HostFacts | None = None  # known after the first start
        self._programs: Programs | None = None
        self._daemon: Daemon | None = None

    @property
    def socket(self) -> Path:
        """Where it serves CRI and its native services."""
        return self.layout.socket

    @property
    def pid(self) -> int | None:
        """Its process, while one is known."""
        return self._daemon.pid if self._daemon is not None else None

    async def run(self, health: Health) -> None:
        """As a component: serve until it ends, then raise, so that the supervisor starts it again. Cancellation leaves it running."""
        await self.start()
        health.well()
        try:
            await self.wait()
        finally:
            self.release()
        raise errors.RuntimeFailed(f"containerd ended: {self._log_end()}")

    async def start(self) -> None:
        """Adopt the running one or start one; returns when it serves and has the sandbox's image.

        Raises RuntimeMissing when a program is not installed, RuntimeFailed when containerd does not come up.
        """
        if self._daemon is not None and self._daemon.running:
            return
        self.release()
        changed = await asyncio.to_thread(self._prepare)
        self._daemon = await self._adopt(changed)
        self.adopted = self._daemon is not None
        if self._daemon is None:
            self._daemon = await self._spawn()
        try:
            await self._while_running(self._daemon, self._serves(_START_SECONDS, with_pause=True))
        except errors.CriError:
            await self._daemon.terminate(0)  # the next start is of a new one
            self.release()
            raise

    async def _while_running(self, daemon: Daemon, work: Coroutine[Any, Any, None]) -> None:
        """Do what needs it; one that is killed meanwhile is not waited for. Raises RuntimeFailed."""
        working = asyncio.create_task(work, name="containerd serves")
        ended = asyncio.create_task(daemon.wait(), name="containerd ends")
        try:
            await asyncio.wait((working, ended), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise errors.RuntimeFailed(f"containerd ended while it started: {self._log_end()}")
            await working
        finally:
            await cancel(working, ended)

    async def _serves(self, seconds: float, *, with_pause: bool) -> None:
        """Until CRI answers, and has the sandbox's image. Raises CriError, also when that takes longer."""
        try:
            async with asyncio.timeout(seconds), CriClient(self.socket) as client:
                await client.wait_until_serving(seconds)
                if with_pause:
                    await images.ensure_pause(client)
        except TimeoutError as error:
            raise errors.DeadlineExceeded(f"containerd does not serve after {seconds:.0f} s: {self._log_end()}") from error

    async def wait(self) -> None:
        """Until the process ends."""
        if self._daemon is not None:
            await self._daemon.wait()

    def release(self) -> None:
        """Forget the process without ending it."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None

    async def stop(self) -> None:
        """End containerd, not the pods. Also one that another process of ours started."""
        daemon = self._daemon or await asyncio.to_thread(self._find)
        self._daemon = None
        if daemon is not None:
            await daemon.terminate(_STOP_SECONDS)
            daemon.close()
        self.layout.pid.unlink(missing_ok=True)

    def _prepare(self) -> bool:
        """Make the directories and write the configuration; whether it changed. Blocking."""
        layout = self.layout
        if self._programs is None:
            self._programs = find_programs(self.options.path)
            self.facts = probe(layout.root.parent)
        assert self.facts is not None
        for directory in (layout.root, layout.state, layout.config.parent, layout.registries, layout.cni_conf, layout.tools):
            directory.mkdir(parents=True, exist_ok=True)
        layout.root.chmod(0o711)
        layout.state.chmod(0o711)
        _link_iptables(layout.tools, self.options.iptables)
        with contextlib.suppress(FileNotFoundError):
            if layout.log.stat().st_size > _LOG_LIMIT:
                layout.log.replace(layout.log.with_suffix(".log.1"))
        text = render(layout, self._programs, self.facts, pause.IMAGE, self.options.systemd_cgroup)
        if layout.config.exists() and layout.config.read_text() == text:
            return False
        fresh = layout.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(layout.config)
        return True

    def _find(self) -> Daemon | None:
        """The one that runs. Its starter may have been killed before it wrote the pid file: a second one would wait for the first one's
        databases, without an end, and have taken the socket's name from it. Blocking."""
        config = str(self.layout.config)
        found = Daemon.find(self.layout.pid, config)
        if found is None and (found := Daemon.search(config)) is not None:
            self.layout.pid.write_text(f"{found.pid}\n")
        return found

    async def _adopt(self, changed: bool) -> Daemon | None:
        """The containerd that an earlier run of ours left, if it answers and has this configuration."""
        daemon = await asyncio.to_thread(self._find)
        if daemon is None:
            return None
        if not changed:
            try:
                await self._while_running(daemon, self._serves(_ADOPT_SECONDS, with_pause=False))
            except errors.CriError:
                log.warning("the running containerd does not answer, starting it again", extra={"pid": daemon.pid})
            else:
                log.info("adopted the running containerd", extra={"pid": daemon.pid})
                return daemon
        await daemon.terminate(_STOP_SECONDS)
        daemon.close()
        return None

    async def _spawn(self) -> Daemon:
        assert self._programs is not None
        layout = self.layout
        arguments = [*self.options.enter, str(self._programs.containerd), "--config", str(layout.config)]
        arguments += ["--log-level", self.options.log_level]
        # its own directory before all others: shims and containerd must be of one version
        first = (layout.tools, self._programs.containerd.parent, self._programs.runc.parent)
        path = ":".join((*map(str, first), os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"))
        layout.socket.unlink(missing_ok=True)
        # what systemd is told of our state, it is told by us alone
        inherited = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        daemon = await Daemon.start(arguments, log=layout.log, environment={**inherited, "PATH": path})
        layout.pid.write_text(f"{daemon.pid}\n")
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not await _listens(layout.socket):
            if not daemon.running or asyncio.get_running_loop().time() > deadline:
                await daemon.terminate(0)
                daemon.close()
                raise errors.RuntimeFailed(f"containerd did not start: {self._log_end()}")
            await asyncio.sleep(0.01)
        return daemon

    def _log_end(self) -> str:
        """The last line of the log, for a message."""
        try:
            with self.layout.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 2000))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        return f"{lines[-1] if lines else 'it logged nothing'} (see {self.layout.log})"


async def _listens(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    return True


def _link_iptables(tools: Path, variant: str) -> None:
    """Make `iptables` and its kin mean one variant for whoever has `tools` first on its PATH. Idempotent."""
    for name in _IPTABLES:
        link = tools / name
        first, _, action = name.partition("-")
        wanted = f"{first}-{variant}" + (f"-{action}" if action else "")
        target = shutil.which(wanted, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") if variant else None
        if target is None:
            link.unlink(missing_ok=True)
        elif not link.is_symlink() or os.readlink(link) != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
