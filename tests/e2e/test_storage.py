"""Persistent volumes as a user of a small cluster has them: a claim is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.objects import SLEEP, Object, pod
from tests.support.cluster import Cluster
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

CLAIM: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
MOUNT = [{"name": "data", "mountPath": "/data"}]


def database(replicas: int) -> Object:
    container = {"name": "main", "image": BUSYBOX, "command": SLEEP, "volumeMounts": MOUNT}
    spec = {"terminationGracePeriodSeconds": 0, "securityContext": {"fsGroup": 2000}, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": CLAIM}],
        },
    }


def directories(shared: Cluster, namespace: str) -> list[str]:
    storage = shared.data / "agent" / "storage"
    return sorted(path.name.partition("_")[2] for path in storage.glob(f"pvc-*_{namespace}_*"))


async def test_a_stateful_set_has_storage_that_outlives_its_pods(shared: Cluster, kubectl: Kubectl) -> None:
    namespace = kubectl.namespace
    kubectl.apply(database(2))
    kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    assert directories(shared, namespace) == [f"{namespace}_data-db-0", f"{namespace}_data-db-1"]
    kubectl("exec", "db-0", "--", "sh", "-c", "echo kept > /data/file")
    assert kubectl("exec", "db-0", "--", "stat", "-c", "%g", "/data/file") == "2000\n"
    kubectl("delete", "pod", "db-0")
    kubectl.wait("create", "pod/db-0")
    kubectl.wait("condition=Ready", "pod/db-0")
    assert kubectl("exec", "db-0", "--", "cat", "/data/file") == "kept\n"
    assert kubectl("exec", "db-1", "--", "ls", "/data") == ""
    # a claim in use waits, and takes its data with it afterwards
    kubectl("delete", "pvc", "data-db-0", "--wait=false")
    assert kubectl.field(".status.phase", "pvc/data-db-0") == "Bound"
    volume = Path(kubectl.field(".spec.local.path", "pv/" + kubectl.field(".spec.volumeName", "pvc/data-db-0")))
    assert (volume / "file").read_text() == "kept\n"
    kubectl("delete", "statefulset", "db")
    kubectl("wait", "--for=delete", "pvc/data-db-0", "--timeout=20s")
    await until(lambda: directories(shared, namespace) == [f"{namespace}_data-db-1"])
    kubectl("delete", "pvc", "data-db-1")
    await until(lambda: directories(shared, namespace) == [])


async def test_an_ephemeral_volume_goes_with_its_pod(shared: Cluster, kubectl: Kubectl) -> None:
    volumes = [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}}]
    kubectl.apply(pod("short", volumeMounts=MOUNT, volumes=volumes))
    kubectl("wait", "--for=condition=Ready", "pod/short", "--timeout=30s")
    assert directories(shared, kubectl.namespace) == [f"{kubectl.namespace}_short-data"]
    kubectl("delete", "pod", "short")
    kubectl("wait", "--for=delete", "pvc/short-data", "--timeout=20s")
    await until(lambda: directories(shared, kubectl.namespace) == [])
