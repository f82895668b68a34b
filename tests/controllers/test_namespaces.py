"""What every namespace gets, and how one goes."""

from __future__ import annotations

import time
from pathlib import Path

from minikube_py.controllers.namespace import Remains, assess
from minikube_py.types.core import ConfigMap, Namespace, Secret, ServiceAccount
from minikube_py.types.pod import Pod
from minikube_py.types.rbac import ClusterRole
from minikube_py.types.workload import Deployment
from tests.controllers.harness import ROOT_CA, control_plane
from tests.controllers.test_workloads import deployment

SPEC = {"containers": [{"name": "web", "image": "web:1"}]}


async def test_a_new_namespace_gets_its_account_and_the_ca(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("serviceaccount", "root-ca-publisher")) as plane:
        await plane.create(Namespace, {"metadata": {"name": "team"}}, None)
        await plane.eventually(ServiceAccount, "default", bool, "team")
        bundle = await plane.eventually(ConfigMap, "kube-root-ca.crt", bool, "team")
        assert bundle.data == {"ca.crt": ROOT_CA}
        await plane.client.delete(ServiceAccount, "default", "team")
        await plane.client.patch(ConfigMap, "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "team")
        await plane.eventually(ServiceAccount, "default", bool, "team")
        await plane.eventually(ConfigMap, "kube-root-ca.crt", lambda c: c.data == {"ca.crt": ROOT_CA}, "team")


async def test_a_deleted_namespace_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path, kubelet=True, scheduler=True) as plane:
        await plane.node()
        await plane.create(Namespace, {"metadata": {"name": "team"}}, None)
        await plane.eventually(ServiceAccount, "default", bool, "team")
        await plane.create(Deployment, deployment(2), "team")
        await plane.create(Secret, {"metadata": {"name": "s"}, "stringData": {"a": "b"}}, "team")
        await plane.eventually(Deployment, "web", lambda d: d.status.availableReplicas == 2, "team")
        await plane.client.delete(Namespace, "team")
        await plane.gone(Namespace, "team", None)
        for view in (Deployment, Pod, Secret, ConfigMap, ServiceAccount):
            assert not await plane.list(view, "team")


async def test_a_finalizer_holds_a_namespace_and_is_named(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("namespace",)) as plane:
        await plane.create(Namespace, {"metadata": {"name": "team"}}, None)
        await plane.create(ConfigMap, {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}, "team")
        await plane.client.delete(Namespace, "team")
        made = await plane.eventually(Namespace, "team", lambda n: n.status.conditions, None)
        said = {c.type: (c.status, c.message) for c in made.status.conditions}
        assert made.status.phase == "Terminating"
        assert said["NamespaceContentRemaining"] == ("True", "Some resources are remaining: configmaps. has 1 resource instances")
        assert said["NamespaceFinalizersRemaining"][1].endswith("remaining: example.com/hold in 1 resource instances")
        await plane.client.patch(ConfigMap, "held", {"metadata": {"finalizers": None}}, "team")
        await plane.gone(Namespace, "team", None)


def test_conditions_keep_their_transition_time_while_nothing_changes() -> None:
    left = [Remains(Pod.resource, 2, {})]
    first = assess((), left, "", [], 1000.0)
    assert assess(first, left, "", [], 2000.0) == first
    later = {c.type: c for c in assess(first, [], "", [], 2000.0)}
    assert later["NamespaceContentRemaining"].status == "False"
    assert later["NamespaceContentRemaining"].lastTransitionTime == "1970-01-01T00:33:20Z"
    assert later["NamespaceDeletionContentFailure"].lastTransitionTime == "1970-01-01T00:16:40Z"


async def test_aggregated_roles_follow_their_parts(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("clusterrole-aggregation",)) as plane:
        started = time.monotonic()
        await plane.eventually(ClusterRole, "view", lambda r: r.rules, None)
        rule = {"apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"]}
        labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
        await plane.create(ClusterRole, {"metadata": {"name": "things", "labels": labels}, "rules": [rule]}, None)
        for name in ("view", "edit", "admin"):
            await plane.eventually(ClusterRole, name, lambda r: any("things" in x.resources for x in r.rules or ()), None)
        await plane.client.delete(ClusterRole, "things")
        await plane.eventually(ClusterRole, "admin", lambda r: not any("things" in x.resources for x in r.rules or ()), None)
        assert time.monotonic() - started < 10
