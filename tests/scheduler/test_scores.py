"""How nodes are ranked by what is asked of them."""

from __future__ import annotations

import pytest

from minikube_py.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from minikube_py.types.pod import Container, ResourceRequirements
from tests.scheduler.builders import cluster, info, node


@pytest.mark.parametrize(
    ("there", "wanted", "score"),
    [
        ({}, {"cpu": "1", "memory": "2Gi"}, 75),  # even before and after
        ({"cpu": "2"}, {"memory": "4Gi"}, 87),  # as upstream rounds: of 100 and 75 the half
        ({"cpu": "2"}, {"cpu": "1"}, 68),
        ({}, {"cpu": "4"}, 50),
    ],
)
def test_a_pod_that_evens_a_node_out_is_better_there(there: dict[str, str], wanted: dict[str, str], score: int) -> None:
    made = cluster(node("n", cpu="4", memory="8Gi"))
    made.place(info("first", **there), "n")
    assert NodeResourcesBalancedAllocation().score(info("a", **wanted), made.nodes["n"]) == score


def test_requests_of_the_whole_pod_count_in_scores() -> None:
    silent = tuple(Container(name=name) for name in ("a", "b"))
    pod = info("a", containers=silent, resources=ResourceRequirements(requests={"cpu": "2", "memory": "1Gi"}))
    assert (pod.counted_cpu, pod.counted_memory) == (2000, 2**30)
    part = info("a", containers=silent, resources=ResourceRequirements(requests={"cpu": "2"}))
    assert (part.counted_cpu, part.counted_memory) == (2000, 2 * 200 * 2**20)
