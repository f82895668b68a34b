"""The defaults of pod specs, wherever one stands: in a pod, in a PodTemplate, in the template of a workload.

Upstream: pkg/apis/core/v1/defaults.go. What always holds: defaulting twice is as defaulting once; values are filled in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minikube_py.resources.api import Obj

DEFAULT_MODE = 0o644
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def default_pod_spec(spec: Obj) -> None:
    """Defaults that every pod spec has."""
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in spec.get("containers") or ():
        default_container(container)
    for name in ("initContainers", "ephemeralContainers"):
        for container in spec.get(name) or ():
            default_container(container)
    for volume in spec.get("volumes") or ():
        default_volume(volume)


def default_template(spec: Obj) -> None:
    """Defaults of the pod template of a workload's spec."""
    template = spec.get("template")
    if template is not None:
        template.setdefault("metadata", {})
        default_pod_spec(template.setdefault("spec", {}))


def default_pod(pod: Obj) -> None:
    """Defaults that a pod has beyond those of every pod spec."""
    spec = pod.setdefault("spec", {})
    default_pod_spec(spec)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or ():
            resources = container["resources"]
            limits = resources.get("limits")
            if limits:
                resources["requests"] = {**limits, **(resources.get("requests") or {})}
            if spec.get("hostNetwork"):
                for port in container.get("ports") or ():
                    if not port.get("hostPort"):
                        port["hostPort"] = port.get("containerPort", 0)
    resources = spec.get("resources")
    if resources and resources.get("limits"):
        _default_pod_requests(spec, resources)


_POD_LEVEL = ("cpu", "memory")


def _default_pod_requests(spec: Obj, resources: Obj) -> None:
    """Requests of the whole pod: what its containers ask for together, or its limits."""
    from minikube_py.resources.quantities import container_requests

    requests = dict(resources.get("requests") or {})
    together = container_requests(spec)
    for source in (together, resources["limits"]):
        for name, value in source.items():
            if name in _POD_LEVEL or name.startswith("hugepages-"):
                requests.setdefault(name, value)
    if requests:
        resources["requests"] = requests


def default_container(container: Obj) -> None:
    """Defaults of a container of any of the three lists."""
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if container.get("resources") is None:
        container["resources"] = {}
    for port in container.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            _default_source(source)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is not None:
            default_probe(probe)
    if lifecycle := container.get("lifecycle"):
        for name in ("postStart", "preStop"):
            if handler := lifecycle.get(name):
                _default_http(handler.get("httpGet"))


def pull_policy(image: str) -> str:
    """Always for what has the tag latest or none, else IfNotPresent."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _default_source(source: Obj) -> None:
    if (field := source.get("fieldRef")) and not field.get("apiVersion"):
        field["apiVersion"] = "v1"
    if (resource := source.get("resourceFieldRef")) and resource.get("divisor") is None:
        resource["divisor"] = "0"
    if (file := source.get("fileKeyRef")) and file.get("optional") is None:
        file["optional"] = False


_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def default_probe(probe: Obj) -> None:
    """Defaults of a probe of any kind."""
    for name, value in _PROBE.items():
        if not probe.get(name):
            probe[name] = value
    _default_http(probe.get("httpGet"))
    if (grpc := probe.get("grpc")) is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _default_http(action: Obj | None) -> None:
    if action is not None:
        action["path"] = action.get("path") or "/"
        action["scheme"] = action.get("scheme") or "HTTP"


def default_volume(volume: Obj) -> None:
    """Defaults of a pod's volume; one without a source is an emptyDir."""
    source = next((name for name, value in volume.items() if name != "name" and value is not None), None)
    if source is None:
        volume["emptyDir"] = {}
    elif rule := _VOLUMES.get(source):
        rule(volume[source])


def _fill(**defaults: Any) -> Callable[[Obj], None]:
    """Sets what is absent, empty or (for numbers) None."""

    def fill(source: Obj) -> None:
        for name, value in defaults.items():
            if source.get(name) is None or source[name] == "" != value:
                source[name] = value

    return fill


def _items(items: Iterable[Obj] | None) -> None:
    for item in items or ():
        _default_source(item)


def _downward(source: Obj) -> None:
    _fill(defaultMode=DEFAULT_MODE)(source)
    _items(source.get("items"))


def _projected(source: Obj) -> None:
    _fill(defaultMode=DEFAULT_MODE)(source)
    for projection in source.get("sources") or ():
        if (token := projection.get("serviceAccountToken")) is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        if (downward := projection.get("downwardAPI")) is not None:
            _items(downward.get("items"))


def _ephemeral(source: Obj) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None:
        if template.get("metadata") is None:
            template["metadata"] = {}  # a Go client sends it back
        default_claim_spec(template.setdefault("spec", {}))


def _image(source: Obj) -> None:
    if source.get("reference") and not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source["reference"])


def default_claim_spec(spec: Obj) -> None:
    """Defaults of a PersistentVolumeClaimSpec, here and in claims themselves."""
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    if spec.get("resources") is None:
        spec["resources"] = {}


VOLUME_DEFAULTS: Mapping[str, Callable[[Obj], None]] = {
    "hostPath": lambda source: source.setdefault("type", "") and None,
    "iscsi": _fill(iscsiInterface="default"),
    "rbd": _fill(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "azureDisk": _fill(cachingMode="ReadWrite", fsType="ext4", readOnly=False, kind="Shared"),
    "scaleIO": _fill(storageMode="ThinProvisioned", fsType="xfs"),
}
"""Sources that pods and persistent volumes have in common."""

_VOLUMES: Mapping[str, Callable[[Obj], None]] = {
    **VOLUME_DEFAULTS,
    "secret": _fill(defaultMode=DEFAULT_MODE),
    "configMap": _fill(defaultMode=DEFAULT_MODE),
    "downwardAPI": _downward,
    "projected": _projected,
    "ephemeral": _ephemeral,
    "image": _image,
}
