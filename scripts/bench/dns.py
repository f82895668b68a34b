"""Questions a second that one core's worth of DNS server answers from its cache: 1,000 names, 64 in flight, over loopback.

Run: python scripts/bench/dns.py [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import socket
import time

import dnslib
import msgspec
import uvloop

from minikube_py.dns.forward import Forwarder
from minikube_py.dns.server import DnsServer
from minikube_py.dns.zone import Zone
from minikube_py.types.network import Service

NAMES = 1000
IN_FLIGHT = 64


def serve(ready: multiprocessing.Queue[int]) -> None:
    async def main() -> None:
        zone = Zone("cluster.local")
        for i in range(NAMES):
            body = {"metadata": {"name": f"s{i}", "namespace": "d"}, "spec": {"clusterIP": f"10.43.{i // 250}.{i % 250 + 1}"}}
            service = msgspec.convert(body, Service)
            zone.set_service(service.key, service, [])
        server = DnsServer(zone, Forwarder([]))
        await server.start("127.0.0.1", 0)
        ready.put(server.port)
        await asyncio.Event().wait()

    uvloop.run(main())


def load(port: int, seconds: float) -> float:
    packets = [bytes(dnslib.DNSRecord.question(f"s{i}.d.svc.cluster.local").pack()) for i in range(NAMES)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", port))
        udp.settimeout(2)
        for packet in packets:
            udp.send(packet)
            udp.recv(512)
        order = random.Random(1).choices(packets, k=20000)
        sent = answered = 0
        start = time.perf_counter()
        for _ in range(IN_FLIGHT):
            udp.send(order[sent])
            sent += 1
        while (elapsed := time.perf_counter() - start) < seconds:
            udp.recv(512)
            answered += 1
            udp.send(order[sent % len(order)])
            sent += 1
        return answered / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    ready: multiprocessing.Queue[int] = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve, args=(ready,), daemon=True)
    process.start()
    rate = load(ready.get(timeout=10), seconds)
    process.terminate()
    process.join()
    print(f"| DNS, cached mix of {NAMES} names, {IN_FLIGHT} in flight | {rate:,.0f}/s |")


if __name__ == "__main__":
    main()
