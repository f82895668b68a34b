"""Streams through the API server, with the real kubectl: how fast, whether all arrives, and how late the loop is meanwhile.

    python scripts/bench/streams.py [--megabytes 100]        as root; brings up two nodes

Brings up a cluster of two nodes; one pod runs on the server's node, where API server and kubelet share a loop, and one on the agent's.
Each figure is one transfer of --megabytes by `kubectl exec` or `kubectl port-forward`, by WebSocket (kubectl's default) and by SPDY. The
lag is that of the server's own probe (50 ms apart), as the difference of its counters before and after. Where the machine has fewer
processors than there are programs in the way of the bytes (kubectl, server, agent, containerd, the command), most of it is waiting for one:
the share of the time in which the server's loop could run and had to wait is shown beside it, and at the end for how long the loop was
blocked by its own doing, at most, and how much of that was its start's.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.e2e.objects import pod
from tests.support.agents import nodes
from tests.support.command import Kubectl
from tests.support.server import Server

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
_BUCKET = re.compile(r'minikube_py_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)')


def lags(server: Server) -> dict[float, int]:
    """The probe's counters: how many lags were no greater than each bound, in seconds."""
    return {float(bound.replace("+Inf", "inf")): int(count) for bound, count in _BUCKET.findall(server.get("/metrics"))}


def percentile(before: dict[float, int], after: dict[float, int], share: float) -> float:
    """The bound below which this share of the lags between two looks lies."""
    counts = {bound: count - before.get(bound, 0) for bound, count in sorted(after.items())}
    total = max(counts.values())
    return next(bound for bound, count in counts.items() if count >= share * total)


def waited(server: Server) -> float:
    """Seconds in which the server's loop could have run and had no processor."""
    assert server.process is not None
    return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[1]) / 1e9


def blocked(server: Server) -> float:
    """Milliseconds for which the server's loop was blocked by its own doing, at most, since its start."""
    return 1000 * server.metric("minikube_py_event_loop_blocked_seconds_max")


def download(kubectl: Kubectl, name: str, wanted: str) -> None:
    """The file out of the pod, by exec."""
    shown = subprocess.Popen(kubectl.command("exec", name, "--", "cat", "/tmp/data"), stdout=subprocess.PIPE, env=kubectl.variables())
    assert shown.stdout is not None
    seen = hashlib.sha256()
    while chunk := shown.stdout.read(1 << 20):
        seen.update(chunk)
    assert shown.wait() == 0 and seen.hexdigest() == wanted, "what came out of exec is not what is there"


def upload(kubectl: Kubectl, name: str, wanted: str, path: Path) -> None:
    """The file into the pod, by exec -i."""
    with path.open("rb") as file:
        command = kubectl.command("exec", "-i", name, "--", "sha256sum")
        done = subprocess.run(command, stdin=file, capture_output=True, env=kubectl.variables(), check=True)
    assert done.stdout.split()[0].decode() == wanted, "what arrived by exec is not what was sent"


def echo(kubectl: Kubectl, name: str, wanted: str, path: Path) -> None:
    """The file to the pod and back, both at once, by port-forward."""
    with kubectl.running("port-forward", f"pod/{name}", ":9000") as forward:
        found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=60) as connection:
            sender = threading.Thread(target=lambda: connection.sendfile(path.open("rb")), name="sender")
            sender.start()
            seen, left = hashlib.sha256(), path.stat().st_size
            while left and (chunk := connection.recv(1 << 20)):
                seen.update(chunk)
                left -= len(chunk)
            sender.join()
    assert seen.hexdigest() == wanted, "what came back by port-forward is not what was sent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    size = parser.parse_args().megabytes * 1_000_000
    with nodes(2) as cluster, tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "data"
        data = os.urandom(size)
        path.write_bytes(data)
        wanted = hashlib.sha256(data).hexdigest()
        del data
        plain = cluster.server.kubectl()
        for name, node in zip(("server", "agent"), cluster.names, strict=True):
            plain.apply(pod(name, "sh", "-c", "exec nc -ll -p 9000 -e cat", nodeName=node))
        plain.wait("condition=Ready", "pod/server", "pod/agent")
        starting = blocked(cluster.server)
        print("| stream, pod on the node of | MB/s | loop lag p50 | p99 | waiting for a processor |")
        print("|---|---|---|---|---|")
        for protocol, kubectl in (("WebSocket", plain), ("SPDY", plain.with_environment(**SPDY))):
            for name in ("server", "agent"):
                made = kubectl("exec", name, "--", "sh", "-c", f"head -c {size} /dev/urandom > /tmp/data; sha256sum /tmp/data").split()[0]
                measured: tuple[tuple[str, Callable[[], None], int], ...] = (
                    ("exec, out", lambda k=kubectl, n=name, m=made: download(k, n, m), 1),  # type: ignore[misc]
                    ("exec, in", lambda k=kubectl, n=name: upload(k, n, wanted, path), 1),  # type: ignore[misc]
                    ("port-forward, there and back", lambda k=kubectl, n=name: echo(k, n, wanted, path), 2),  # type: ignore[misc]
                )
                for what, run, times in measured:
                    before, delay, start = lags(cluster.server), waited(cluster.server), time.perf_counter()
                    run()
                    elapsed = time.perf_counter() - start
                    rate, share = times * size / 1e6 / elapsed, (waited(cluster.server) - delay) / elapsed
                    after = lags(cluster.server)
                    p50, p99 = (1000 * percentile(before, after, share) for share in (0.5, 0.99))
                    print(f"| {what}, {protocol}, {name} | {rate:.0f} | <= {p50:.0f} ms | <= {p99:.0f} ms | {share:.0%} |", flush=True)
        print(f"\nThe loop was blocked by its own doing for up to {blocked(cluster.server):.0f} ms; {starting:.0f} ms before the streams.")


if __name__ == "__main__":
    main()
