"""Services, configuration, namespaces, nodes, storage, networking, access: defaults and rules."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from tests.resources.values import created, obj, rejected, resource, updated

SERVICES = resource("services")
CONFIG_MAPS = resource("configmaps")
SECRETS = resource("secrets")
NAMESPACES = resource("namespaces")
CLAIMS = resource("persistentvolumeclaims")


def service(**spec: Any) -> dict[str, Any]:
    return obj(SERVICES, spec={"ports": [{"port": 80}], **spec})


def test_service_defaults() -> None:
    new = created(SERVICES, service())
    assert new["spec"] == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    assert new["status"] == {"loadBalancer": {}} and "generation" not in new["metadata"]
    spec = created(SERVICES, service(type="LoadBalancer", sessionAffinity="ClientIP"))["spec"]
    assert spec["externalTrafficPolicy"] == "Cluster" and spec["allocateLoadBalancerNodePorts"] is True
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        (
            {"type": "Magic"},
            'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
        ),
        ({"ports": [{"port": 0, "targetPort": 1}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}, "spec.ports[1].name: Required value"),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}, 'spec.ports[1].name: Duplicate value: "a"'),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        (
            {"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"]},
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        ),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"externalTrafficPolicy": "Local"},
            'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
        ),
    ],
)
def test_what_a_service_may_not_be(spec: dict[str, Any], expected: str) -> None:
    assert rejected(SERVICES, service(**spec)) == [expected]


def test_a_services_address_stays() -> None:
    old = created(SERVICES, service(clusterIP="10.43.0.5", clusterIPs=["10.43.0.5"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"))
    new = copy.deepcopy(old)
    new["spec"].update(clusterIP="10.43.0.6", clusterIPs=["10.43.0.6"])
    assert updated(SERVICES, old, new)[1] == ['spec.clusterIPs[0]: Invalid value: ["10.43.0.6"]: may not change once set']
    new = copy.deepcopy(old)
    new["spec"].update(type="ExternalName", externalName="example.com")
    got, found = updated(SERVICES, old, new)
    assert found == [] and not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & got["spec"].keys()


def test_node_ports_go_with_the_type() -> None:
    old = created(SERVICES, service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    new = copy.deepcopy(old)
    new["spec"]["type"] = "ClusterIP"
    got, found = updated(SERVICES, old, new)
    assert found == [] and "nodePort" not in got["spec"]["ports"][0] and "externalTrafficPolicy" not in got["spec"]


def test_config_map_rules() -> None:
    old = created(CONFIG_MAPS, obj(CONFIG_MAPS, data={"a": "b"}, immutable=True))
    assert "generation" not in old["metadata"]
    assert updated(CONFIG_MAPS, old, {**old, "data": {"a": "c"}})[1] == ["data: Forbidden: field is immutable when `immutable` is set"]
    assert updated(CONFIG_MAPS, old, {**old, "immutable": False})[1] == ["immutable: Forbidden: field is immutable when `immutable` is set"]
    assert rejected(CONFIG_MAPS, obj(CONFIG_MAPS, data={"a": "x" * (1 << 20), "b": "y"})) == [
        ": Too long: may not be more than 1048576 bytes"
    ]
    assert rejected(CONFIG_MAPS, obj(CONFIG_MAPS, data={"..": "x"})) == ["data[..]: Invalid value: \"..\": must not be '..'"]
    assert rejected(CONFIG_MAPS, obj(CONFIG_MAPS, data={"k": "x"}, binaryData={"k": ""})) == [
        'data[k]: Invalid value: "k": duplicate of key present in binaryData'
    ]


def test_secret_rules() -> None:
    new = created(SECRETS, obj(SECRETS, stringData={"a": "b"}, data={"a": "eA==", "c": "eA=="}))
    assert new["type"] == "Opaque" and "stringData" not in new
    assert new["data"] == {"a": base64.b64encode(b"b").decode(), "c": "eA=="}
    assert updated(SECRETS, new, {**new, "type": "x"})[1] == ['type: Invalid value: "x": field is immutable']
    assert rejected(SECRETS, obj(SECRETS, type="kubernetes.io/tls")) == ["data[tls.crt]: Required value", "data[tls.key]: Required value"]
    assert rejected(SECRETS, obj(SECRETS, type="kubernetes.io/service-account-token")) == [
        "metadata.annotations[kubernetes.io/service-account.name]: Required value"
    ]


def test_namespace_life() -> None:
    old = created(NAMESPACES, obj(NAMESPACES, "blue", status={"phase": "Terminating"}))
    assert old["metadata"]["labels"] == {"kubernetes.io/metadata.name": "blue"}
    assert old["spec"] == {"finalizers": ["kubernetes"]} and old["status"] == {"phase": "Active"}
    got, found = updated(NAMESPACES, old, {**old, "spec": {}})
    assert found == [] and got["spec"] == {"finalizers": ["kubernetes"]}
    going = copy.deepcopy(old)
    going["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z"
    going["status"] = {"phase": "Terminating"}
    got, found = updated(NAMESPACES, going, {**going, "spec": {}}, "finalize")
    assert found == [] and got["spec"] == {} and got["status"] == {"phase": "Terminating"}
    assert updated(NAMESPACES, old, {**old, "status": {"phase": "Terminating"}}, "status")[1] == [
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
    ]


def test_a_node_registers_with_its_status() -> None:
    nodes = resource("nodes")
    new = created(nodes, obj(nodes, "n1", spec={"podCIDR": "10.42.0.0/24"}, status={"capacity": {"cpu": "4"}}))
    assert new["status"] == {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}} and new["spec"]["podCIDRs"] == ["10.42.0.0/24"]
    taint = {"key": "a", "effect": "NoSchedule"}
    assert rejected(nodes, obj(nodes, "n1", spec={"taints": [taint, taint]})) == [
        'spec.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}: taints must be unique by key and effect pair'
    ]


def claim(size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    return obj(CLAIMS, spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec})


def test_claims_are_fixed_but_may_grow_once_bound() -> None:
    old = created(CLAIMS, claim())
    assert old["status"] == {"phase": "Pending"} and old["spec"]["volumeMode"] == "Filesystem"
    assert updated(CLAIMS, old, claim("2Gi"))[1][0].startswith(
        "spec: Forbidden: spec is immutable after creation except resources.requests"
    )
    bound = {**old, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}, "spec": {**old["spec"], "volumeName": "pv"}}
    assert updated(CLAIMS, bound, claim("2Gi", volumeName="pv"))[1] == []
    assert updated(CLAIMS, bound, claim("500Mi", volumeName="pv"))[1] == [
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    ]
    assert updated(CLAIMS, old, claim(volumeName="pv"))[1] == []
    assert rejected(CLAIMS, obj(CLAIMS, spec={})) == [
        "spec.accessModes: Required value: at least 1 access mode is required",
        "spec.resources[storage]: Required value",
    ]


def test_volume() -> None:
    volumes = resource("persistentvolumes")
    new = created(
        volumes, obj(volumes, "pv", spec={"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/d"}})
    )
    assert new["spec"]["persistentVolumeReclaimPolicy"] == "Retain" and new["spec"]["hostPath"]["type"] == ""
    assert new["status"]["phase"] == "Pending"
    changed = copy.deepcopy(new)
    changed["spec"]["hostPath"]["path"] = "/e"
    assert updated(volumes, new, changed)[1] == [
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
    ]


def test_storage_class() -> None:
    classes = resource("storageclasses", "storage.k8s.io")
    old = created(classes, obj(classes, "fast", provisioner="example.com/x"))
    assert (old["reclaimPolicy"], old["volumeBindingMode"]) == ("Delete", "Immediate")
    assert updated(classes, old, {**old, "provisioner": "example.com/y"})[1] == [
        "provisioner: Forbidden: updates to provisioner are forbidden."
    ]


def test_ingress() -> None:
    ingresses = resource("ingresses", "networking.k8s.io")
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}
    new = created(ingresses, obj(ingresses, spec={"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]}))
    assert new["metadata"]["generation"] == 1
    assert rejected(ingresses, obj(ingresses, spec={})) == ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]
    assert rejected(ingresses, obj(ingresses, spec={"rules": [{"http": {"paths": [{**path, "path": "x"}]}}]})) == [
        'spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path'
    ]


def test_network_policy() -> None:
    policies = resource("networkpolicies", "networking.k8s.io")
    spec = created(policies, obj(policies, spec={"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}))["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"] and spec["egress"][0]["ports"] == [{"port": 53, "protocol": "TCP"}]
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}
    assert rejected(policies, obj(policies, spec={"ingress": [{"from": [block]}]})) == [
        'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/8": must be a strict subset of `cidr`'
    ]


def test_role_binding() -> None:
    bindings = resource("rolebindings", "rbac.authorization.k8s.io")
    given = obj(
        bindings, roleRef={"kind": "Role", "name": "r"}, subjects=[{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "s"}]
    )
    old = created(bindings, given)
    assert old["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert [s.get("apiGroup") for s in old["subjects"]] == ["rbac.authorization.k8s.io", None]
    assert [f.rpartition(": ")[2] for f in updated(bindings, old, {**old, "roleRef": {**old["roleRef"], "name": "x"}})[1]] == [
        "cannot change roleRef"
    ]
    assert bindings.strategy.allow_create_on_update
    cluster = resource("clusterrolebindings", "rbac.authorization.k8s.io")
    assert rejected(
        cluster, obj(cluster, roleRef={"kind": "ClusterRole", "name": "r"}, subjects=[{"kind": "ServiceAccount", "name": "s"}])
    ) == ["subjects[0].namespace: Required value"]


def test_role() -> None:
    roles = resource("roles", "rbac.authorization.k8s.io")
    assert rejected(roles, obj(roles, rules=[{"apiGroups": [""], "resources": ["pods"]}])) == [
        "rules[0].verbs: Required value: verbs must contain at least one value"
    ]


def test_lease() -> None:
    leases = resource("leases", "coordination.k8s.io")
    assert rejected(leases, obj(leases, spec={"leaseDurationSeconds": 0})) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
    ]
    assert leases.strategy.allow_create_on_update and not leases.strategy.allow_unconditional_update
    assert leases.relaxed("kube-node-lease") and not leases.relaxed("kube-system")


def test_priority_class() -> None:
    classes = resource("priorityclasses", "scheduling.k8s.io")
    old = created(classes, obj(classes, "high", value=10))
    assert old["preemptionPolicy"] == "PreemptLowerPriority"
    assert updated(classes, old, {**old, "value": 11})[1] == ["value: Forbidden: may not be changed in an update."]
    assert rejected(classes, obj(classes, "high", value=1_000_000_001)) == [
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
    ]
    created(classes, obj(classes, "system-node-critical", value=2_000_001_000))


def test_signing_request_tells_who_asked() -> None:
    requests = resource("certificatesigningrequests", "certificates.k8s.io")
    pem = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n").decode()
    given = obj(requests, spec={"request": pem, "signerName": "example.com/s", "usages": ["client auth"], "username": "admin"})
    old = created(requests, given)
    assert (old["spec"]["username"], old["spec"]["uid"], old["spec"]["groups"]) == ("ann", "u1", ["dev", "system:authenticated"])
    approved = copy.deepcopy(old)
    approved["status"] = {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="}
    got, found = updated(requests, old, approved, "approval")
    assert found == [] and "certificate" not in got["status"] and got["status"]["conditions"][0]["lastUpdateTime"]
    _, found = updated(requests, old, {**approved, "status": {"conditions": approved["status"]["conditions"]}}, "status")
    assert found == ['status.conditions: Forbidden: updates may not add a condition of type "Approved"']
    unchanged, _ = updated(requests, old, approved)
    assert unchanged["status"] == old["status"]
    assert rejected(requests, obj(requests, spec={"signerName": "example.com/s", "usages": ["client auth"], "request": "eA=="})) == [
        'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST'
    ]


def test_events_of_both_groups_are_one() -> None:
    events = resource("events")
    ((ref, converter),) = events.converters.items()
    core = obj(
        events,
        involvedObject={"kind": "Pod", "name": "web", "namespace": "default"},
        reason="Started",
        message="m",
        count=2,
        type="Normal",
        source={"component": "kubelet"},
        firstTimestamp="t1",
        lastTimestamp="t2",
        reportingComponent="",
        reportingInstance="",
    )
    new = converter.from_hub(core)
    assert ref.api_version == "events.k8s.io/v1" == new["apiVersion"]
    assert (new["regarding"], new["note"], new["deprecatedCount"]) == (core["involvedObject"], "m", 2)
    assert converter.to_hub(new) == core
    read = events.strategy.selectable_fields
    assert (read["involvedObject.name"](core), read["source"](core), read["type"](core)) == ("web", "kubelet", "Normal")
    wrong = {**core, "involvedObject": {"kind": "Pod", "name": "web", "namespace": "other"}}
    assert rejected(events, wrong) == ['involvedObject.namespace: Invalid value: "other": does not match event.namespace']


def test_webhook_defaults() -> None:
    hooks = resource("mutatingwebhookconfigurations", "admissionregistration.k8s.io")
    webhook = {
        "name": "a.b.example",
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    }
    got = created(hooks, obj(hooks, webhooks=[webhook]))["webhooks"][0]
    assert (got["failurePolicy"], got["matchPolicy"], got["timeoutSeconds"], got["reinvocationPolicy"]) == (
        "Fail",
        "Equivalent",
        10,
        "Never",
    )
    assert got["clientConfig"]["service"]["port"] == 443 and got["rules"][0]["scope"] == "*" and got["namespaceSelector"] == {}


def test_limit_range_defaults() -> None:
    ranges = resource("limitranges")
    item = {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"memory": "64Mi"}}
    got = created(ranges, obj(ranges, spec={"limits": [item]}))["spec"]["limits"][0]
    assert got["default"] == {"cpu": "2", "memory": "64Mi"} and got["defaultRequest"] == {"cpu": "2", "memory": "64Mi"}


def test_every_strategy_leaves_a_defaulted_object_alone() -> None:
    from minikube_py.resources.registry import built_in

    for kind in built_in():
        given = obj(kind)
        kind.strategy.default(given)
        again = copy.deepcopy(given)
        kind.strategy.default(again)
        assert again == given, kind.ref


def test_an_endpoint_of_a_slice_always_has_conditions() -> None:
    kind = resource("endpointslices", "discovery.k8s.io")
    new = created(kind, obj(kind, addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}]))
    assert new["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": {}}]


def test_deprecated_kinds_say_so() -> None:
    assert resource("endpoints").deprecation == "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    assert resource("pods").deprecation == ""
