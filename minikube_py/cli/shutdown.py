"""`minikube-py shutdown`: has the node of this machine end its pods before the machine goes down."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import click

from minikube_py.cli.options import config_option, option
from minikube_py.config import DEFAULT_DATA_DIR

_ANSWER_SECONDS = 10.0


@click.command(short_help="End this machine's pods before it is shut down.")
@config_option
@option("--data-dir", "The data directory of the server or agent.", default=str(DEFAULT_DATA_DIR), metavar="DIR")
@click.option("--pid", envvar="MAINPID", type=click.IntRange(2), required=True, help="The process of the server or agent.", metavar="PID")
@click.option("--timeout", default=3600.0, type=click.FloatRange(0), show_default=True, help="Seconds to wait at most.", metavar="SECONDS")
def shutdown(data_dir: str, pid: int, timeout: float) -> None:
    """End this machine's pods, within --shutdown-grace-period of the server or agent, and return when they have ended.

    The units in systemd/ do this when the machine is shut down. From then on the node takes no pods, until its process starts again.
    """
    state = Path(data_dir) / "agent" / "kubelet" / "graceful_node_shutdown_state"
    state.unlink(missing_ok=True)
    try:
        os.kill(pid, signal.SIGPWR)
    except ProcessLookupError:
        raise click.ClickException(f"there is no process {pid}") from None
    began = time.monotonic()
    while time.monotonic() < began + timeout:
        try:
            if json.loads(state.read_bytes()).get("endTime"):
                return
        except FileNotFoundError:
            if time.monotonic() > began + _ANSWER_SECONDS:
                raise click.ClickException(f"process {pid} is no node that uses {data_dir}") from None
        if not Path(f"/proc/{pid}").exists():
            raise click.ClickException(f"process {pid} has ended")
        time.sleep(0.1)
    raise click.ClickException(f"the pods have not ended within {timeout:.0f} s")
