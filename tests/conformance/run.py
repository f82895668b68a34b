"""Lets Ginkgo run the chosen tests against a cluster, and brings that cluster up: a server alone, or one with a node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.conformance.build import Programs
from tests.conformance.catalogue import Spec, expression
from tests.conformance.images import write_images
from tests.support.agents import Nodes, nodes
from tests.support.kubectl import kubectl
from tests.support.server import Server, running

_WHOLE_RUN = "6h"
# -1: the suite's setup does not wait for nodes.
_FLAGS_WITHOUT_NODES = ("--allowed-not-ready-nodes=-1", "--num-nodes=0")


@dataclass(frozen=True)
class Target:
    """A cluster to test."""

    kubeconfig: Path
    description: str
    has_nodes: bool
    nodes: Nodes | None = None  # where this run has brought it up


@contextlib.contextmanager
def server_alone(directory: Path) -> Iterator[Target]:
    """A control plane without a node, for the tests that need none; it is gone afterwards, its log stays in `directory`."""
    with tempfile.TemporaryDirectory(prefix="minikube-py-conformance-") as scratch:
        server = Server(Path(scratch))
        try:
            with running(server):
                yield Target(server.kubeconfig, "a server without a node", has_nodes=False)
        finally:
            (directory / "server.log").write_text(server.log())


@contextlib.contextmanager
def two_nodes(directory: Path, programs: Programs) -> Iterator[Target]:
    """A server with a node and an agent, each in a network namespace, the tests' images imported and in a registry. Needs root."""
    with nodes(2, archives=partial(write_images, programs=programs), with_registry=True) as made:
        try:
            yield Target(made.server.kubeconfig, "two nodes, one of them the server's", has_nodes=True, nodes=made)
        finally:
            (directory / "server.log").write_text(made.server.log())
            (directory / "agent.log").write_text(made.agents[0].log())


def run(programs: Programs, target: Target, tests: Sequence[Spec], *, processes: int, directory: Path) -> list[dict[str, Any]]:
    """Run the tests; Ginkgo's report, suite by suite. Everything that it prints is in ginkgo.log, its report in report.json."""
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    command = [
        str(programs.ginkgo),
        "run",
        f"--procs={processes}",
        f"--timeout={_WHOLE_RUN}",
        "--no-color",
        "--silence-skips",
        f"--output-dir={directory}",
        "--json-report=report.json",
        f"--focus={expression(tests)}",
        "--label-filter=Conformance",
        str(programs.tests),
        "--",
        f"--kubeconfig={target.kubeconfig}",
        f"--kubectl-path={kubectl()}",
        "--provider=skeleton",
        "--disable-log-dump",
        "--dump-logs-on-failure=false",  # it waits two minutes for metrics of components that are no pods here
        *(() if target.has_nodes else _FLAGS_WITHOUT_NODES),
    ]
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    )
    try:
        _follow(process, directory / "ginkgo.log")
    except KeyboardInterrupt:
        print("interrupted: what has not run by now counts as not run", file=sys.stderr)
    finally:
        _end(process)
    if not report.exists():
        return []
    suites: list[dict[str, Any]] = json.loads(report.read_text())
    return suites


def _follow(process: subprocess.Popen[str], path: Path) -> None:
    """Keep what Ginkgo prints, and show the names of the tests that fail."""
    assert process.stdout is not None
    with path.open("w", buffering=1) as log:
        failed = False
        for line in process.stdout:
            log.write(line)
            if failed or line.startswith(("Will run", "Ran ")):
                print(line.rstrip() if not failed else f"FAILED {line.rstrip()}", file=sys.stderr, flush=True)
            failed = line.startswith("• [FAILED]")
    process.wait()


def _end(process: subprocess.Popen[str]) -> None:
    """Where the run was interrupted: let Ginkgo clean up after its tests, then skip that, then end everything that it has started."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)


def commit() -> str:
    """The commit of this tree, and whether the tree has changes beside it."""
    tree = Path(__file__).parents[2]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=tree, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            " with changes that are not committed" if git("status", "--porcelain", "--", "minikube_py") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not a git checkout)"
