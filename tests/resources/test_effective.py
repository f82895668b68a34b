"""What a pod counts for while it is resized in place."""

from __future__ import annotations

import pytest

from minikube_py.meta import quantity
from minikube_py.resources import podresources
from minikube_py.types.meta import Condition, ObjectMeta
from minikube_py.types.pod import Container, ContainerStatus, Pod, PodSpec, PodStatus, Quantities, ResourceRequirements

INFEASIBLE = (Condition("PodResizePending", "True", reason="Infeasible"),)
DEFERRED = (Condition("PodResizePending", "True", reason="Deferred"),)


def cpu(amount: str) -> Quantities:
    return {"cpu": amount} if amount else {}


@pytest.mark.parametrize(
    ("spec", "allocated", "actuated", "conditions", "counts"),
    [
        ("1", "1", "1", (), "1"),
        ("1", "2", "2", (), "2"),  # shrinks, and nothing has happened yet
        ("1", "1", "2", (), "2"),  # shrinks: promised, and not yet done
        ("2", "1", "1", (), "2"),  # grows
        ("2", "1", "1", DEFERRED, "2"),
        ("9", "1", "1", INFEASIBLE, "1"),
        ("1", "", "", (), "1"),
    ],
)
def test_the_greatest_of_spec_promise_and_use_counts(
    spec: str, allocated: str, actuated: str, conditions: tuple[Condition, ...], counts: str
) -> None:
    wants = ResourceRequirements(requests=cpu(spec), limits=cpu(spec))
    has = ResourceRequirements(requests=cpu(actuated), limits=cpu(actuated)) if actuated else None
    status = ContainerStatus("c", resources=has, allocatedResources=cpu(allocated))
    one = Pod(
        metadata=ObjectMeta(name="p"),
        spec=PodSpec(containers=(Container(name="c", resources=wants),), overhead={"cpu": "100m"}),
        status=PodStatus(containerStatuses=(status,), conditions=conditions),
    )
    whole = Pod(
        metadata=ObjectMeta(name="p"),
        spec=PodSpec(containers=(Container(name="c"),), resources=wants, overhead={"cpu": "100m"}),
        status=PodStatus(resources=has, allocatedResources={**cpu(allocated), "memory": "1Gi"}, conditions=conditions),
    )
    expected = quantity.parse(counts) + quantity.parse("100m")
    for pod in (one, whole):
        assert podresources.effective_requests(pod) == {"cpu": expected}
        assert podresources.requests(pod) == {"cpu": quantity.parse(spec)}
    assert podresources.effective_limits(one) == {"cpu": expected}


def test_an_init_container_that_ends_counts_as_its_spec_says() -> None:
    made = ResourceRequirements(requests=cpu("1"))
    ran = ContainerStatus("i", resources=ResourceRequirements(requests=cpu("4")), allocatedResources=cpu("4"))
    for policy, counts in (("", "1"), ("Always", "4")):
        init = Container(name="i", resources=made, restartPolicy=policy)
        pod = Pod(spec=PodSpec(initContainers=(init,)), status=PodStatus(initContainerStatuses=(ran,)))
        assert podresources.effective_requests(pod) == {"cpu": quantity.parse(counts)}
