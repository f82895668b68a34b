"""The API server under load: GET over 1,000 pods and durable creates of 1 KB configmaps, on 64 TLS connections by wrk.

The client is a service account whose rights come from a RoleBinding; managedFields are kept as always. The loop's lag is the server's own
measurement of the same seconds. The load runs on the same machine and takes a core.

    python scripts/bench/api.py [--seconds 8] [--rounds 3] [--connections 64] [--tool PROGRAM]

--tool runs another load program instead, with the server's URL and the account's token (namespace `bench`) as its arguments.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import tree
from scripts.bench.kube import Connection, Obj, bound_account
from scripts.bench.lag import lags, percentile
from tests.support.server import Server, running

PODS = 1000
NAMESPACE = "bench"

GET = """
wrk.headers["Authorization"] = "Bearer TOKEN"
local number = 0
function request()
  number = number + 1
  return wrk.format("GET", "/api/v1/namespaces/bench/pods/pod-" .. (number % 1000))
end
"""
CREATE = """
wrk.headers["Authorization"] = "Bearer TOKEN"
wrk.headers["Content-Type"] = "application/json"
local number, value = 0, string.rep("x", 1000)
function request()
  number = number + 1
  local body = '{"metadata":{"name":"ROUND-' .. number .. '"},"data":{"a":"' .. value .. '"}}'
  return wrk.format("POST", "/api/v1/namespaces/bench/configmaps", nil, body)
end
"""


class Load(NamedTuple):
    """What one load came to; times in milliseconds, `cpu` in microseconds of the server's a request."""

    rate: float
    median: float
    p99: float
    cpu: float
    lag: float


def pod(name: str) -> Obj:
    """A pod of 6 KB that no scheduler takes."""
    env = [{"name": f"VARIABLE_{number}", "value": "x" * 60} for number in range(24)]
    container = {"name": "c", "image": "example.invalid/app:1", "env": env, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}, "annotations": {"note": "y" * 800}},
        "spec": {"schedulerName": "nobody", "automountServiceAccountToken": False, "containers": [container]},
    }


def milliseconds(text: str) -> float:
    """wrk's notation of a time."""
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def load(server: Server, script: str, seconds: int, connections: int) -> Load:
    """One run of wrk; every answer must be a good one."""
    assert server.process is not None
    lag, usage = lags(server), tree.usage(server.process.pid)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", file.name, server.url]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if bad := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", shown):
        raise SystemExit(f"{bad[0]}\n{server.log()[-2000:]}")
    requests = int(_found(r"(\d+) requests in", shown))
    return Load(
        float(_found(r"Requests/sec:\s+(\S+)", shown)),
        milliseconds(_found(r"\n +50%\s+(\S+)", shown)),
        milliseconds(_found(r"\n +99%\s+(\S+)", shown)),
        (tree.usage(server.process.pid).cpu - usage.cpu) / requests * 1e6,
        percentile(lag, lags(server), 0.99) * 1000,
    )


def row(name: str, loads: list[Load]) -> None:
    rate, median, p99, cpu, lag = (statistics.median(column) for column in zip(*loads, strict=True))
    print(f"| {name} | {rate:,.0f}/s | {median:.1f} ms | {p99:.1f} ms | {cpu:.0f} µs | {lag:.0f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--tool", help="another load program: PROGRAM URL TOKEN")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minikube-py-bench-") as directory, running(Server(Path(directory))) as server:
        token = bound_account(server, NAMESPACE, "pods", "configmaps")
        if options.tool:
            raise SystemExit(subprocess.run([*options.tool.split(), server.url, token]).returncode)
        with Connection(server, token) as connection:
            for number in range(PODS):
                connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod(f"pod-{number}"))
        gets, creates = [], []
        assert server.process is not None
        memory = sum(tree.memory(server.process.pid).values())
        for number in range(options.rounds):
            gets.append(load(server, GET.replace("TOKEN", token), options.seconds, options.connections))
            script = CREATE.replace("TOKEN", token).replace("ROUND", f"{os.getpid()}-{number}")
            creates.append(load(server, script, options.seconds, options.connections))
            time.sleep(1)
        memory_after = sum(tree.memory(server.process.pid).values())
    print(f"| {options.connections} TLS connections | rate | p50 | p99 | server's processor time | loop lag p99, at most |")
    print("|---|---|---|---|---|---|")
    row("GET over 1,000 pods", gets)
    row("create configmaps, durable", creates)
    made = sum(load.rate for load in creates) * options.seconds
    print(
        f"\nMemory (PSS): {memory / tree.MIB:.0f} MiB before, {memory_after / tree.MIB:.0f} MiB with {made:,.0f} configmaps more, ", end=""
    )
    print(f"{(memory_after - memory) / made:,.0f} bytes each")


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said: {text}")
    return match[1]


if __name__ == "__main__":
    main()
