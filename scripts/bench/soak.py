#!/usr/bin/env python
"""Minutes of churn on one node, to see that nothing grows: pods, configmaps and watches come and go, and the server is measured meanwhile.

    .venv/bin/python scripts/bench/soak.py --minutes 5           as root

Printed once a lap: resident memory of the server, its tasks, threads, open files, and the kernel's objects of the node. A lap begins when
everything of the last one is gone. The first laps fill caches; what counts is the growth from the middle to the end.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e.objects import config_map, pod
from tests.support.cluster import Cluster, cluster
from tests.support.waiting import eventually

NAMESPACE = "soak"
PATH = f"/api/v1/namespaces/{NAMESPACE}"
ALLOWED_MIB = 8.0
"""What memory may grow by in the second half: the allocator's fragments."""


class Lap(NamedTuple):
    """What there is when everything is gone that a lap made."""

    memory: float
    tasks: int
    threads: int
    files: int
    cgroups: int
    links: int
    rules: int


def measure(made: Cluster) -> Lap:
    """Look at the server and its node."""
    assert made.process is not None
    process = Path(f"/proc/{made.process.pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    return Lap(
        int(status["VmRSS"].split()[0]) / 1024,
        int(made.metric("minikube_py_tasks")),
        int(status["Threads"]),
        len(list((process / "fd").iterdir())),
        sum(1 for _ in Path(f"/sys/fs/cgroup/memory{made.cgroup}").rglob("cgroup.procs")),
        len(made.on_node("ip", "-o", "link").stdout.splitlines()),
        len(made.on_node("iptables-legacy-save").stdout.splitlines()),
    )


def churn(made: Cluster, lap: int, objects: int, pods: int, watches: int) -> None:
    """Make and delete pods, and configmaps under the eyes of watches that end without a word."""
    for number in range(pods):
        made.create(f"{PATH}/pods", pod(f"p{lap}-{number}", "sh", "-c", "echo hello; exec sleep 1000"))
    watchers = [_watch(made) for _ in range(watches)]
    threads = [threading.Thread(target=_configmaps, args=(made, f"c{lap}-{n}", objects // 4), name=f"configmaps {n}") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for watcher in watchers:
        watcher.close()
    names = [f"p{lap}-{number}" for number in range(pods)]
    eventually(lambda: all(_phase(made, name) == "Running" for name in names), "the pods run", 60)
    for name in names:
        made.request("DELETE", f"{PATH}/pods/{name}")
    eventually(lambda: not made.get(f"{PATH}/pods")["items"], "the pods are gone", 60)


def _phase(made: Cluster, name: str) -> str:
    phase: str = made.get(f"{PATH}/pods/{name}")["status"].get("phase", "")
    return phase


def _configmaps(made: Cluster, prefix: str, count: int) -> None:
    for number in range(count):
        made.create(f"{PATH}/configmaps", config_map(f"{prefix}-{number}", text="x" * 1000))
        made.request("DELETE", f"{PATH}/configmaps/{prefix}-{number}")


def _watch(made: Cluster) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(made.directory / "admin.pem")
    watcher = context.wrap_socket(socket.create_connection((made.ip, made.port)))
    watcher.sendall(f"GET {PATH}/configmaps?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    watcher.recv(1000)
    return watcher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--objects", type=int, default=400, help="configmaps a lap")
    parser.add_argument("--pods", type=int, default=5, help="pods a lap")
    parser.add_argument("--watches", type=int, default=50, help="watches a lap")
    options = parser.parse_args()
    laps: list[Lap] = []
    with cluster() as made:
        made.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        eventually(lambda: made.request("GET", f"{PATH}/serviceaccounts/default").status == 200, "the namespace is ready")
        began = time.monotonic()
        print(f"| minute | {' | '.join(Lap._fields)} |\n|{'---|' * (len(Lap._fields) + 1)}")
        while time.monotonic() - began < options.minutes * 60:
            churn(made, len(laps), options.objects, options.pods, options.watches)
            time.sleep(1)
            laps.append(measure(made))
            print(f"| {(time.monotonic() - began) / 60:.1f} | {' | '.join(f'{value:.4g}' for value in laps[-1])} |", flush=True)
    middle, end = laps[len(laps) // 2], laps[-1]
    grown = [
        f"{name} by {b - a:.4g}"
        for name, a, b in zip(Lap._fields, middle, end, strict=True)
        if b - a > (ALLOWED_MIB if name == "memory" else 4)
    ]
    print(f"\n{len(laps)} laps; from the middle to the end {'grew ' + ', '.join(grown) if grown else 'nothing grew'}")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
