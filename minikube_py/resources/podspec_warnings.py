"""What a pod spec may be, but had better not: warnings in upstream's words (pkg/api/pod/warnings.go)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minikube_py.meta import names, quantity
from minikube_py.resources.api import Obj

_LABELS: Mapping[str, str] = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_VOLUMES: Mapping[str, str] = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


def pod_warnings(pod: Obj) -> list[str]:
    """Warnings of a pod."""
    found = list(spec_warnings("spec", pod.get("spec") or {}))
    name = pod["metadata"].get("name") or ""
    if faults := names.dns1123_label(name):
        words = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        found.append(f"metadata.name: {words}: [{', '.join(faults)}]")
    return found


def template_warnings(template: Obj, path: str = "spec.template") -> list[str]:
    """Warnings of a workload's template."""
    return list(spec_warnings(f"{path}.spec", (template or {}).get("spec") or {}))


def spec_warnings(path: str, spec: Obj) -> Iterator[str]:
    """Warnings of a pod spec."""
    for key in spec.get("nodeSelector") or ():
        if key in _LABELS:
            yield f"{path}.nodeSelector[{key}]: {_LABELS[key]}"
    for i, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        key = constraint.get("topologyKey")
        if key in _LABELS:
            yield f"{path}.topologySpreadConstraints[{i}].topologyKey: {key} is {_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{path}.topologySpreadConstraints[{i}].labelSelector: a null labelSelector results in matching no pod"
    for i, volume in enumerate(spec.get("volumes") or ()):
        for kind in volume:
            if kind in _VOLUMES:
                yield f"{path}.volumes[{i}].{kind}: {_VOLUMES[kind]}"
    aliases: dict[str, int] = {}
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        if alias.get("ip") in aliases:
            yield f"{path}.hostAliases[{i}].ip: duplicate ip {alias.get('ip')}"
        aliases[alias.get("ip", "")] = i
    secrets: set[str] = set()
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        name = secret.get("name") or ""
        if not name:
            yield f"{path}.imagePullSecrets[{i}]: invalid empty name {name}"
        elif name in secrets:
            yield f"{path}.imagePullSecrets[{i}]: duplicate name {name}"
        secrets.add(name)
    for listed in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(listed) or ()):
            yield from _container(f"{path}.{listed}[{i}]", container)
    yield from _ports(path, spec)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"


def _container(path: str, container: Obj) -> Iterator[str]:
    for part in ("limits", "requests"):
        for name, value in ((container.get("resources") or {}).get(part) or {}).items():
            if name in ("memory", "ephemeral-storage"):
                amount = quantity.parse(value)
                if amount.nano % quantity.NANO:
                    yield f'{path}.resources.{part}[{name}]: fractional byte value "{amount}" is invalid, must be an integer'
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            yield f'{path}.env[{i}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(path: str, spec: Obj) -> Iterator[str]:
    seen: dict[tuple[object, ...], str] = {}
    for listed in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(listed) or ()):
            if listed == "initContainers" and container.get("restartPolicy") != "Always":
                continue
            for j, port in enumerate(container.get("ports") or ()):
                here = f"{path}.{listed}[{i}].ports[{j}]"
                key = (port.get("containerPort"), port.get("protocol", "TCP"), port.get("hostPort") or 0, port.get("hostIP") or "")
                if key in seen:
                    yield f"{here}: duplicate port definition with {seen[key]}"
                else:
                    seen[key] = here
                    name = port.get("name")
                    if name and ("name", name) in seen:
                        yield f'{here}.name: duplicate port name "{name}" with {seen["name", name]}.name, services and probes that select ports by name will use {seen["name", name]}.name'  # noqa: E501
                    elif name:
                        seen["name", name] = here
