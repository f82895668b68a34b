"""Static pods on a real node: from a file to processes, and their mirrors in the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minikube_py.kubelet.manifests import MIRROR
from minikube_py.types.pod import Pod
from tests.kubelet.agent import NODE, agent, status
from tests.support.images import BUSYBOX
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

NAME = f"web-{NODE}"


def manifest(word: str) -> str:
    script = f"trap 'exit 0' TERM; echo {word}; while true; do sleep 0.1; done"
    main: dict[str, Any] = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script]}
    spec = {"containers": [main], "terminationGracePeriodSeconds": 5}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})


async def test_a_static_pod_follows_its_file_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    file = directory / "web.yaml"
    async with agent(tmp_path / "api", static_pod_path=directory) as node:
        file.write_text(manifest("one"))
        shown = await _running(node)
        uid = shown.metadata.annotations[MIRROR]
        assert shown.metadata.uid != uid and shown.metadata.ownerReferences[0].kind == "Node" and shown.status.podIP
        first = status(shown).containerID

        # the mirror is only shown: deleted, it comes again, and the container has noticed nothing; so after a restart of the agent
        await node.delete(NAME)
        again = await _running(node, lambda pod: pod.metadata.uid != shown.metadata.uid)
        assert status(again).containerID == first
        await node.restart()
        assert status(await _running(node)).containerID == first

        # what is no manifest changes nothing; another manifest replaces the pod
        file.write_text("{")
        (directory / ".hidden.yaml").write_text(manifest("hidden"))
        (directory / "other.txt").write_text("not: a pod")
        file.write_text(manifest("two"))
        changed = await _running(node, lambda pod: pod.metadata.annotations[MIRROR] != uid)
        assert status(changed).containerID != first and status(changed).restartCount == 0
        assert len([s for s in await node.cri.list_pod_sandboxes() if s.state == 0]) == 1

        file.unlink()
        await node.gone(NAME)
        await until(lambda: not node.kubelet.pods.workers, 10)
        assert not await node.cri.list_containers()


async def _running(node: Any, also: Any = lambda _: True) -> Pod:
    async def found() -> bool:
        pods = (await node.client.list(Pod, "default")).items
        return any(p.metadata.name == NAME and p.status.phase == "Running" and status(p).ready and also(p) for p in pods)

    await until(found, 20)
    made: Pod = await node.pod(NAME)
    return made
