"""Pods: defaults, the rules for new ones and for changes, subresources, grace, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minikube_py.resources.quantities import qos_class
from tests.resources.values import created, pod, rejected, resource, updated

PODS = resource("pods")


def test_defaults_are_upstreams() -> None:
    given = pod(
        containers=[
            {
                "name": "c",
                "image": "nginx",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            }
        ],
        volumes=[
            {"name": "e"},
            {"name": "s", "secret": {"secretName": "x"}},
            {"name": "h", "hostPath": {"path": "/var"}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ],
        serviceAccountName="default",
    )
    spec = created(PODS, given)["spec"]
    assert spec["containers"][0] == {
        "name": "c",
        "image": "nginx",
        "imagePullPolicy": "Always",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
        "livenessProbe": {
            "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
            "timeoutSeconds": 1,
            "periodSeconds": 10,
            "successThreshold": 1,
            "failureThreshold": 3,
        },
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
    }
    assert spec["volumes"] == [
        {"name": "e", "emptyDir": {}},
        {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
        {"name": "h", "hostPath": {"path": "/var", "type": ""}},
        {
            "name": "p",
            "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]},
        },
    ]
    rest = {k: v for k, v in spec.items() if k not in ("containers", "volumes")}
    assert rest == {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "serviceAccountName": "default",
        "serviceAccount": "default",
    }


def test_the_template_of_a_claim_always_has_metadata() -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    new = created(PODS, pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]))
    assert new["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"] == {"metadata": {}, "spec": {**claim, "volumeMode": "Filesystem"}}


def test_defaulting_twice_is_defaulting_once() -> None:
    once = created(
        PODS, pod(volumes=[{"name": "v", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}])
    )
    twice = copy.deepcopy(once)
    PODS.strategy.default(twice)
    assert twice == once


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert created(PODS, pod(containers=[{"name": "c", "image": image}]))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_new_pod_is_pending_whatever_status_it_came_with() -> None:
    new = created(PODS, {**pod(), "status": {"phase": "Running"}})
    assert new["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert new["metadata"]["generation"] == 1


def test_scheduling_gates_are_told_in_a_condition() -> None:
    conditions = created(PODS, pod(schedulingGates=[{"name": "example.com/wait"}]))["status"]["conditions"]
    assert [(c["type"], c["status"], c["reason"]) for c in conditions] == [("PodScheduled", "False", "SchedulingGated")]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}], "Burstable"),
        ([{"requests": {"memory": "0"}}], "BestEffort"),
    ],
)
def test_quality_of_service(resources: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"containers": [{"name": f"c{i}", "resources": r} for i, r in enumerate(resources)]}) == expected


def test_match_label_keys_become_requirements() -> None:
    given = pod(
        topologySpreadConstraints=[
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}},
                "matchLabelKeys": ["pod-template-hash", "absent"],
            }
        ]
    )
    given["metadata"]["labels"] = {"app": "web", "pod-template-hash": "abc"}
    selector = created(PODS, given)["spec"]["topologySpreadConstraints"][0]["labelSelector"]
    assert selector["matchExpressions"] == [{"key": "pod-template-hash", "operator": "In", "values": ["abc"]}]


C = {"name": "c", "image": "nginx:1"}
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
    "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"name": "C", "image": "x"}]}, f'spec.containers[0].name: Invalid value: "C": {LABEL}'),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image: Required value"),
        ({"containers": [C, C]}, 'spec.containers[1].name: Duplicate value: "c"'),
        ({"initContainers": [C]}, 'spec.initContainers[0].name: Duplicate value: "c"'),
        (
            {"restartPolicy": "Sometimes"},
            'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            {"containers": [{**C, "image": " nginx"}]},
            'spec.containers[0].image: Invalid value: " nginx": must not have leading or trailing whitespace',
        ),
        ({"containers": [{**C, "ports": [{"containerPort": 0}]}]}, "spec.containers[0].ports[0].containerPort: Required value"),
        (
            {"containers": [{**C, "ports": [{"containerPort": 70000}]}]},
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"containers": [{**C, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        ({"containers": [{**C, "env": [{"name": ""}]}]}, "spec.containers[0].env[0].name: Required value"),
        (
            {"containers": [{**C, "env": [{"name": "A=B"}]}]},
            'spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII '
            "characters other than '='",
        ),
        ({"containers": [{**C, "livenessProbe": {}}]}, "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
        (
            {"containers": [{**C, "livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}}]},
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            {"containers": [{**C, "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]},
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            {"containers": [{**C, "resources": {"requests": {"example.com/gpu": "1"}}}]},
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            {"containers": [{**C, "resources": {"requests": {"memory": "-1"}}}]},
            'spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        ({"volumes": [{"name": "v", "hostPath": {}}]}, "spec.volumes[0].hostPath.path: Required value"),
        ({"volumes": [{"name": "v"}, {"name": "v"}]}, 'spec.volumes[1].name: Duplicate value: "v"'),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}]},
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            'spec.tolerations[0].operator: Invalid value: {"key":"a","operator":"Exists","value":"b"}: value must be empty when '
            "`operator` is 'Exists'",
        ),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"),
        ({"dnsPolicy": "None"}, "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
        (
            {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}},
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at "
            "least one node selector term",
        ),
        ({"ephemeralContainers": [{"name": "d", "image": "x"}]}, "spec.ephemeralContainers: Forbidden: cannot be set on create"),
        (
            {"initContainers": [{"name": "i", "image": "x", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        ),
    ],
)
def test_what_a_new_pod_may_not_be(spec: dict[str, Any], expected: str) -> None:
    assert rejected(PODS, pod(**spec)) == [expected]


UPDATABLE = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


def test_image_and_metadata_may_change() -> None:
    old = created(PODS, pod())
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "nginx:2"
    got, found = updated(PODS, old, new)
    assert found == [] and got["metadata"]["generation"] == 2
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"a": "b"}
    got, found = updated(PODS, old, new)
    assert found == [] and got["metadata"]["generation"] == 1


def test_other_fields_may_not_change() -> None:
    old = created(PODS, pod())
    _, found = updated(PODS, old, {**old, "spec": {**old["spec"], "nodeSelector": {"a": "b"}}})
    assert found == [UPDATABLE + '\n  spec.nodeSelector: null -> {"a": "b"}']
    _, found = updated(PODS, old, {**old, "spec": {**old["spec"], "containers": [*old["spec"]["containers"], {"name": "d", "image": "x"}]}})
    assert found == ["spec.containers: Forbidden: pod updates may not add or remove containers"]


def test_tolerations_are_only_added() -> None:
    old = created(PODS, pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]))
    kept = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}
    assert updated(PODS, old, {**old, "spec": {**old["spec"], "tolerations": [kept, {"key": "b", "operator": "Exists"}]}})[1] == []
    _, found = updated(PODS, old, {**old, "spec": {**old["spec"], "tolerations": []}})
    assert found[0] == "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"


def test_the_deadline_only_comes_nearer() -> None:
    old = created(PODS, pod(activeDeadlineSeconds=10))
    assert updated(PODS, old, {**old, "spec": {**old["spec"], "activeDeadlineSeconds": 5}})[1] == []
    _, found = updated(PODS, old, {**old, "spec": {**old["spec"], "activeDeadlineSeconds": 20}})
    assert found == ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]


def test_status_changes_status_alone() -> None:
    old = created(PODS, pod())
    old["metadata"]["ownerReferences"] = [{"uid": "rs"}]
    new = copy.deepcopy(old)
    new["spec"]["nodeName"] = "n1"
    new["metadata"].pop("ownerReferences")
    new["status"] = {"phase": "Running"}
    got, found = updated(PODS, old, new, "status")
    assert found == [] and got["spec"] == old["spec"] and got["metadata"]["ownerReferences"] == [{"uid": "rs"}]
    assert got["status"] == {"phase": "Running", "qosClass": "BestEffort"}
    assert got["metadata"]["generation"] == 1


def test_what_has_ended_stays_ended() -> None:
    old = created(PODS, pod(restartPolicy="Never"))
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]
    new = copy.deepcopy(old)
    new["status"]["containerStatuses"][0]["state"] = {"running": {}}
    assert updated(PODS, old, new, "status")[1] == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    ]


def test_ephemeral_containers_are_added_through_their_own_endpoint() -> None:
    old = created(PODS, pod())
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox:1", "targetContainerName": "c"}]
    new["spec"]["containers"][0]["image"] = "other:1"
    got, found = updated(PODS, old, new, "ephemeralcontainers")
    assert found == [] and got["spec"]["containers"] == old["spec"]["containers"]
    assert got["metadata"]["generation"] == 2
    _, found = updated(PODS, got, old, "ephemeralcontainers")
    assert found == ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n']


def test_resize_changes_cpu_and_memory_alone() -> None:
    old = created(PODS, pod(containers=[{**C, "resources": {"requests": {"cpu": "1"}}}]))
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"
    new["spec"]["containers"][0]["image"] = "other:1"
    got, found = updated(PODS, old, new, "resize")
    assert found == [] and got["spec"]["containers"][0]["image"] == "nginx:1"
    assert got["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    new["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2", "memory": "1Gi"}}
    _, found = updated(PODS, old, new, "resize")
    assert found == ['spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing']


SIZE = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
         ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]),
        ({**SIZE, "limits": {}}, ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]),
        ({**SIZE, "limits": {"cpu": "2", "ephemeral-storage": "1Gi"}}, ["spec: Forbidden: only cpu and memory resources are mutable"]),
        ({**SIZE, "limits": {"cpu": "2", "memory": "2Gi"}}, []),
    ],
)  # fmt: skip
def test_a_resize_takes_nothing_away(change: dict[str, Any], expected: list[str]) -> None:
    old = created(PODS, pod(containers=[{**C, "resources": SIZE}]))
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["resources"] = change
    assert updated(PODS, old, new, "resize")[1] == expected


def test_a_negative_grace_period_is_the_shortest() -> None:
    assert created(PODS, pod(terminationGracePeriodSeconds=-1))["spec"]["terminationGracePeriodSeconds"] == 1


def test_a_resize_keeps_the_containers_as_they_are() -> None:
    old = created(PODS, pod(containers=[{**C, "name": "a", "resources": SIZE}, {**C, "name": "b"}]))
    new = copy.deepcopy(old)
    new["spec"]["containers"].reverse()
    assert updated(PODS, old, new, "resize")[1] == [
        f"spec.containers[{i}].name: Forbidden: containers may not be renamed or reordered on resize" for i in range(2)
    ]
    new["spec"]["containers"].pop(0)
    assert updated(PODS, old, new, "resize")[1] == ["spec.containers: Forbidden: containers may not be added or removed on resize"]
    mirrored = copy.deepcopy(old)
    mirrored["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    new = copy.deepcopy(mirrored)
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1500m"
    assert updated(PODS, mirrored, new, "resize")[1] == [": Forbidden: static pods cannot be resized"]


def test_a_pod_as_a_whole_is_resized_too() -> None:
    whole = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
    old = created(PODS, pod(resources=whole))
    new = copy.deepcopy(old)
    new["spec"]["resources"]["limits"]["cpu"] = "3"
    assert updated(PODS, old, new, "resize")[1] == []
    new["spec"]["resources"] = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    assert updated(PODS, old, new, "resize")[1] == [
        "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed",
        "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed",
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"resources": {"requests": {"cpu": "1"}}, "containers": [{**C, "resources": {"requests": {"cpu": "2"}}}]},
         'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2'),
        ({"resources": {"limits": {"cpu": "1"}}, "containers": [{**C, "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]},
         'spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1'),
        ({"resources": {"requests": {"ephemeral-storage": "1"}}},
         'spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": '
         'supported values: "cpu", "hugepages-", "memory"'),
        ({"hostnameOverride": "a.b", "hostNetwork": True},
         "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"),
        ({"containers": [{**C, "env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}}]}]},
         'spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: "v"'),
        ({"containers": [{**C, "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}]},
         "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"),
        ({"containers": [{**C, "restartPolicy": "Never", "restartPolicyRules": [{"action": "Stop", "exitCodes": {"operator": "In"}}]}]},
         'spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"'),
        ({"containers": [{**C, "securityContext": {"procMount": "Unmasked"}}]},
         'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`'),
    ],
)  # fmt: skip
def test_rules_that_span_a_pod(spec: dict[str, Any], expected: str) -> None:
    assert expected in rejected(PODS, pod(**spec))


@pytest.mark.parametrize(
    ("spec", "phase", "requested", "expected"),
    [
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 5}, "Running", None, 5),
        ({"nodeName": "n"}, "Running", 0, 0),
        ({"nodeName": "n"}, "Running", 7, 7),
        ({"nodeName": "n"}, "Running", -1, 1),
        ({}, "Pending", None, 0),
        ({}, "Pending", 60, 0),
        ({"nodeName": "n"}, "Succeeded", 60, 0),
    ],
)
def test_grace_period(spec: dict[str, Any], phase: str, requested: int | None, expected: int) -> None:
    new = created(PODS, pod(**spec))
    new["status"]["phase"] = phase
    assert PODS.strategy.grace_period(new, requested) == expected


def test_selectable_fields() -> None:
    new = created(PODS, pod(nodeName="n1", hostNetwork=True))
    new["status"]["podIP"] = "10.0.0.1"
    assert {name: read(new) for name, read in PODS.strategy.selectable_fields.items()} == {
        "spec.nodeName": "n1",
        "spec.restartPolicy": "Always",
        "spec.schedulerName": "default-scheduler",
        "spec.serviceAccountName": "",
        "spec.hostNetwork": "true",
        "status.phase": "Pending",
        "status.podIP": "10.0.0.1",
        "status.podIPs": "",
        "status.nominatedNodeName": "",
    }


def test_warnings() -> None:
    new = created(PODS, pod(nodeSelector={"beta.kubernetes.io/os": "linux"}, containers=[{**C, "env": [{"name": "A"}, {"name": "A"}]}]))
    assert PODS.strategy.warnings(new, None) == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
