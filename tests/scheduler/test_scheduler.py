"""The scheduler on the real API server: pods get nodes, or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minikube_py.client import Patch
from minikube_py.types.core import Event, Node, PersistentVolumeClaim, PriorityClass
from minikube_py.types.meta import Condition
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume
from tests.controllers.harness import Plane, control_plane
from tests.support.waiting import until

WITH = ("serviceaccount", "node-lifecycle")


def pod(name: str, cpu: str = "100m", **spec: Any) -> dict[str, Any]:
    container = {"name": "web", "image": "web:1", "resources": {"requests": {"cpu": cpu}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def scheduled(made: Pod) -> Condition | None:
    return next((c for c in made.status.conditions if c.type == "PodScheduled"), None)


async def test_a_pod_gets_a_node(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        await plane.client.patch(Node, "n1", {"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}})
        await plane.create(Pod, pod("a"))
        made = await plane.eventually(Pod, "a", lambda p: p.spec.nodeName)
        assert made.metadata.labels == {"topology.kubernetes.io/zone": "z1"}
        condition = scheduled(made)
        assert condition is not None and condition.status == "True"

        async def said() -> bool:
            return any(e.message == "Successfully assigned default/a to n1" and e.reason == "Scheduled" for e in await plane.list(Event))

        await until(said)


async def test_a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.create(Pod, pod("a", cpu="6"))
        await plane.create(Pod, pod("b", cpu="6"))
        made = await plane.eventually(Pod, "a", scheduled)
        condition = scheduled(made)
        assert condition is not None
        assert (condition.status, condition.reason, condition.message) == ("False", "Unschedulable", "no nodes available to schedule pods")
        await plane.node(cpu="8")
        (first,) = await plane.count(Pod, 1, lambda p: p.spec.nodeName)
        rest = "b" if first.metadata.name == "a" else "a"
        text = (
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
            "0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
        await plane.eventually(Pod, rest, lambda p: (c := scheduled(p)) is not None and c.message == text)

        async def said() -> bool:
            return any(e.reason == "FailedScheduling" and e.message == text and e.type == "Warning" for e in await plane.list(Event))

        await until(said)
        await plane.client.delete(Pod, first.metadata.name, "default", grace_seconds=0)
        await plane.eventually(Pod, rest, lambda p: p.spec.nodeName)


async def test_a_label_on_a_node_helps(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        await plane.create(Pod, pod("a", nodeSelector={"disk": "ssd"}))
        await plane.eventually(Pod, "a", lambda p: (c := scheduled(p)) is not None and "node affinity/selector" in c.message)
        await plane.client.patch(Node, "n1", {"metadata": {"labels": {"disk": "ssd"}}})
        await plane.eventually(Pod, "a", lambda p: p.spec.nodeName)


async def test_a_gated_pod_waits_for_its_gate(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        await plane.create(Pod, pod("gated", schedulingGates=[{"name": "example.com/gate"}]))
        await plane.create(Pod, pod("free"))
        await plane.eventually(Pod, "free", lambda p: p.spec.nodeName)
        gated = await plane.get(Pod, "gated")
        condition = scheduled(gated)
        assert not gated.spec.nodeName and condition is not None and (condition.status, condition.reason) == ("False", "SchedulingGated")
        patch = [{"op": "remove", "path": "/spec/schedulingGates"}]
        await plane.client.patch(Pod, "gated", patch, "default", kind=Patch.JSON)
        await plane.eventually(Pod, "gated", lambda p: p.spec.nodeName)


async def test_pods_of_another_scheduler_are_not_ours(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        await plane.create(Pod, pod("theirs", schedulerName="custom"))
        await plane.create(Pod, pod("ours"))
        await plane.eventually(Pod, "ours", lambda p: p.spec.nodeName)
        theirs = await plane.get(Pod, "theirs")
        assert not theirs.spec.nodeName and scheduled(theirs) is None


async def test_a_cordoned_node_takes_nothing_until_it_is_open_again(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        await plane.client.patch(Node, "n1", {"spec": {"unschedulable": True}})
        await plane.eventually(Node, "n1", lambda n: any(t.key == "node.kubernetes.io/unschedulable" for t in n.spec.taints), None)
        await plane.create(Pod, pod("a"))
        await plane.eventually(Pod, "a", lambda p: (c := scheduled(p)) is not None and "1 node(s) were unschedulable" in c.message)
        await plane.client.patch(Node, "n1", {"spec": {"unschedulable": None}})
        await plane.eventually(Pod, "a", lambda p: p.spec.nodeName)


async def test_no_node_is_ever_overbooked(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        for index in range(5):
            await plane.node(f"n{index}", cpu="2", pods="7")
        for index in range(60):
            await plane.create(Pod, pod(f"p{index}", cpu="300m"))
        placed = await plane.count(Pod, 30, lambda p: p.spec.nodeName)
        per_node: dict[str, int] = {}
        for each in placed:
            per_node[each.spec.nodeName] = per_node.get(each.spec.nodeName, 0) + 1
        assert per_node == {f"n{index}": 6 for index in range(5)}
        await plane.count(Pod, 30, lambda p: (c := scheduled(p)) is not None and c.reason == "Unschedulable")


async def test_a_more_important_pod_takes_a_place(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node(cpu="1")
        for name, value in (("low", 1), ("high", 100)):
            await plane.create(PriorityClass, {"metadata": {"name": name}, "value": value}, None)
        await plane.create(Pod, pod("victim", cpu="1", priorityClassName="low", terminationGracePeriodSeconds=7))
        await plane.eventually(Pod, "victim", lambda p: p.spec.nodeName)
        await plane.create(Pod, pod("boss", cpu="1", priorityClassName="high"))
        # the victim is told why, and gets its time; room is kept for the pod meanwhile
        victim = await plane.eventually(Pod, "victim", lambda p: p.metadata.deletionTimestamp)
        condition = next(c for c in victim.status.conditions if c.type == "DisruptionTarget")
        assert (condition.status, condition.reason) == ("True", "PreemptionByScheduler")
        assert condition.message == "default-scheduler: preempting to accommodate a higher priority pod"
        assert victim.metadata.deletionGracePeriodSeconds == 7
        waiting = await plane.eventually(Pod, "boss", lambda p: p.status.nominatedNodeName == "n1")
        said = scheduled(waiting)
        assert said is not None and said.message == "0/1 nodes are available: 1 Insufficient cpu."
        await plane.create(Pod, pod("sneaky", cpu="1", priorityClassName="low"))
        await plane.eventually(Pod, "sneaky", lambda p: (c := scheduled(p)) is not None and c.reason == "Unschedulable")
        await plane.end_pod(victim)
        bound = await plane.eventually(Pod, "boss", lambda p: p.spec.nodeName)
        assert bound.status.nominatedNodeName == ""

        async def told() -> bool:
            text = f"Preempted by pod {bound.metadata.uid} on node n1"
            return any((e.reason, e.message) == ("Preempted", text) for e in await plane.list(Event))

        await until(told)
        assert not (await plane.get(Pod, "sneaky")).spec.nodeName


async def test_a_pod_waits_for_its_claim_and_for_company(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node()
        claim = {"persistentVolumeClaim": {"claimName": "data"}, "name": "data"}
        await plane.create(Pod, pod("stored", volumes=[claim]))
        missing = '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'
        await plane.eventually(Pod, "stored", lambda p: (c := scheduled(p)) is not None and c.message == missing)
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "", "volumeName": "v"}
        made = await plane.create(PersistentVolumeClaim, {"metadata": {"name": "data"}, "spec": spec})
        unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
        await plane.eventually(Pod, "stored", lambda p: (c := scheduled(p)) is not None and c.message == unbound)
        reference = {"namespace": "default", "name": "data", "uid": made.metadata.uid}
        volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, "claimRef": reference}
        await plane.create(PersistentVolume, {"metadata": {"name": "v"}, "spec": volume}, None)
        done = {"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}
        await plane.client.patch(PersistentVolumeClaim, "data", done, "default")
        await plane.eventually(Pod, "stored", lambda p: p.spec.nodeName)
        # a pod that is placed, or gets a label, helps those that wait for its like anywhere
        selector = {"matchLabels": {"app": "db"}}
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
        near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        await plane.create(Pod, pod("web", affinity=near))
        await plane.eventually(Pod, "web", lambda p: (c := scheduled(p)) is not None and "didn't match pod affinity rules" in c.message)
        await plane.client.patch(Pod, "stored", {"metadata": {"labels": {"app": "db"}}}, "default")
        await plane.eventually(Pod, "web", lambda p: p.spec.nodeName)


async def test_a_pod_that_shrinks_holds_its_place_until_its_node_has_let_go(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WITH, scheduler=True) as plane:
        await plane.node(cpu="1")
        await plane.create(Pod, pod("a", cpu="800m"))
        made = await plane.eventually(Pod, "a", lambda p: p.spec.nodeName)
        await _runs_with(plane, made, "800m")
        shrink = {"spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "100m"}}}]}}
        await plane.client.patch(Pod, "a", shrink, "default", subresource="resize", kind=Patch.STRATEGIC)
        await plane.create(Pod, pod("b", cpu="500m"))
        await plane.eventually(Pod, "b", lambda p: (c := scheduled(p)) is not None and "Insufficient cpu" in c.message)
        await _runs_with(plane, made, "100m")
        await plane.eventually(Pod, "b", lambda p: p.spec.nodeName)


async def _runs_with(plane: Plane, pod: Pod, cpu: str) -> None:
    amounts = {"cpu": cpu}
    status = {"name": "web", "image": "web:1", "imageID": "", "ready": True, "restartCount": 0}
    given = {"containerStatuses": [{**status, "resources": {"requests": amounts}, "allocatedResources": amounts}]}
    await plane.client.patch(Pod, pod.metadata.name, {"status": given}, "default", subresource="status")
