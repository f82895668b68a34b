"""Seconds from exec to /readyz answering 200, control plane only (first boot: keys are made; second boot), and to a node that is Ready with
a containerd that the server starts. Medians, with the processor time that the server took until then. The package is compiled before, as
pip compiles what it installs: in a checkout with PYTHONDONTWRITEBYTECODE half of the time would be the compiler's.

    python scripts/bench/boot.py [--runs 7] [--node-runs 3]        the node's part as root, in a network namespace; 0 leaves it out
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import tree

PACKAGE = Path(__file__).resolve().parents[2] / "minikube_py"
TIMEOUT = 30.0


class Boot(NamedTuple):
    """Seconds of one start."""

    wall: float
    cpu: float


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ready(port: int, context: ssl.SSLContext) -> bool:
    """One /readyz over TLS, without the cost of an HTTP client."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return tls.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def control_plane(directory: Path) -> Boot:
    """Start a server, wait until it is ready, stop it."""
    port = free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    flags = ["--data-dir", str(directory / "data"), "--write-kubeconfig", str(directory / "kubeconfig"), "--disable-agent"]
    command = [sys.executable, "-m", "minikube_py", "server", *flags, "--https-listen-port", str(port), "--log-level", "error"]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    while not ready(port, context):
        if process.poll() is not None or time.perf_counter() - start > TIMEOUT:
            raise SystemExit("the server did not start")
        time.sleep(0.005)
    boot = Boot(time.perf_counter() - start, tree.usage(process.pid).cpu)
    process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT)
    return boot


def node() -> Boot:
    """Start a whole cluster on an empty directory; it is asked about 20 times a second whether its node is Ready."""
    from tests.support.cluster import cluster

    with cluster() as made:
        assert made.process is not None
        started = int(Path(f"/proc/{made.process.pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return Boot(time.clock_gettime(time.CLOCK_BOOTTIME) - started, tree.usage(made.process.pid).cpu)


def row(name: str, boots: Sequence[Boot]) -> None:
    walls = [boot.wall for boot in boots]
    cpu = statistics.median(boot.cpu for boot in boots)
    print(f"| {name} | {statistics.median(walls):.2f} s | {min(walls):.2f} s | {max(walls):.2f} s | {cpu:.2f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--node-runs", type=int, default=3)
    options = parser.parse_args()
    compileall.compile_dir(PACKAGE, quiet=1)
    firsts, seconds = [], []
    for _ in range(options.runs):
        directory = Path(tempfile.mkdtemp(prefix="minikube-py-bench-"))
        try:
            firsts.append(control_plane(directory))
            seconds.append(control_plane(directory))
        finally:
            shutil.rmtree(directory)
    nodes = [node() for _ in range(options.node_runs)]
    print("| from exec | median | least | most | processor |\n|---|---|---|---|---|")
    for name, boots in (
        ("/readyz, control plane, first boot (keys made)", firsts),
        ("/readyz, control plane, second boot", seconds),
        ("node Ready, first boot, containerd started", nodes),
    ):
        if boots:
            row(name, boots)


if __name__ == "__main__":
    main()
