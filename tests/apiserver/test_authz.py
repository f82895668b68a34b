"""Who may do what: RBAC by roles and bindings, and kubelets by their relation to the object."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minikube_py.apiserver.api import Attributes, Decision
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.apiserver.authz_rbac import rule_allows
from minikube_py.meta.errors import Forbidden
from minikube_py.meta.user import User
from minikube_py.types.core import ConfigMap, Lease, Namespace, Node, Secret, ServiceAccount
from minikube_py.types.pod import Pod
from minikube_py.types.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding
from tests.apiserver.trusted import trusted_server
from tests.support.api import ApiUnderTest

NOBODY = User("u")
GROUP = "rbac.authorization.k8s.io"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with trusted_server(tmp_path) as running:
        await running.client().create(Namespace, {"metadata": {"name": "team"}})
        yield running


def may(server: ApiUnderTest, user: User, verb: str, resource: str, namespace: str = "", name: str = "", **more: Any) -> Decision:
    plural, _, subresource = resource.partition("/")
    attributes = Attributes(user, verb, resource=plural, subresource=subresource, namespace=namespace, name=name, **more)
    return server.api.authorizer.authorize(attributes)


async def grant(server: ApiUnderTest, rules: list[dict[str, Any]], subject: dict[str, str], namespace: str = "", name: str = "r") -> None:
    client = server.client()
    if namespace:
        await client.create(Role, {"metadata": {"name": name}, "rules": rules}, namespace)
        ref = {"apiGroup": GROUP, "kind": "Role", "name": name}
        await client.create(RoleBinding, {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]}, namespace)
    else:
        await client.create(ClusterRole, {"metadata": {"name": name}, "rules": rules})
        ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        await client.create(ClusterRoleBinding, {"metadata": {"name": name}, "roleRef": ref, "subjects": [subject]})


def user_subject(name: str) -> dict[str, str]:
    return {"kind": "User", "apiGroup": GROUP, "name": name}


RULES = [
    (PolicyRule(("get",), ("",), ("pods",)), ("get", "", "pods", "", ""), True),
    (PolicyRule(("get",), ("",), ("pods",)), ("list", "", "pods", "", ""), False),
    (PolicyRule(("get",), ("",), ("pods",)), ("get", "apps", "pods", "", ""), False),
    (PolicyRule(("get",), ("",), ("pods",)), ("get", "", "pods", "log", ""), False),
    (PolicyRule(("get",), ("",), ("pods/log",)), ("get", "", "pods", "log", ""), True),
    (PolicyRule(("get",), ("",), ("pods/log",)), ("get", "", "pods", "", ""), False),
    (PolicyRule(("*",), ("*",), ("*",)), ("deletecollection", "apps", "deployments", "scale", ""), True),
    (PolicyRule(("update",), ("*",), ("*/scale",)), ("update", "apps", "deployments", "scale", ""), True),
    (PolicyRule(("update",), ("*",), ("*/scale",)), ("update", "apps", "deployments", "status", ""), False),
    (PolicyRule(("update",), ("*",), ("*/scale",)), ("update", "apps", "deployments", "", ""), False),
    (PolicyRule(("get",), ("",), ("configmaps",), ("one",)), ("get", "", "configmaps", "", "one"), True),
    (PolicyRule(("get",), ("",), ("configmaps",), ("one",)), ("get", "", "configmaps", "", "two"), False),
    (PolicyRule(("list",), ("",), ("configmaps",), ("one",)), ("list", "", "configmaps", "", ""), False),
]


@pytest.mark.parametrize(("rule", "asked", "allowed"), RULES)
def test_a_rule_covers(rule: PolicyRule, asked: tuple[str, str, str, str, str], allowed: bool) -> None:
    verb, group, resource, subresource, name = asked
    attributes = Attributes(NOBODY, verb, group, resource=resource, subresource=subresource, name=name)
    assert rule_allows(rule, attributes) is allowed


@pytest.mark.parametrize(
    ("pattern", "path", "allowed"),
    [("/healthz", "/healthz", True), ("/healthz", "/healthz/x", False), ("/healthz/*", "/healthz/x", True), ("*", "/any", True)],
)
def test_a_rule_covers_paths(pattern: str, path: str, allowed: bool) -> None:
    assert rule_allows(PolicyRule(verbs=("get",), nonResourceURLs=(pattern,)), Attributes(NOBODY, "get", path=path)) is allowed


def test_a_rule_for_resources_covers_no_path() -> None:
    assert not rule_allows(PolicyRule(("*",), ("*",), ("*",)), Attributes(NOBODY, "get", path="/metrics"))


async def test_a_role_binding_counts_in_its_namespace_only(server: ApiUnderTest) -> None:
    jane = User("jane", ("system:authenticated",))
    assert not may(server, jane, "get", "pods", "team").allowed
    await grant(server, [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}], user_subject("jane"), "team", "reader")
    decision = may(server, jane, "get", "pods", "team")
    assert decision == Decision(True, 'RBAC: allowed by RoleBinding "reader/team" of Role "reader" to User "jane"')
    assert not may(server, jane, "get", "pods", "default").allowed
    assert not may(server, jane, "get", "pods").allowed
    await server.client().delete(RoleBinding, "reader", "team")
    assert not may(server, jane, "get", "pods", "team").allowed, "a decision made before is forgotten when a binding goes"


async def test_groups_and_service_accounts_are_subjects(server: ApiUnderTest) -> None:
    rules = [{"verbs": ["list"], "apiGroups": [""], "resources": ["nodes"]}]
    await grant(server, rules, {"kind": "Group", "apiGroup": GROUP, "name": "ops"}, name="by-group")
    await grant(server, rules, {"kind": "ServiceAccount", "name": "bot", "namespace": "team"}, name="by-account")
    assert may(server, User("anyone", ("ops",)), "list", "nodes").allowed
    decision = may(server, User("system:serviceaccount:team:bot"), "list", "nodes")
    assert decision.reason == 'RBAC: allowed by ClusterRoleBinding "by-account" of ClusterRole "by-account" to ServiceAccount "bot/team"'
    assert not may(server, User("system:serviceaccount:other:bot"), "list", "nodes").allowed


async def test_resource_names_do_not_leak_through_the_memory_of_decisions(server: ApiUnderTest) -> None:
    jane = User("jane")
    rules = [{"verbs": ["get", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]}]
    await grant(server, rules, user_subject("jane"), "team")
    for _ in range(2):
        assert not may(server, jane, "watch", "configmaps", "team").allowed
        assert may(server, jane, "watch", "configmaps", "team", "one").allowed
        assert not may(server, jane, "watch", "configmaps", "team", "two").allowed


async def test_a_binding_to_a_missing_role_says_so(server: ApiUnderTest) -> None:
    ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "gone"}
    binding = {"metadata": {"name": "b"}, "roleRef": ref, "subjects": [user_subject("jane")]}
    await server.client().create(ClusterRoleBinding, binding)
    decision = may(server, User("jane"), "get", "pods", "team")
    assert decision == Decision(False, 'RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found')


async def test_an_aggregating_role_takes_in_new_ones_at_once(server: ApiUnderTest) -> None:
    ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"}
    await server.client().create(RoleBinding, {"metadata": {"name": "v"}, "roleRef": ref, "subjects": [user_subject("jane")]}, "team")
    jane = User("jane")
    assert may(server, jane, "list", "pods", "team").allowed
    assert not may(server, jane, "get", "secrets", "team").allowed
    assert not may(server, jane, "get", "widgets", "team", group="acme.com").allowed
    labels = {f"{GROUP}/aggregate-to-view": "true"}
    rules = [{"verbs": ["get"], "apiGroups": ["acme.com"], "resources": ["widgets"]}]
    await server.client().create(ClusterRole, {"metadata": {"name": "acme-view", "labels": labels}, "rules": rules})
    assert may(server, jane, "get", "widgets", "team", group="acme.com").allowed


async def test_admin_includes_edit_includes_view(server: ApiUnderTest) -> None:
    for name in ("view", "edit", "admin"):
        ref = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": [user_subject(name)]}
        await server.client().create(RoleBinding, binding, "team")
    table = {("list", "pods"): "view", ("create", "pods"): "edit", ("get", "secrets"): "edit", ("create", "rolebindings"): "admin"}
    order = ["view", "edit", "admin"]
    for (verb, resource), least in table.items():
        group = GROUP if resource == "rolebindings" else ""
        for name in order:
            allowed = may(server, User(name), verb, resource, "team", group=group).allowed
            assert allowed is (order.index(name) >= order.index(least)), (name, verb, resource)


async def test_masters_need_no_role(server: ApiUnderTest) -> None:
    assert may(server, User("x", ("system:masters",)), "delete", "nodes").allowed
    assert server.api.authorizer.authorize(Attributes(User("x", ("system:masters",)), "get", path="/anything")).allowed


async def test_denials_read_as_upstreams(server: ApiUnderTest) -> None:
    with pytest.raises(Forbidden) as caught:
        await server.client("jane", ()).list(Pod, "team")
    why = 'User "jane" cannot list resource "pods" in API group "" in the namespace "team"'
    assert caught.value.message == f"pods is forbidden: {why}"


# Nodes

NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))
OTHER = User("system:node:n2", ("system:nodes", "system:authenticated"))


async def make_pod(server: ApiUnderTest, name: str, node: str, **spec: Any) -> None:
    pod = {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}], **spec}}
    await server.client().create(Pod, pod, "team")


async def test_a_node_reads_what_its_pods_use(server: ApiUnderTest) -> None:
    client = server.client()
    await client.create(ServiceAccount, {"metadata": {"name": "default"}}, "team")
    for name in ("by-volume", "by-env", "by-projection", "other"):
        await client.create(Secret, {"metadata": {"name": name}}, "team")
        await client.create(ConfigMap, {"metadata": {"name": name}}, "team")
    volumes = [
        {"name": "a", "secret": {"secretName": "by-volume"}},
        {"name": "b", "configMap": {"name": "by-volume"}},
        {"name": "c", "projected": {"sources": [{"secret": {"name": "by-projection"}}, {"configMap": {"name": "by-projection"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    env = [
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "by-env", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "by-env", "key": "k"}}},
    ]
    containers = [{"name": "c", "image": "i", "env": env}]
    await make_pod(server, "p", "n1", volumes=volumes, containers=containers, imagePullSecrets=[{"name": "pull"}])
    for resource in ("secrets", "configmaps"):
        for name in ("by-volume", "by-env", "by-projection"):
            for verb in ("get", "list", "watch"):
                assert may(server, NODE, verb, resource, "team", name).allowed, (resource, name)
            assert not may(server, OTHER, "get", resource, "team", name).allowed
        denied = may(server, NODE, "get", resource, "team", "other")
        assert denied == Decision(False, "no relationship found between node 'n1' and this object")
        assert may(server, NODE, "list", resource, "team").reason == "No Object name found"
        assert may(server, NODE, "create", resource, "team").reason == "can only read resources of this type"
    assert may(server, NODE, "get", "secrets", "team", "pull").allowed
    assert may(server, NODE, "get", "persistentvolumeclaims", "team", "data").allowed
    assert may(server, NODE, "create", "serviceaccounts/token", "team", "default").allowed
    assert not may(server, OTHER, "create", "serviceaccounts/token", "team", "default").allowed
    await client.delete(Pod, "p", "team", grace_seconds=0)
    assert not may(server, NODE, "get", "secrets", "team", "by-volume").allowed, "the pod has gone, and with it the right"


async def test_a_node_sees_its_own_pods_node_and_lease(server: ApiUnderTest) -> None:
    await server.client().create(ServiceAccount, {"metadata": {"name": "default"}}, "team")
    await make_pod(server, "mine", "n1")
    await make_pod(server, "theirs", "n2")
    assert may(server, NODE, "get", "pods", "team", "mine").allowed
    assert not may(server, NODE, "get", "pods", "team", "theirs").allowed
    assert may(server, NODE, "list", "pods", field_selector=(("spec.nodeName", "=", "n1"),)).allowed
    assert not may(server, NODE, "list", "pods", field_selector=(("spec.nodeName", "=", "n2"),)).allowed
    assert may(server, NODE, "watch", "pods").reason == "can only list/watch pods with spec.nodeName field selector"
    assert may(server, NODE, "get", "nodes", name="n1").allowed
    assert may(server, NODE, "get", "nodes", name="n2").reason == "node 'n1' cannot read 'n2', only its own Node object"
    assert may(server, NODE, "patch", "nodes/status", name="n1").allowed
    assert not may(server, NODE, "delete", "nodes", name="n1").allowed
    lease = {"group": "coordination.k8s.io"}
    assert may(server, NODE, "update", "leases", "kube-node-lease", "n1", **lease).allowed
    assert not may(server, NODE, "update", "leases", "kube-node-lease", "n2", **lease).allowed
    assert not may(server, NODE, "update", "leases", "kube-system", "n1", **lease).allowed
    assert may(server, NODE, "list", "services").allowed
    assert not may(server, NODE, "list", "namespaces").allowed


async def test_a_kubelet_works_over_the_api_within_these_bounds(server: ApiUnderTest) -> None:
    kubelet = server.client(NODE.name, ("system:nodes",))
    await kubelet.create(Node, {"metadata": {"name": "n1"}})
    await kubelet.create(Lease, {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}, "kube-node-lease")
    assert (await kubelet.list(Pod, field_selector="spec.nodeName=n1")).items == ()
    assert [node.metadata.name for node in (await kubelet.list(Node, field_selector="metadata.name=n1")).items] == ["n1"]
    for attempt in (kubelet.list(Node), kubelet.list(Pod), kubelet.get(Node, "n2"), kubelet.create(Node, {"metadata": {"name": "n2"}})):
        with pytest.raises(Forbidden):
            await attempt


async def test_only_members_of_the_nodes_group_are_nodes(server: ApiUnderTest) -> None:
    assert not may(server, User("system:node:n1"), "get", "nodes", name="n1").allowed


async def test_long_paths_are_decided_and_not_remembered(server: ApiUnderTest) -> None:
    authorizer = server.api.authorizer
    assert isinstance(authorizer, RequestAuthorizer)
    remembered = len(authorizer._decisions)
    for user in (User("x", ("system:masters",)), User("x", ())):
        allowed = {authorizer.authorize(Attributes(user, "get", path="/" + "x" * 5000 + str(n))).allowed for n in range(3)}
        assert allowed == {"system:masters" in user.groups}
    assert len(authorizer._decisions) == remembered


async def test_a_decision_is_remembered_for_what_it_depends_on(server: ApiUnderTest) -> None:
    authorizer = server.api.authorizer
    assert isinstance(authorizer, RequestAuthorizer)
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]
    await grant(server, rules, user_subject("everywhere"))
    await grant(server, rules, user_subject("here"), "team")
    namespaces = ["team", *(f"n{number}" for number in range(20))]
    before = len(authorizer._decisions)
    for _ in range(2):
        assert all(may(server, User("everywhere"), "get", "configmaps", namespace, "c").allowed for namespace in namespaces)
    assert len(authorizer._decisions) == before + 1, "one for all namespaces"
    for _ in range(2):
        assert [n for n in namespaces if may(server, User("here"), "get", "configmaps", n, "c").allowed] == ["team"]
        assert may(server, User("here"), "get", "configmaps", "team", "d").allowed
    assert not may(server, User("here"), "get", "configmaps").allowed
