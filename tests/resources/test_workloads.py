"""Deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs, autoscalers, budgets."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minikube_py.resources.jobs import cron_fault
from tests.resources.values import SELECTOR, TEMPLATE, created, obj, rejected, resource, updated

DEPLOYMENTS = resource("deployments", "apps")
JOBS = resource("jobs", "batch")


def deployment(**spec: Any) -> dict[str, Any]:
    return obj(DEPLOYMENTS, spec={"selector": SELECTOR, "template": TEMPLATE, **spec})


def test_deployment_defaults() -> None:
    new = created(DEPLOYMENTS, deployment())
    spec = new["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    assert spec["template"]["spec"]["restartPolicy"] == "Always" and "enableServiceLinks" not in spec["template"]["spec"]
    assert new["status"] == {} and new["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"selector": None}, "spec.selector: Required value"),
        ({"selector": {}}, "spec.selector: Invalid value: {}: empty selector is invalid for deployment"),
        (
            {"selector": {"matchLabels": {"app": "db"}}},
            'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
        ),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}},
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ),
        (
            {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
    ],
)
def test_what_a_deployment_may_not_be(spec: dict[str, Any], expected: str) -> None:
    assert rejected(DEPLOYMENTS, deployment(**spec)) == [expected]


def test_the_selector_never_changes() -> None:
    old = created(DEPLOYMENTS, deployment())
    both = {"app": "web", "tier": "x"}
    new = copy.deepcopy(old)
    new["spec"]["template"]["metadata"]["labels"] = both
    new["spec"]["selector"] = {"matchLabels": both}
    _, found = updated(DEPLOYMENTS, old, new)
    assert found == ['spec.selector: Invalid value: {"matchLabels":{"app":"web","tier":"x"}}: field is immutable']


def test_generation_counts_spec_and_annotations_of_a_deployment() -> None:
    old = created(DEPLOYMENTS, deployment())
    annotated = copy.deepcopy(old)
    annotated["metadata"]["annotations"] = {"a": "b"}
    assert updated(DEPLOYMENTS, old, annotated)[0]["metadata"]["generation"] == 2
    scaled = copy.deepcopy(old)
    scaled["spec"]["replicas"] = 3
    assert updated(DEPLOYMENTS, old, scaled)[0]["metadata"]["generation"] == 2
    same, found = updated(DEPLOYMENTS, old, old)
    assert same == old and found == []


def test_status_endpoint_changes_status_alone() -> None:
    old = created(DEPLOYMENTS, deployment())
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 5
    new["status"] = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    got, found = updated(DEPLOYMENTS, old, new, "status")
    assert found == [] and got["spec"]["replicas"] == 1 and got["status"]["replicas"] == 1 and got["metadata"]["generation"] == 1
    new["status"]["availableReplicas"] = 2
    assert updated(DEPLOYMENTS, old, new, "status")[1] == [
        "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
        "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
    ]


def test_replica_set_and_controller() -> None:
    rs = resource("replicasets", "apps")
    new = created(rs, obj(rs, spec={"selector": SELECTOR, "template": TEMPLATE}))
    assert new["spec"]["replicas"] == 1 and new["status"] == {"replicas": 0}
    rc = resource("replicationcontrollers")
    new = created(rc, obj(rc, spec={"template": TEMPLATE}))
    assert new["spec"]["selector"] == {"app": "web"} == new["metadata"]["labels"]


def test_the_claims_of_a_stateful_set_are_volumes_of_its_pods() -> None:
    sts = resource("statefulsets", "apps")
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    spec = {"selector": SELECTOR, "template": template, "serviceName": "s"}
    assert rejected(sts, obj(sts, spec=spec)) == ['spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"']
    new = created(sts, obj(sts, spec={**spec, "volumeClaimTemplates": [claim]}))
    assert "volumes" not in new["spec"]["template"]["spec"]


def test_stateful_set() -> None:
    sts = resource("statefulsets", "apps")
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    old = created(sts, obj(sts, spec={"selector": SELECTOR, "template": TEMPLATE, "serviceName": "web", "volumeClaimTemplates": [claim]}))
    spec = old["spec"]
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["spec"]["volumeMode"] == "Filesystem"
    new = copy.deepcopy(old)
    new["spec"]["serviceName"] = "other"
    assert updated(sts, old, new)[1] == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    ]
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 3
    assert updated(sts, old, new)[1] == []


def test_a_stateful_set_does_not_take_what_upstream_leaves_off() -> None:
    sts = resource("statefulsets", "apps")
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    wanted = {"selector": SELECTOR, "template": TEMPLATE, "serviceName": "web", "updateStrategy": update}
    old = created(sts, obj(sts, spec=copy.deepcopy(wanted)))
    assert old["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0}
    new = copy.deepcopy(old)
    new["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 2
    made, _ = updated(sts, old, copy.deepcopy(new))
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0} and made["metadata"]["generation"] == 1
    made, _ = updated(sts, new, copy.deepcopy(new))
    assert made["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 2


def test_daemon_set() -> None:
    ds = resource("daemonsets", "apps")
    new = created(ds, obj(ds, spec={"selector": SELECTOR, "template": TEMPLATE}))
    assert new["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    both = {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}
    assert rejected(ds, obj(ds, spec={"selector": SELECTOR, "template": TEMPLATE, "updateStrategy": both})) == [
        "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
    ]


def job(**spec: Any) -> dict[str, Any]:
    return obj(JOBS, "pi", spec={"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}, **spec})


def test_job_defaults_and_generated_selector() -> None:
    new = created(JOBS, job())
    spec = new["spec"]
    assert {k: v for k, v in spec.items() if k not in ("template", "selector")} == {
        "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False, "manualSelector": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    }  # fmt: skip
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}}
    assert spec["template"]["metadata"]["labels"] == {
        "controller-uid": "uid-1", "job-name": "pi", "batch.kubernetes.io/controller-uid": "uid-1", "batch.kubernetes.io/job-name": "pi",
    }  # fmt: skip


def test_what_a_job_may_not_be() -> None:
    assert rejected(JOBS, obj(JOBS, "pi", spec={"template": {"spec": TEMPLATE["spec"]}})) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]
    assert rejected(JOBS, job(completionMode="Indexed", parallelism=1)) == [
        "spec.completions: Required value: when completion mode is Indexed"
    ]


def test_a_jobs_template_never_changes_but_parallelism_may() -> None:
    old = created(JOBS, job())
    new = copy.deepcopy(old)
    new["spec"]["parallelism"] = 4
    assert updated(JOBS, old, new)[1] == []
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    assert [f.split(":")[0] for f in updated(JOBS, old, new)[1]] == ["spec.template"]


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 0-6 1,15 jan-mar mon", "@hourly", "@every 1h30m", "TZ=UTC 0 0 * * *", "? 1 ? * ?"])
def test_schedules(schedule: str) -> None:
    assert cron_fault(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "fault"),
    [
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
    ],
)
def test_what_is_no_schedule(schedule: str, fault: str) -> None:
    assert cron_fault(schedule) == fault


def test_cron_job() -> None:
    cj = resource("cronjobs", "batch")
    given = obj(cj, spec={"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}})
    spec = created(cj, given)["spec"]
    assert (spec["concurrencyPolicy"], spec["suspend"], spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (
        "Allow",
        False,
        3,
        1,
    )
    given["metadata"]["name"] = "x" * 53
    assert rejected(cj, given) == [f'metadata.name: Invalid value: "{"x" * 53}": must be no more than 52 characters']


def test_budget() -> None:
    pdb = resource("poddisruptionbudgets", "policy")
    new = created(pdb, obj(pdb, spec={"minAvailable": 1, "selector": SELECTOR}))
    assert new["status"] == {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}
    assert [f.split(": ")[-1] for f in rejected(pdb, obj(pdb, spec={"minAvailable": 1, "maxUnavailable": 1}))] == [
        "minAvailable and maxUnavailable cannot be both set"
    ]
    assert rejected(pdb, obj(pdb, spec={"minAvailable": "120%"})) == [
        'spec.minAvailable: Invalid value: "120%": must not be greater than 100%'
    ]


def test_autoscaler_versions_go_round() -> None:
    hpa = resource("horizontalpodautoscalers", "autoscaling")
    ((ref, converter),) = hpa.converters.items()
    assert ref.api_version == "autoscaling/v1"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    v1 = obj(hpa, spec={"scaleTargetRef": target, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}) | {
        "apiVersion": "autoscaling/v1"
    }
    hub = converter.to_hub(v1)
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    assert hub["apiVersion"] == "autoscaling/v2" and hub["spec"]["metrics"] == [cpu] and "targetCPUUtilizationPercentage" not in hub["spec"]
    pods = {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "100"}}}
    hub["spec"]["metrics"].append(pods)
    hub["spec"]["behavior"] = {
        "scaleDown": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}
    }
    old = converter.from_hub(hub)
    assert old["spec"]["targetCPUUtilizationPercentage"] == 70 and "metrics" not in old["spec"]
    assert old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"] == (
        '[{"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"100"}}]'
    )
    back = converter.to_hub(old)
    assert sorted(back["spec"]["metrics"], key=str) == sorted(hub["spec"]["metrics"], key=str)
    assert back["spec"]["behavior"] == hub["spec"]["behavior"] and "annotations" not in back["metadata"]


def test_autoscaler_defaults() -> None:
    hpa = resource("horizontalpodautoscalers", "autoscaling")
    spec = created(hpa, obj(hpa, spec={"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3}))["spec"]
    assert spec["minReplicas"] == 1
    assert spec["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ]
