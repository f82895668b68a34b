#!/usr/bin/env python
"""Kill -9 of server, agent and their containerds, all at once and some at random moments, round after round, on two nodes under load.

    .venv/bin/python scripts/bench/faults.py --rounds 30           as root; a round takes about 5 s
    .venv/bin/python scripts/bench/faults.py --seed 7              the same victims and moments again
    .venv/bin/python scripts/bench/faults.py --cut 60 --rounds 0   the network between the nodes cut for a minute, one way and both ways

After every round: no acknowledged write is lost, the pods are the containers that they were, new pods run on both nodes, and whoever asked
the Service of pods on both nodes, on each of them, was answered every time. Exits with status 1 where one of these is not so.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.cluster import Nodes, nodes
from tests.support.faults import Watched, cut, deploy, rounds, watched
from tests.support.load import Writers
from tests.support.waiting import eventually


def kill(load: Watched, count: int, seed: int) -> None:
    """The rounds, a line each."""
    print(f"seed {seed}\n\n| round | killed | until all worked again |\n|---|---|---|")
    for number, told in enumerate(rounds(load, count, seed), 1):
        names, _, seconds = told.rpartition(": ")
        print(f"| {number} | {names} | {seconds} |", flush=True)


def cuts(cluster: Nodes, seconds: float) -> None:
    """One way, the other, and both: how long it takes until the node is Ready again."""
    server, (agent,) = cluster.server, cluster.agents
    print("\n| lost | for | Ready again after |\n|---|---|---|")
    for name, directions in (
        ("to the server", [(agent, server)]),
        ("to the agent", [(server, agent)]),
        ("both ways", [(agent, server), (server, agent)]),
    ):
        with Writers(server) as writers:
            with cut(*directions):
                time.sleep(seconds)
                assert not cluster.is_ready(agent.node_name), "the silent node was not noticed"
            began = time.monotonic()
            eventually(lambda: cluster.is_ready(agent.node_name), "the node is Ready again", 120)
            print(f"| {name} | {seconds:.0f} s | {time.monotonic() - began:.1f} s |", flush=True)
        writers.verify()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000)
    parser.add_argument("--cut", type=float, default=0, metavar="SECONDS", help="cut the network for so long, above 50 s")
    options = parser.parse_args()
    with nodes(2) as cluster:
        deploy(cluster)
        if options.rounds:
            with watched(cluster) as load:
                kill(load, options.rounds, options.seed)
            answered = sum(probe.answers for probe in load.probes)
            print(f"\n{load.writers.acknowledged} writes acknowledged, none lost; the Service was asked and answered {answered} times")
        if options.cut:
            cuts(cluster, options.cut)


if __name__ == "__main__":
    main()
