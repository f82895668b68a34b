"""A ReplicaSet of 5,000 pods on 1,000 nodes that are API objects alone, through the whole control plane: how many pods a second are bound.

From the create of the ReplicaSet until a watch has shown a node for each of its pods. The client runs on the same machine.

    python scripts/bench/replicaset.py [--nodes 1000] [--pods 5000] [--rounds 3] [--tool PROGRAM]

--tool runs another load program instead, with the server's URL and the token of a cluster administrator as its arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minikube_py.types.meta import timestamp
from scripts.bench.kube import Connection, Obj, administrator
from scripts.bench.lag import lags, percentile
from tests.support.server import Server, running

PODS = "/api/v1/namespaces/default/pods"
SETS = "/apis/apps/v1/namespaces/default/replicasets"


def node(index: int) -> Obj:
    """A ready node of 32 cores in one of three zones."""
    name = f"node-{index}"
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": timestamp(time.time())}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{index % 3}"}},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [ready]},
    }


def replica_set(name: str, replicas: int) -> Obj:
    """Pods that ask for little."""
    labels = {"app": name}
    container = {"name": "main", "image": "example.invalid/app:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"automountServiceAccountToken": False, "containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def make_nodes(connection: Connection, count: int) -> None:
    """Create the nodes and wait until the control plane lets pods onto them all."""
    for index in range(count):
        connection.request("POST", "/api/v1/nodes", node(index))
        connection.request("PUT", f"/api/v1/nodes/node-{index}/status", node(index))
    while any(item["spec"].get("taints") for item in connection.request("GET", "/api/v1/nodes")["items"]):
        time.sleep(0.2)


def seconds_until_bound(server: Server, token: str, name: str, pods: int) -> float:
    """Create one ReplicaSet; how long until each of its pods has a node."""
    bound: set[bytes] = set()
    pod_name = re.compile(b'"name":"(%b-[a-z0-9]+)"' % name.encode())
    with Connection(server, token) as watching, Connection(server, token) as connection:
        version = connection.request("GET", f"{PODS}?limit=1")["metadata"]["resourceVersion"]

        def watch() -> None:
            for line in watching.lines(f"{PODS}?watch=1&resourceVersion={version}&labelSelector=app%3D{name}"):
                if b'"nodeName":"' in line and (found := pod_name.search(line)) is not None:
                    bound.add(found[1])
                    if len(bound) >= pods:
                        return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        began = time.monotonic()
        connection.request("POST", SETS, replica_set(name, pods))
        thread.join(600)
        if thread.is_alive():
            raise SystemExit(f"only {len(bound)} of {pods} pods were bound in ten minutes\n{server.log()[-2000:]}")
        return time.monotonic() - began


@contextlib.contextmanager
def fresh_server() -> Iterator[Server]:
    """A control plane without a node."""
    with tempfile.TemporaryDirectory(prefix="minikube-py-bench-") as directory, running(Server(Path(directory))) as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tool", help="another load program: PROGRAM URL TOKEN")
    options = parser.parse_args()
    if options.tool:
        with fresh_server() as server:
            raise SystemExit(subprocess.run([*options.tool.split(), server.url, administrator(server)]).returncode)
    taken, late = [], []
    for _ in range(options.rounds):
        with fresh_server() as server:
            token = administrator(server)
            with Connection(server, token) as connection:
                make_nodes(connection, options.nodes)
            before = lags(server)
            taken.append(seconds_until_bound(server, token, "web", options.pods))
            late.append(percentile(before, lags(server), 0.99) * 1000)
    rate = options.pods / statistics.median(taken)
    print(f"{options.pods:,} pods on {options.nodes:,} nodes: {rate:,.0f} pods/s ({statistics.median(taken):.1f} s), ", end="")
    print(f"loop lag p99 at most {max(late):.0f} ms")


if __name__ == "__main__":
    main()
