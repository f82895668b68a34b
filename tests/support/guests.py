"""What scripts/guest does: one virtual machine that stays until it is switched off, its disk and its numbers in one directory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from minikube_py.cri.process import Daemon
from tests.support.guest import STRETCH, Guest, drive
from tests.support.guestimage import TESTS, TREE, CannotBuild, Image, build

HOME = Path("/var/lib/minikube-py-guest")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 failed, 2 wrong usage; `run` and `test` have that of the command."""
    if os.geteuid() != 0:
        print("a guest needs root: run it with sudo", file=sys.stderr)
        return 1
    match arguments:
        case ["up"]:
            return up()
        case ["down"]:
            return down()
        case ["run", *command] if command:
            return _inside(" ".join(command))
        case ["test", *rest]:
            patience = f"MINIKUBE_PY_TEST_PATIENCE={STRETCH:g}"
            pytest = f"{TESTS}/bin/python -m pytest -q -p no:cacheprovider --timeout {120 * STRETCH:.0f}"
            return _inside(f"cd {TREE} && {patience} {pytest} {shlex.join(rest)}")
    print("usage: scripts/guest up | run COMMAND ... | test ARG ... | down", file=sys.stderr)
    return 2


def up() -> int:
    """Make the machine and start the server in it."""
    try:
        HOME.mkdir(parents=True)
    except FileExistsError:
        print("there is a guest already: scripts/guest down", file=sys.stderr)
        return 1
    began = time.monotonic()
    try:
        guest = Guest(build(HOME), HOME)
        guest.start()
        assert guest.process is not None
        (HOME / "pid").write_text(f"{guest.process.pid}\n")
        (HOME / "state.json").write_text(json.dumps({"ssh_port": guest.ssh_port, "api_port": guest.api_port}))
        guest.up()
        booted = time.monotonic()
        guest.serve()
        server = guest.api()
    except BaseException as error:
        down()
        print(f"the guest did not come up: {error}", file=sys.stderr)
        return 1 if isinstance(error, (AssertionError, CannotBuild, subprocess.SubprocessError)) else 130
    print(f"booted after {booted - began:.0f} s, the API is ready after {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(server.kubeconfig)
    return 0


def down() -> int:
    """Switch it off and remove its disk; without effect when there is none."""
    if (guest := _known()) is not None:
        guest.close()
    daemon = Daemon.find(HOME / "pid", drive(HOME))
    if daemon is not None:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.close()
    shutil.rmtree(HOME, ignore_errors=True)
    return 0


def _inside(command: str) -> int:
    if (guest := _known()) is None:
        print("there is no guest: scripts/guest up", file=sys.stderr)
        return 1
    return subprocess.run(guest.ssh(command), check=False).returncode


def _known() -> Guest | None:
    try:
        state = json.loads((HOME / "state.json").read_text())
    except FileNotFoundError:
        return None
    image = Image(HOME / "base.img", HOME / "vmlinuz", HOME / "initrd.img", HOME / "key")
    return Guest(image, HOME, ssh_port=state["ssh_port"], api_port=state["api_port"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
