"""Stateful sets and daemon sets, played through: from any state the plan comes to rest where it should, and never breaks its promise."""

from __future__ import annotations

import random

import msgspec
import pytest

from minikube_py.controllers import daemons, stateful
from minikube_py.controllers.history import HASH_LABEL
from minikube_py.types.pod import Pod
from minikube_py.types.workload import StatefulSet
from tests.controllers.builders import LABELS, NOW, node, pod
from tests.controllers.test_daemons_plan import daemon_set
from tests.controllers.test_stateful_plan import member, stateful_set


def away(made: StatefulSet, pods: dict[int, Pod]) -> int:
    return sum(1 for n in range(made.spec.replicas) if n not in pods or stateful.is_away(pods[n], 0, NOW))


@pytest.mark.parametrize("seed", range(40))
def test_a_stateful_set_comes_to_rest(seed: int) -> None:
    chance = random.Random(seed)
    partition = chance.choice([0, 0, 2])
    made = stateful_set(
        chance.randrange(6),
        rolling={"partition": partition},
        podManagementPolicy=chance.choice(["OrderedReady", "Parallel"]),
    )
    if seed % 2:
        pods = {n: member(n, "db-old") for n in range(made.spec.replicas)}
    else:
        there = chance.sample(range(8), chance.randrange(7))
        pods = {n: member(n, chance.choice(["db-old", "db-new"]), ready=chance.random() < 0.8) for n in there}
    healthy_from_here = away(made, pods) == 0
    for _ in range(500):
        step = stateful.plan(made, "db-new", list(pods.values()), NOW)
        for n in step.create:
            assert n not in pods, "a pod was made twice"
            pods[n] = member(n, "db-old" if stateful.takes_current(made, n) else "db-new", ready=False)
        for gone in step.delete:
            updated = stateful.ordinal_of(gone) < made.spec.replicas
            pods[stateful.ordinal_of(gone)] = member(stateful.ordinal_of(gone), stateful.revision_of(gone), ending=True)
            if healthy_from_here and updated:
                assert away(made, pods) <= 1, "an update took too many away"
        # the world: a pod becomes ready, or an ending one goes
        moving = [n for n, p in pods.items() if p.metadata.deletionTimestamp is not None or stateful.is_away(p, 0, NOW)]
        if not moving:
            if step == stateful.Plan():
                break
            continue
        n = chance.choice(moving)
        if pods[n].metadata.deletionTimestamp is not None:
            del pods[n]
        else:
            pods[n] = member(n, stateful.revision_of(pods[n]))
        healthy_from_here = healthy_from_here or away(made, pods) == 0
    assert set(pods) == set(range(made.spec.replicas))
    assert all(stateful.revision_of(p) == "db-new" for n, p in pods.items() if n >= partition)


@pytest.mark.parametrize("seed", range(40))
def test_daemons_come_to_rest(seed: int) -> None:
    chance = random.Random(seed)
    surge = chance.choice([0, 2])
    limit = 0 if surge else chance.choice([1, 3])
    made = daemon_set(surge=surge, unavailable=limit)
    nodes = [node(f"n{n}") for n in range(chance.randrange(1, 7))]
    serial = iter(range(10000))

    def daemon(where: str, digest: str, *, ready: bool, ending: bool = False, name: str = "") -> Pod:
        return pod(name or f"p{next(serial)}", node=where, ready=ready, ending=ending, labels={**LABELS, HASH_LABEL: digest})

    pods = [daemon(n.metadata.name, "old", ready=True) for n in nodes for _ in range(1 if seed % 2 else chance.choice([0, 1, 1, 2]))]
    served_from_here = all(any(p.spec.nodeName == n.metadata.name for p in pods) for n in nodes)
    for _ in range(500):
        first = daemons.plan(made, nodes, pods, "new", {}, NOW)
        acted = False
        for step in (first, None):
            step = step or daemons.rolling(made, nodes, pods, "new", NOW)
            acted = acted or bool(step.create or step.delete)
            doomed = {p.metadata.name for p in step.delete}
            pods = [
                msgspec.structs.replace(p, metadata=msgspec.structs.replace(p.metadata, deletionTimestamp="2024-01-01T00:00:00Z"))
                if p.metadata.name in doomed
                else p
                for p in pods
            ]
            pods += [daemon(where, "new", ready=False) for where in step.create]
        bare = [
            n.metadata.name
            for n in nodes
            if not any(p.spec.nodeName == n.metadata.name and p.metadata.deletionTimestamp is None and daemons.is_ready(p) for p in pods)
        ]
        if served_from_here:
            assert len(bare) <= limit, "too many nodes were left without a daemon"
        served_from_here = served_from_here or not bare
        moving = [p for p in pods if p.metadata.deletionTimestamp is not None or not daemons.is_ready(p)]
        if not moving:
            if not acted:
                break
            continue
        moved = chance.choice(moving)
        pods.remove(moved)
        if moved.metadata.deletionTimestamp is None:
            pods.append(daemon(moved.spec.nodeName, moved.metadata.labels[HASH_LABEL], ready=True, name=moved.metadata.name))
    assert sorted(p.spec.nodeName for p in pods) == sorted(n.metadata.name for n in nodes)
    assert all(daemons.is_updated(p, "new") for p in pods)
