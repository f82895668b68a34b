"""What admission fills in and what it refuses, on the real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minikube_py.apiserver.admission.node_restriction import may_label
from minikube_py.apiserver.admission.rbac_escalation import uncovered
from minikube_py.client import Client
from minikube_py.meta.errors import Forbidden, NotFound, StatusError
from minikube_py.types.core import ConfigMap, Lease, Namespace, Node, PriorityClass, ServiceAccount
from minikube_py.types.pod import Pod
from minikube_py.types.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding
from tests.apiserver.trusted import trusted_server
from tests.support.api import ApiUnderTest

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with trusted_server(tmp_path) as running:
        await running.client().create(ServiceAccount, {"metadata": {"name": "default"}}, "default")
        yield running


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def create(server: ApiUnderTest, body: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    answer = await server.http("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert answer.status == 201, answer.body
    created: dict[str, Any] = answer.json
    return created


async def refused(attempt: Any, error: type[StatusError] = Forbidden) -> str:
    with pytest.raises(error) as caught:
        await attempt
    return caught.value.message


# NamespaceLifecycle


async def test_nothing_is_made_in_a_namespace_that_does_not_exist(server: ApiUnderTest) -> None:
    message = await refused(server.client().create(ConfigMap, {"metadata": {"name": "x"}}, "nowhere"), NotFound)
    assert message == 'namespaces "nowhere" not found'


async def test_nothing_new_is_made_in_a_namespace_that_goes(server: ApiUnderTest) -> None:
    client = server.client()
    await client.create(Namespace, {"metadata": {"name": "going"}})
    await client.create(ConfigMap, {"metadata": {"name": "old"}}, "going")
    await client.delete(Namespace, "going")
    with pytest.raises(Forbidden) as caught:
        await client.create(ConfigMap, {"metadata": {"name": "new"}}, "going")
    why = "unable to create new content in namespace going because it is being terminated"
    assert caught.value.message == f'configmaps "new" is forbidden: {why}'
    assert caught.value.details is not None
    assert caught.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    await client.patch(ConfigMap, "old", {"data": {"a": "b"}}, "going")


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
async def test_some_namespaces_stay(server: ApiUnderTest, name: str) -> None:
    message = await refused(server.client().delete(Namespace, name))
    assert message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


# ServiceAccount


async def test_a_pod_gets_its_service_account_and_the_access_volume(server: ApiUnderTest) -> None:
    spec = (await create(server, pod(initContainers=[{"name": "i", "image": "i"}])))["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert volume["projected"] == {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ],
    }
    mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
    assert spec["containers"][0]["volumeMounts"] == [mount]
    assert spec["initContainers"][0]["volumeMounts"] == [mount]


async def test_the_volume_is_left_out_where_it_is_not_wanted(server: ApiUnderTest) -> None:
    assert "volumes" not in (await create(server, pod("a", automountServiceAccountToken=False)))["spec"]
    account = {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False, "imagePullSecrets": [{"name": "registry"}]}
    await server.client().create(ServiceAccount, account, "default")
    spec = (await create(server, pod("b", serviceAccountName="quiet")))["spec"]
    assert "volumes" not in spec
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    spec = (await create(server, pod("c", serviceAccountName="quiet", automountServiceAccountToken=True)))["spec"]
    assert len(spec["volumes"]) == 1
    own = [{"name": "c", "image": "i", "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]
    spec = (await create(server, pod("d", containers=own, volumes=[{"name": "own", "emptyDir": {}}])))["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["own"]


async def test_a_pod_of_a_missing_account_is_refused(server: ApiUnderTest) -> None:
    message = await refused(server.client().create(Pod, pod(serviceAccountName="ghost"), "default"))
    why = 'error looking up service account default/ghost: serviceaccount "ghost" not found'
    assert message == f'pods "p" is forbidden: {why}'


async def test_a_pod_waits_for_the_default_account_of_a_new_namespace(server: ApiUnderTest) -> None:
    client = server.client()
    await client.create(Namespace, {"metadata": {"name": "new"}})
    creating = asyncio.create_task(client.create(Pod, pod(), "new"))
    await asyncio.sleep(0.12)
    assert not creating.done()
    await client.create(ServiceAccount, {"metadata": {"name": "default"}}, "new")
    assert (await creating).metadata.name == "p"


async def test_mountable_secrets_are_enforced_where_the_account_says_so(server: ApiUnderTest) -> None:
    meta = {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}
    await server.client().create(ServiceAccount, {"metadata": meta, "secrets": [{"name": "mine"}]}, "default")
    allowed = pod("ok", serviceAccountName="strict", volumes=[{"name": "v", "secret": {"secretName": "mine"}}])
    await create(server, allowed)
    wrong = pod("no", serviceAccountName="strict", volumes=[{"name": "v", "secret": {"secretName": "other"}}])
    message = await refused(server.client().create(Pod, wrong, "default"))
    assert message.endswith('secret.secretName="other" is not allowed because service account strict does not reference that secret')


# Priority


async def test_a_pods_priority_comes_from_its_class(server: ApiUnderTest) -> None:
    client = server.client()
    spec = (await create(server, pod("plain")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert "priorityClassName" not in spec
    await client.create(PriorityClass, {"metadata": {"name": "low"}, "value": -5, "globalDefault": True, "preemptionPolicy": "Never"})
    spec = (await create(server, pod("defaulted")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"], spec["priorityClassName"]) == (-5, "Never", "low")
    spec = (await create(server, pod("critical", priorityClassName="system-node-critical"), "default"))["spec"]
    assert spec["priority"] == 2000001000


async def test_wrong_priorities_are_refused(server: ApiUnderTest) -> None:
    client = server.client()
    message = await refused(client.create(Pod, pod(priorityClassName="ghost"), "default"))
    assert message == 'pods "p" is forbidden: no PriorityClass with name ghost was found'
    message = await refused(client.create(Pod, pod(priority=7), "default"))
    assert "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0" in message
    await client.create(PriorityClass, {"metadata": {"name": "one"}, "value": 1, "globalDefault": True})
    message = await refused(client.create(PriorityClass, {"metadata": {"name": "two"}, "value": 2, "globalDefault": True}))
    assert message.endswith("PriorityClass one is already marked as default. Only one default can exist")


# RuntimeClass


async def runtime_class(server: ApiUnderTest, name: str, **fields: Any) -> None:
    answer = await server.http("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": name}, "handler": "h", **fields})
    assert answer.status == 201, answer.body


async def test_a_pod_gets_what_its_runtime_class_asks_for(server: ApiUnderTest) -> None:
    toleration = {"key": "vm", "operator": "Exists"}
    scheduling = {"nodeSelector": {"vm": "yes"}, "tolerations": [toleration]}
    await runtime_class(server, "vm", overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling)
    narrower = {"key": "vm", "operator": "Equal", "value": "x", "effect": "NoSchedule"}
    spec = (await create(server, pod(runtimeClassName="vm", nodeSelector={"zone": "a"}, tolerations=[narrower])))["spec"]
    assert spec["overhead"] == {"cpu": "250m"}
    assert spec["nodeSelector"] == {"zone": "a", "vm": "yes"}
    assert [t for t in spec["tolerations"] if t["key"] == "vm"] == [toleration]
    same = (await create(server, pod("same", runtimeClassName="vm", overhead={"cpu": "0.25"})))["spec"]
    assert same["overhead"] == {"cpu": "250m"}


async def test_what_a_runtime_class_does_not_allow_is_refused(server: ApiUnderTest) -> None:
    client = server.client()
    await runtime_class(server, "vm", overhead={"podFixed": {"cpu": "250m"}}, scheduling={"nodeSelector": {"vm": "yes"}})
    await runtime_class(server, "plain")
    message = await refused(client.create(Pod, pod(runtimeClassName="ghost"), "default"))
    assert message == 'pods "p" is forbidden: pod rejected: RuntimeClass "ghost" not found'
    message = await refused(client.create(Pod, pod(runtimeClassName="vm", overhead={"cpu": "1"}), "default"))
    assert message.endswith("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    message = await refused(client.create(Pod, pod(runtimeClassName="vm", nodeSelector={"vm": "no"}), "default"))
    assert message.endswith("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no")
    for body in (pod(overhead={"cpu": "1"}), pod(runtimeClassName="plain", overhead={"cpu": "1"})):
        message = await refused(client.create(Pod, body, "default"))
        assert message.endswith("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")


# DefaultTolerationSeconds


async def test_pods_tolerate_lost_nodes_for_five_minutes(server: ApiUnderTest) -> None:
    spec = (await create(server, pod("plain")))["spec"]
    assert spec["tolerations"] == [
        {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for what in ("not-ready", "unreachable")
    ]
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}
    spec = (await create(server, pod("own", tolerations=[own])))["spec"]
    assert [(t["key"], t["tolerationSeconds"]) for t in spec["tolerations"]] == [
        ("node.kubernetes.io/unreachable", 6),
        ("node.kubernetes.io/not-ready", 300),
    ]
    spec = (await create(server, pod("everything", tolerations=[{"operator": "Exists"}])))["spec"]
    assert len(spec["tolerations"]) == 1


# DefaultIngressClass, PersistentVolumeClaimResize


async def test_an_ingress_gets_the_newest_default_class(server: ApiUnderTest) -> None:
    classes, ingresses = "/apis/networking.k8s.io/v1/ingressclasses", "/apis/networking.k8s.io/v1/namespaces/default/ingresses"

    async def made(name: str, **spec: Any) -> str | None:
        body = {"metadata": {"name": name}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}, **spec}}
        answer = await server.http("POST", ingresses, body)
        assert answer.status == 201, answer.body
        found: str | None = answer.json["spec"].get("ingressClassName")
        return found

    assert await made("early") is None
    default = {"ingressclass.kubernetes.io/is-default-class": "true"}
    for name, marks in (("plain", {}), ("b", default), ("a", default)):
        metadata = {"name": name, "annotations": marks}
        assert (await server.http("POST", classes, {"metadata": metadata, "spec": {"controller": "example.com/c"}})).status == 201
    assert await made("late") in ("a", "b")  # the newer one, and of the same second the first
    assert await made("own", ingressClassName="plain") == "plain"


async def test_a_claim_grows_where_its_class_lets_it(server: ApiUnderTest) -> None:
    claims, classes = "/api/v1/namespaces/default/persistentvolumeclaims", "/apis/storage.k8s.io/v1/storageclasses"
    for name, grows in (("fixed", False), ("elastic", True)):
        body = {"metadata": {"name": name}, "provisioner": "example.com/p", "allowVolumeExpansion": grows}
        assert (await server.http("POST", classes, body)).status == 201
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": name}
        assert (await server.http("POST", claims, {"metadata": {"name": name}, "spec": spec})).status == 201

    async def patch(path: str, body: dict[str, Any]) -> str:
        answer = await server.http("PATCH", f"{claims}/{path}", body, content_type="application/merge-patch+json")
        return "" if answer.status == 200 else str(answer.json["message"])

    for name in ("fixed", "elastic"):
        assert await patch(name, {"spec": {"volumeName": "v"}}) == ""
        assert await patch(f"{name}/status", {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}) == ""
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    assert await patch("fixed", larger) == (
        'persistentvolumeclaims "fixed" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions '
        "the pvc must support resize"
    )
    assert await patch("elastic", larger) == ""


# TaintNodesByCondition


async def test_a_new_node_is_not_ready(server: ApiUnderTest) -> None:
    node = await server.client().create(Node, {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}})
    assert [(t.key, t.effect) for t in node.spec.taints] == [("a", "NoExecute"), ("node.kubernetes.io/not-ready", "NoSchedule")]


# NodeRestriction


def kubelet(server: ApiUnderTest, name: str = "n1") -> Client:
    return server.client(f"system:node:{name}", ("system:nodes",))


async def bound_pod(server: ApiUnderTest, name: str, node: str) -> Pod:
    return await server.client().create(Pod, pod(name, nodeName=node), "default")


async def test_a_kubelet_writes_the_status_of_its_own_pods(server: ApiUnderTest) -> None:
    await bound_pod(server, "mine", "n1")
    await bound_pod(server, "theirs", "n2")
    status = {"status": {"phase": "Running"}}
    await kubelet(server).patch(Pod, "mine", status, "default", subresource="status")
    message = await refused(kubelet(server).patch(Pod, "theirs", status, "default", subresource="status"))
    assert message == 'pods "theirs" is forbidden: node "n1" can only update pod status for pods with spec.nodeName set to itself'
    labels = {"metadata": {"labels": {"a": "b"}}}
    message = await refused(kubelet(server).patch(Pod, "mine", labels, "default", subresource="status"))
    assert message.endswith('node "n1" cannot update labels through pod status')
    message = await refused(kubelet(server).delete(Pod, "theirs", "default"))
    assert message.endswith('node "n1" can only delete pods with spec.nodeName set to itself')
    await kubelet(server).delete(Pod, "mine", "default", grace_seconds=0)


async def test_a_kubelet_keeps_to_its_own_node(server: ApiUnderTest) -> None:
    client = kubelet(server)
    await client.create(Node, {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1", "acme.com/x": "y"}}})
    await client.patch(Node, "n1", {"metadata": {"labels": {"acme.com/x": "z"}}})
    await client.patch(Node, "n1", {"status": {"addresses": []}}, subresource="status")
    assert (await refused(client.create(Node, {"metadata": {"name": "n2"}}))).endswith('node "n1" is not allowed to modify node "n2"')
    role = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
    assert (await refused(client.patch(Node, "n1", role))).endswith(
        "is not allowed to modify labels: node-role.kubernetes.io/control-plane"
    )
    assert (await refused(client.patch(Node, "n1", {"spec": {"taints": []}}))).endswith('node "n1" is not allowed to modify taints')
    await server.client().patch(Node, "n1", {"spec": {"taints": []}})


async def test_a_kubelet_makes_no_lease_but_its_own(server: ApiUnderTest) -> None:
    await kubelet(server).create(Lease, {"metadata": {"name": "n1"}}, "kube-node-lease")
    message = await refused(kubelet(server).create(Lease, {"metadata": {"name": "n2"}}, "kube-node-lease"))
    assert message.endswith("can only access node lease with the same name as the requesting node")


async def test_a_kubelet_makes_mirror_pods_only(server: ApiUnderTest) -> None:
    client = kubelet(server)
    node = await client.create(Node, {"metadata": {"name": "n1"}})
    assert 'pod does not have "kubernetes.io/config.mirror" annotation' in await refused(client.create(Pod, pod(), "default"))
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.metadata.uid, "controller": True}
    mirror = pod("m", nodeName="n1")
    mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    assert (await client.create(Pod, mirror, "default")).spec.serviceAccountName == ""
    mirror["metadata"]["name"] = "greedy"
    mirror["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "x"}}]
    assert (await refused(client.create(Pod, mirror, "default"))).endswith('node "n1" can not create pods that reference configmaps')
    mirror["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "x"}}]
    assert (await refused(client.create(Pod, mirror, "default"))).endswith("a mirror pod may not reference secrets")


async def test_a_kubelet_gets_tokens_for_its_own_pods_only(server: ApiUnderTest) -> None:
    mine, theirs = await bound_pod(server, "mine", "n1"), await bound_pod(server, "theirs", "n2")

    async def ask(bound: Pod | None, **spec: Any) -> None:
        if bound is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": bound.metadata.name, "uid": bound.metadata.uid}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        await kubelet(server).create(ServiceAccount, body, "default", name="default", subresource="token")

    await ask(mine, expirationSeconds=3607)
    assert (await refused(ask(None))).endswith("node requested token not bound to a pod")
    assert (await refused(ask(theirs))).endswith("node requested token bound to a pod scheduled on a different node")
    assert 'audience "vault" not found in pod spec volume' in await refused(ask(mine, audiences=["vault"]))


# Escalation


async def test_nobody_grants_more_than_he_has(server: ApiUnderTest) -> None:
    admin = server.client()
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "apiGroup": group, "name": "jane"}

    def binding(name: str, role: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role}, "subjects": [subject]}

    await admin.create(RoleBinding, binding("jane", "admin"), "default")
    jane = server.client("jane", ())
    await jane.create(RoleBinding, binding("viewer", "view"), "default")
    rules = [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "nodes"]}]
    message = await refused(jane.create(Role, {"metadata": {"name": "more"}, "rules": rules}, "default"))
    assert message == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant '
        'RBAC permissions not currently held:\n{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}'
    )
    assert "is attempting to grant RBAC permissions not currently held" in await refused(
        jane.create(RoleBinding, binding("all", "cluster-admin"), "default")
    )
    await jane.create(Role, {"metadata": {"name": "less"}, "rules": [{**rules[0], "resources": ["pods"]}]}, "default")
    await refused(jane.patch(Role, "less", {"rules": rules}, "default"))
    may_bind = {"verbs": ["bind"], "apiGroups": [group], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"]}
    await admin.create(ClusterRole, {"metadata": {"name": "binder"}, "rules": [may_bind]})
    await admin.create(ClusterRoleBinding, binding("binder", "binder"))
    await jane.create(RoleBinding, binding("all", "cluster-admin"), "default")


@pytest.mark.parametrize(
    ("held", "wanted", "covered"),
    [
        (("get",), ("get",), True),
        (("*",), ("delete",), True),
        (("get",), ("*",), False),
    ],
)
def test_verbs_are_covered(held: tuple[str, ...], wanted: tuple[str, ...], covered: bool) -> None:
    rule = PolicyRule(held, ("",), ("pods",))
    assert (uncovered([rule], [PolicyRule(wanted, ("",), ("pods",))]) == []) is covered


def test_a_right_to_one_name_covers_no_other() -> None:
    one = PolicyRule(("get",), ("",), ("secrets",), ("one",))
    assert uncovered([one], [one]) == []
    assert uncovered([one], [PolicyRule(("get",), ("",), ("secrets",))])
    assert uncovered([one], [PolicyRule(("get",), ("",), ("secrets",), ("one", "two"))])
    assert not uncovered([PolicyRule(("get",), ("*",), ("*/scale",))], [PolicyRule(("get",), ("apps",), ("deployments/scale",))])
    assert not uncovered([PolicyRule(("get",), nonResourceURLs=("/a/*",))], [PolicyRule(("get",), nonResourceURLs=("/a/b",))])


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("acme.com/x", True),
        ("plain", True),
        ("kubernetes.io/hostname", True),
        ("kubelet.kubernetes.io/anything", True),
        ("custom.node.kubernetes.io/anything", True),
        ("node-role.kubernetes.io/worker", False),
        ("kubernetes.io/anything", False),
        ("sub.k8s.io/anything", False),
        ("node-restriction.kubernetes.io/anything", False),
        ("team.node-restriction.kubernetes.io/anything", False),
    ],
)
def test_labels_that_a_kubelet_may_set(label: str, allowed: bool) -> None:
    assert may_label(label) is allowed
