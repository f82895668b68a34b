"""The service proxy: a full sync of many Services and one more, beside iptables-restore with the same input; and how soon a ready pod is in
the rules of every node.

    python scripts/bench/proxy.py [--services 5000] [--changes 40] [--skip-nodes]        as root, in network namespaces of its own

A sync is measured from its first computation to the kernel's rules, in this process, with the API's own informers filled; the floor is the
same text by iptables-restore alone, in another namespace. The second part takes a cluster of two nodes: a pod's Ready condition is written
(clock on), the controllers publish it, the proxies of both nodes commit it, and its Service answers on each (clock off).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minikube_py.control import Informers
from minikube_py.netfilter import Family, Netfilter, Variant, detect
from minikube_py.proxy import Proxier, ProxyOptions
from minikube_py.types.core import Node
from minikube_py.types.network import EndpointSlice, Service
from scripts.bench.cri_floor import percentile
from tests.support.agents import nodes
from tests.support.api import api_server
from tests.support.netns import entered, namespace
from tests.support.waiting import until

OPTIONS = ProxyOptions("bench", "10.43.0.0/16", "10.42.0.0/16", health_port=0)
RUNS = 5


def service(number: int) -> dict[str, object]:
    ip = f"10.43.{number // 250}.{number % 250 + 1}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"s{number}", "namespace": "default"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


def slice_of(number: int) -> dict[str, object]:
    addresses = [f"10.42.{number // 120}.{number % 120 * 2 + offset}" for offset in (1, 2)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"s{number}-1", "namespace": "default", "labels": {"kubernetes.io/service-name": f"s{number}"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in addresses],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


class Recorded(Netfilter):
    """The tables, with what the last commit was given to iptables-restore."""

    text = ""

    async def _run(self, action: str, stdin: str = "", *arguments: str) -> str:
        if action == "restore":
            self.text = stdin
        return await super()._run(action, stdin, *arguments)


def restore(variant: Variant, text: str) -> float:
    """Seconds that iptables-restore takes by itself."""
    began = time.perf_counter()
    subprocess.run([f"iptables-{variant.value}-restore", "--noflush"], input=text.encode(), check=True)
    return time.perf_counter() - began


async def syncs(count: int, variant: Variant, floor: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """(ours, floor) in seconds: of the full sync, and of one further Service (the median of RUNS). Runs in the namespace that it is in."""
    with tempfile.TemporaryDirectory() as directory:
        async with api_server(Path(directory)) as server:
            client = server.client()
            for number in range(count):
                await client.create(Service, service(number), "default")
                await client.create(EndpointSlice, slice_of(number), "default")
            informers = Informers(client)
            try:
                services, slices, nodes_ = informers.of(Service), informers.of(EndpointSlice), informers.of(Node)
                netfilter = Recorded(Family.IPV4, variant)
                proxier = Proxier(informers, netfilter, OPTIONS)
                for informer in (services, slices, nodes_):
                    await informer.synced.wait()
                await proxier.guard()

                async def measured(keys: set[str]) -> tuple[float, float]:
                    proxier.mark(keys)
                    began = time.perf_counter()
                    await proxier.sync()
                    ours = time.perf_counter() - began
                    with entered(floor):
                        return ours, restore(variant, netfilter.text)

                with entered(floor):
                    restore(variant, netfilter.text)
                full = await measured({s.key for s in services.list()})
                more = []
                for number in range(count, count + RUNS):
                    key = f"default/s{number}"
                    await client.create(EndpointSlice, slice_of(number), "default")
                    await client.create(Service, service(number), "default")
                    await until(lambda key=key: services.get(key) and slices.get(f"{key}-1"))
                    more.append(await measured({key}))
            finally:
                await informers.close()
    return full, (statistics.median(m[0] for m in more), statistics.median(m[1] for m in more))


def answers(namespace_: str, address: tuple[str, int], wanted: bool, since: float) -> float:
    """Seconds from `since` until a Service answers (or does not) on a node."""
    with entered(namespace_):
        while True:
            with socket.socket() as client:
                client.settimeout(0.05)
                if (client.connect_ex(address) == 0) is wanted:
                    return time.perf_counter() - since
            time.sleep(0.002)


def programming(changes: int) -> list[float]:
    """Seconds from a pod's readiness to its Service's answers, of each node and change."""
    found = []
    with nodes(2) as made, ThreadPoolExecutor(2) as threads:
        api = made.server
        with socket.create_server((made.lan.gateway, 0), backlog=1000) as listener:
            target = listener.getsockname()[1]
            meta, core = {"name": "bench", "namespace": "default"}, "/api/v1/namespaces/default"
            spec = {"selector": {"app": "bench"}, "ports": [{"port": 80, "targetPort": target}]}
            made_service = api.create(f"{core}/services", {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
            address = (made_service["spec"]["clusterIP"], 80)
            # a node that no kubelet runs: what its pods are is written here
            api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench"}})
            container = {"name": "main", "image": "bench"}
            body = {"metadata": {**meta, "labels": {"app": "bench"}}, "spec": {"nodeName": "bench", "containers": [container]}}
            api.create(f"{core}/pods", {"apiVersion": "v1", "kind": "Pod", **body})
            for number in range(2 * changes):
                ready = number % 2 == 0
                status = {
                    "phase": "Running",
                    "podIP": made.lan.gateway,
                    "podIPs": [{"ip": made.lan.gateway}],
                    "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                }
                began = time.perf_counter()
                api.request("PATCH", f"{core}/pods/bench/status", {"status": status}, content_type="application/merge-patch+json")
                waits = [threads.submit(answers, each, address, ready, began) for each in (api.namespace, made.agents[0].namespace)]
                seconds = [wait.result(timeout=60) for wait in waits]
                if ready:
                    found += seconds
                time.sleep(0.3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--skip-nodes", action="store_true")
    options = parser.parse_args()
    ours, floor = f"mkpypx{os.getpid()}", f"mkpypf{os.getpid()}"
    with namespace(ours), namespace(floor), entered(ours):
        variant = asyncio.run(detect())
        full, more = uvloop.run(syncs(options.services, variant, floor))
    print(f"| {options.services} services × 2 endpoints, iptables-{variant.value} | here | iptables-restore alone | ratio |")
    print("|---|---|---|---|")
    for name, (here, alone) in (("full sync", full), ("one more service", more)):
        print(f"| {name} | {here * 1000:.0f} ms | {alone * 1000:.0f} ms | {here / alone:.2f} |")
    if not options.skip_nodes:
        found = programming(options.changes)
        print(f"| pod ready → its Service answers on every node: p50, p95 | {percentile(found, 0.5) * 1000:.0f} ms, ", end="")
        print(f"{percentile(found, 0.95) * 1000:.0f} ms | | |")


if __name__ == "__main__":
    main()
