"""What a cluster of one node takes while nobody asks anything of it: memory, processor time, wake-ups, bytes to disk.

The demo runs: a Deployment of two pods and a Service. Everything of the server's process tree counts, containerd and the pods do not. It
settles for two minutes first: then what the start of the demo wrote is on the disk.

    python scripts/bench/idle.py [--settle 120] [--seconds 60]        as root; the node is a network namespace of its own
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import tree
from tests.support.cluster import Cluster, cluster
from tests.support.images import WEB

TIMEOUT = 60.0
LABELS = {"app": "web"}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": WEB}]}},
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"type": "NodePort", "selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
}


def demo(made: Cluster) -> None:
    """Two pods and a Service; returns when both are available."""
    made.create("/apis/apps/v1/namespaces/default/deployments", DEPLOYMENT)
    made.create("/api/v1/namespaces/default/services", SERVICE)
    deadline = time.monotonic() + TIMEOUT
    while made.get("/apis/apps/v1/namespaces/default/deployments/web")["status"].get("availableReplicas") != 2:
        if time.monotonic() > deadline:
            raise SystemExit("the demo did not start:\n" + made.log()[-2000:])
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settle", type=float, default=120.0, help="idle seconds before the measurement")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long is measured")
    options = parser.parse_args()
    with cluster() as made:
        assert made.process is not None
        root = made.process.pid
        demo(made)
        time.sleep(options.settle)
        before = tree.usage(root)
        time.sleep(options.seconds)
        rates = tree.rates(before, tree.usage(root))
        memory = tree.memory(root)
    print(f"| idle for {options.seconds:.0f} s, 2 pods and a Service, without containerd | |\n|---|---|")
    print(f"| memory (PSS), {len(memory)} process{'es' if len(memory) > 1 else ''} | {sum(memory.values()) / tree.MIB:.0f} MiB |")
    print(f"| processor time | {rates.cpu:.2%} of a core |")
    print(f"| wake-ups | {rates.wakeups:.0f}/s |")
    print(f"| bytes to disk | {rates.written:,.0f}/s |")


if __name__ == "__main__":
    main()
