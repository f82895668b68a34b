"""What a new cluster has, and that it comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from minikube_py.apiserver import bootstrap, bootstrap_roles
from minikube_py.meta.errors import Forbidden
from minikube_py.types.core import ConfigMap, Namespace, PriorityClass
from minikube_py.types.network import ServiceCIDR
from minikube_py.types.rbac import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from minikube_py.types.workload import Deployment
from tests.apiserver.trusted import settings, trusted_server
from tests.support.api import ApiUnderTest


async def again(server: ApiUnderTest) -> int:
    return await bootstrap.reconcile(server.client(), server.cache, settings(server), time.time())


def test_the_tables_hold_all_of_upstreams_roles() -> None:
    policy = bootstrap_roles.objects()
    controllers = [r["metadata"]["name"] for r in policy.cluster_roles if r["metadata"]["name"].startswith("system:controller:")]
    # upstream v1.36.0: 31 general roles and 38 controllers', 12 general bindings and one a controller
    # ours are 6 roles, one of them a controller's, and 9 bindings
    assert (len(policy.cluster_roles), len(controllers)) == (75, 39)
    assert (len(policy.cluster_role_bindings), len(policy.roles), len(policy.role_bindings)) == (59, 8, 8)
    by_name = {role["metadata"]["name"]: role for role in policy.cluster_roles}
    assert by_name["system:public-info-viewer"]["rules"] == [
        {"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}
    ]
    assert by_name["edit"]["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    assert by_name["system:controller:job-controller"]["rules"][-1] == bootstrap_roles.EVENTS


async def test_a_second_start_writes_nothing(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        revision = server.store.revision
        assert await again(server) == 0
        assert server.store.revision == revision


async def test_what_a_new_cluster_has(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        namespaces = {n.metadata.name for n in (await client.list(Namespace)).items}
        assert namespaces == {"default", "kube-system", "kube-public", "kube-node-lease"}
        values = {c.metadata.name: c.value for c in (await client.list(PriorityClass)).items}
        assert values == {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
        service_range = await client.get(ServiceCIDR, "kubernetes")
        assert service_range.spec.cidrs == ("10.43.0.0/24",)
        assert [(c.type, c.status) for c in service_range.status.conditions] == [("Ready", "True")]
        config = await client.get(ConfigMap, "extension-apiserver-authentication", "kube-system")
        assert config.data["requestheader-allowed-names"] == '["system:auth-proxy"]'
        assert "BEGIN CERTIFICATE" in config.data["client-ca-file"]
        assert len((await client.list(Role)).items) == 8
        assert len((await client.list(RoleBinding)).items) == 8


async def test_what_was_taken_away_comes_back_and_what_was_added_stays(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        extra = {"verbs": ["get"], "apiGroups": ["acme.com"], "resources": ["widgets"]}
        await client.patch(ClusterRole, "system:kube-dns", {"rules": [extra]})
        subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "me"}
        await client.patch(ClusterRoleBinding, "system:kube-dns", {"subjects": [subject]})
        await client.delete(ClusterRole, "system:kube-scheduler")
        await client.delete(PriorityClass, "system-node-critical")
        await client.patch(ConfigMap, "extension-apiserver-authentication", {"data": {"client-ca-file": "x", "own": "y"}}, "kube-system")
        assert await again(server) == 5
        role = await client.get(ClusterRole, "system:kube-dns")
        assert [rule.resources for rule in role.rules or ()] == [("widgets",), ("endpoints", "services")]
        binding = await client.get(ClusterRoleBinding, "system:kube-dns")
        assert [s.name for s in binding.subjects] == ["me", "kube-dns"]
        await client.get(ClusterRole, "system:kube-scheduler")
        config = await client.get(ConfigMap, "extension-apiserver-authentication", "kube-system")
        assert config.data["own"] == "y"
        assert config.data["client-ca-file"] != "x"
        assert await again(server) == 0


async def test_an_object_that_the_user_keeps_himself_is_left_alone(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        patch = {"metadata": {"annotations": {bootstrap_roles.AUTOUPDATE: "false"}}, "rules": []}
        await client.patch(ClusterRole, "system:discovery", patch)
        assert await again(server) == 0
        assert not (await client.get(ClusterRole, "system:discovery")).rules


async def test_a_binding_to_another_role_is_made_anew(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        await client.delete(ClusterRoleBinding, "system:discovery")
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        await client.create(ClusterRoleBinding, {"metadata": {"name": "system:discovery"}, "roleRef": ref})
        assert await again(server) == 1
        assert (await client.get(ClusterRoleBinding, "system:discovery")).roleRef.name == "system:discovery"


async def test_controllers_have_their_rights(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system")
        collector = server.client("system:serviceaccount:kube-system:generic-garbage-collector", groups)
        deployer = server.client("system:serviceaccount:kube-system:deployment-controller", groups)
        stranger = server.client("system:serviceaccount:kube-system:stranger", groups)
        await collector.patch(Namespace, "default", {"metadata": {"labels": {"a": "b"}}})
        assert (await deployer.list(Deployment)).items == ()
        for client in (deployer, stranger):
            with pytest.raises(Forbidden):
                await client.patch(Namespace, "default", {"metadata": {"labels": {"a": "c"}}})
