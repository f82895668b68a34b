"""What people see: cells as upstream's printers make them."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.resources.columns.base import human_duration
from tests.resources.values import NOW, TEMPLATE, obj, resource

OLD = "2023-11-14T20:13:20Z"  # two hours before NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (59, "59s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (180 * 60, "3h"),
        (7 * 3600 + 59 * 60, "7h59m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (740 * 86400, "2y10d"),
        (3000 * 86400, "8y"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def row(plural: str, given: dict[str, Any], group: str = "", *, wide: bool = True) -> dict[str, Any]:
    """The cells of an object by column name."""
    kind = resource(plural, group)
    cells = list(kind.columns.cells(given, NOW))
    return {c.name: v for c, v in zip(kind.columns.definitions, cells, strict=True) if wide or not c.priority}


def pod(status: dict[str, Any], *, deleted: bool = False, **spec: Any) -> dict[str, Any]:
    found = obj(resource("pods"), spec={"containers": [{"name": "a"}, {"name": "b"}], **spec}, status=status)
    found["metadata"]["creationTimestamp"] = OLD
    if deleted:
        found["metadata"]["deletionTimestamp"] = OLD
    return found


def container(name: str, state: dict[str, Any], *, ready: bool = False, restarts: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "ready": ready, "restartCount": restarts, **more}


RUNNING: dict[str, Any] = {"running": {}}
ENDED = {"lastState": {"terminated": {"finishedAt": "2023-11-14T22:08:20Z"}}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod({"phase": "Pending"}), ("0/2", "Pending", "0")),
        (
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [container("a", RUNNING, ready=True, restarts=3, **ENDED), container("b", RUNNING, ready=True)],
                }
            ),
            ("2/2", "Running", "3 (5m ago)"),
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [container("a", {"waiting": {"reason": "CrashLoopBackOff"}}), container("b", RUNNING, ready=True)],
                }
            ),
            ("1/2", "CrashLoopBackOff", "0"),
        ),
        (
            pod(
                {"phase": "Pending", "initContainerStatuses": [container("i", {"terminated": {"exitCode": 0}}), container("j", RUNNING)]},
                initContainers=[{"name": "i"}, {"name": "j"}],
            ),
            ("0/2", "Init:1/2", "0"),
        ),
        (
            pod(
                {"phase": "Pending", "initContainerStatuses": [container("i", {"terminated": {"exitCode": 3}}, restarts=1)]},
                initContainers=[{"name": "i"}],
            ),
            ("0/2", "Init:ExitCode:3", "1"),
        ),
        (
            pod(
                {"phase": "Pending", "initContainerStatuses": [container("i", {"waiting": {"reason": "ImagePullBackOff"}})]},
                initContainers=[{"name": "i"}],
            ),
            ("0/2", "Init:ImagePullBackOff", "0"),
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "conditions": [{"type": "Initialized", "status": "True"}],
                    "initContainerStatuses": [container("s", RUNNING, ready=True, restarts=1, started=True)],
                    "containerStatuses": [container("a", RUNNING, ready=True), container("b", RUNNING, ready=True, restarts=1)],
                },
                initContainers=[{"name": "s", "restartPolicy": "Always"}],
            ),
            ("3/3", "Running", "2"),
        ),
        (pod({"phase": "Running"}, deleted=True), ("0/2", "Terminating", "0")),
        (pod({"phase": "Running", "reason": "NodeLost"}, deleted=True), ("0/2", "Unknown", "0")),
        (
            pod(
                {"phase": "Succeeded", "containerStatuses": [container("a", {"terminated": {"reason": "Completed", "exitCode": 0}})]},
                deleted=True,
            ),
            ("0/2", "Completed", "0"),
        ),
        (
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [container("a", {"terminated": {"reason": "Completed"}}), container("b", RUNNING, ready=True)],
                }
            ),
            ("1/2", "NotReady", "0"),
        ),
        (pod({"phase": "Failed", "containerStatuses": [container("a", {"terminated": {"signal": 9}})]}), ("0/2", "Signal:9", "0")),
        (pod({"phase": "Failed", "reason": "Evicted"}), ("0/2", "Evicted", "0")),
        (
            pod({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            ("0/2", "SchedulingGated", "0"),
        ),
    ],
)
def test_pods(given: dict[str, Any], expected: tuple[str, str, str]) -> None:
    cells = row("pods", given)
    assert (cells["Ready"], cells["Status"], cells["Restarts"]) == expected
    assert cells["Age"] == "120m"


def test_wide_pods() -> None:
    status = {"phase": "Running", "podIPs": [{"ip": "10.42.0.7"}], "conditions": [{"type": "x", "status": "True"}]}
    cells = row("pods", pod(status, nodeName="n1", readinessGates=[{"conditionType": "x"}, {"conditionType": "y"}]))
    assert [cells[c] for c in ("IP", "Node", "Nominated Node", "Readiness Gates")] == ["10.42.0.7", "n1", "<none>", "1/2"]
    assert list(row("pods", pod(status), wide=False)) == ["Name", "Ready", "Status", "Restarts", "Age"]


def test_completed_pods_are_marked() -> None:
    conditions = resource("pods").columns.conditions
    assert conditions
    assert [c["reason"] for c in conditions(pod({"phase": "Succeeded"}))] == ["Succeeded"]
    assert not conditions(pod({"phase": "Running"}))


def test_workloads() -> None:
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE}
    given = obj(resource("deployments", "apps"), spec=spec, status={"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2})
    assert row("deployments", given, "apps") == {
        "Name": "web",
        "Ready": "2/3",
        "Up-to-date": 3,
        "Available": 2,
        "Age": "<unknown>",
        "Containers": "c",
        "Images": "nginx:1.27",
        "Selector": "app=web",
    }
    given = obj(resource("replicasets", "apps"), spec=spec, status={"replicas": 3, "readyReplicas": 1})
    cells = row("replicasets", given, "apps")
    assert (cells["Desired"], cells["Current"], cells["Ready"]) == (3, 3, 1)
    given = obj(resource("daemonsets", "apps"), spec=spec, status={"desiredNumberScheduled": 2, "numberReady": 1})
    cells = row("daemonsets", given, "apps", wide=False)
    assert list(cells) == ["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"]
    assert (cells["Desired"], cells["Ready"], cells["Node Selector"]) == (2, 1, "<none>")


def test_jobs() -> None:
    given = obj(
        resource("jobs", "batch"),
        spec={"completions": 3},
        status={"succeeded": 1, "startTime": OLD, "completionTime": "2023-11-14T20:14:20Z"},
    )
    cells = row("jobs", given, "batch", wide=False)
    assert (cells["Status"], cells["Completions"], cells["Duration"]) == ("Running", "1/3", "60s")
    given["status"]["conditions"] = [{"type": "Complete", "status": "True"}]
    assert row("jobs", given, "batch")["Status"] == "Complete"
    given = obj(resource("cronjobs", "batch"), spec={"schedule": "* * * * *", "suspend": False}, status={"lastScheduleTime": OLD})
    cells = row("cronjobs", given, "batch", wide=False)
    assert (cells["Timezone"], cells["Suspend"], cells["Active"], cells["Last Schedule"]) == ("<none>", "False", 0, "120m")


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        (
            {"type": "ClusterIP", "clusterIPs": ["10.43.0.1"], "ports": [{"port": 443, "protocol": "TCP"}]},
            {},
            ("10.43.0.1", "<none>", "443/TCP"),
        ),
        ({"type": "ClusterIP", "clusterIPs": ["None"]}, {}, ("None", "<none>", "<none>")),
        (
            {
                "type": "NodePort",
                "clusterIPs": ["10.43.0.2"],
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            },
            {},
            ("10.43.0.2", "<none>", "80:30080/TCP,53/UDP"),
        ),
        ({"type": "LoadBalancer", "clusterIPs": ["10.43.0.3"]}, {}, ("10.43.0.3", "<pending>", "<none>")),
        (
            {"type": "LoadBalancer"},
            {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.example"}]}},
            ("<none>", "1.2.3.4,a.example", "<none>"),
        ),
        ({"type": "ExternalName", "externalName": "example.com"}, {}, ("<none>", "example.com", "<none>")),
    ],
)
def test_services(spec: dict[str, Any], status: dict[str, Any], expected: tuple[str, str, str]) -> None:
    cells = row("services", obj(resource("services"), spec=spec, status=status))
    assert (cells["Cluster-IP"], cells["External-IP"], cells["Port(s)"]) == expected


def test_endpoints() -> None:
    addresses = [{"ip": f"10.0.0.{i}"} for i in range(1, 6)]
    given = obj(resource("endpoints"), subsets=[{"addresses": addresses, "ports": [{"port": 80}]}])
    assert row("endpoints", given)["Endpoints"] == "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    assert row("endpoints", obj(resource("endpoints")))["Endpoints"] == "<none>"
    given = obj(
        resource("endpointslices", "discovery.k8s.io"), addressType="IPv4", ports=[{"port": 80}], endpoints=[{"addresses": ["10.0.0.1"]}]
    )
    cells = row("endpointslices", given, "discovery.k8s.io")
    assert (cells["AddressType"], cells["Ports"], cells["Endpoints"]) == ("IPv4", "80", "10.0.0.1")
    assert row("endpointslices", obj(resource("endpointslices", "discovery.k8s.io")), "discovery.k8s.io")["Ports"] == "<unset>"


def test_nodes() -> None:
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "192.168.1.5"}],
        "nodeInfo": {
            "kubeletVersion": "v1.36.0",
            "osImage": "Debian",
            "kernelVersion": "6.1",
            "containerRuntimeVersion": "containerd://1.6",
        },
    }
    given = obj(resource("nodes"), "n1", spec={"unschedulable": True}, status=status)
    given["metadata"]["labels"] = {"node-role.kubernetes.io/control-plane": "true", "kubernetes.io/role": "extra"}
    assert row("nodes", given) == {
        "Name": "n1",
        "Status": "Ready,SchedulingDisabled",
        "Roles": "control-plane,extra",
        "Age": "<unknown>",
        "Version": "v1.36.0",
        "Internal-IP": "192.168.1.5",
        "External-IP": "<none>",
        "OS-Image": "Debian",
        "Kernel-Version": "6.1",
        "Container-Runtime": "containerd://1.6",
    }
    assert row("nodes", obj(resource("nodes"), "n2"))["Status"] == "Unknown"


def test_events() -> None:
    given = obj(
        resource("events"),
        involvedObject={"kind": "Pod", "name": "web"},
        type="Warning",
        reason="BackOff",
        message=" failed \n",
        firstTimestamp=OLD,
        lastTimestamp="2023-11-14T22:12:20Z",
        count=4,
        source={"component": "kubelet", "host": "n1"},
    )
    cells = row("events", given)
    assert [cells[c] for c in ("Last Seen", "Object", "Source", "Message", "First Seen", "Count")] == [
        "60s",
        "pod/web",
        "kubelet, n1",
        "failed",
        "120m",
        4,
    ]
    assert list(row("events", given, wide=False)) == ["Last Seen", "Type", "Reason", "Object", "Message"]


def test_configuration_and_storage() -> None:
    assert row("configmaps", obj(resource("configmaps"), data={"a": ""}, binaryData={"b": ""}))["Data"] == 2
    assert row("secrets", obj(resource("secrets"), type="Opaque"))["Data"] == 0
    claim = obj(resource("persistentvolumeclaims"), spec={"volumeName": "pv", "storageClassName": "fast", "volumeMode": "Filesystem"})
    claim["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}
    cells = row("persistentvolumeclaims", claim)
    assert [cells[c] for c in ("Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "VolumeMode")] == [
        "Bound",
        "pv",
        "1Gi",
        "RWO,RWX",
        "fast",
        "<unset>",
        "Filesystem",
    ]
    given = obj(resource("storageclasses", "storage.k8s.io"), "fast", provisioner="p")
    given["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    assert row("storageclasses", given, "storage.k8s.io")["Name"] == "fast (default)"


def test_access() -> None:
    given = obj(
        resource("rolebindings", "rbac.authorization.k8s.io"),
        roleRef={"kind": "Role", "name": "r"},
        subjects=[{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "s", "namespace": "ns"}],
    )
    cells = row("rolebindings", given, "rbac.authorization.k8s.io")
    assert [cells[c] for c in ("Role", "Users", "Groups", "ServiceAccounts")] == ["Role/r", "ann", "", "ns/s"]


def test_autoscalers() -> None:
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]
    given = obj(
        resource("horizontalpodautoscalers", "autoscaling"),
        spec={"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 4, "metrics": metrics},
    )
    cells = row("horizontalpodautoscalers", given, "autoscaling")
    assert [cells[c] for c in ("Reference", "Targets", "MinPods", "MaxPods", "Replicas")] == [
        "Deployment/web",
        "cpu: <unknown>/80%",
        "1",
        4,
        0,
    ]
    given["status"] = {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]}
    assert row("horizontalpodautoscalers", given, "autoscaling")["Targets"] == "cpu: 12%/80%"
