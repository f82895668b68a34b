"""What a pod as a whole may ask for and be limited to (pod-level resources, KEP-2837), and other rules that span its containers. Pure."""

from __future__ import annotations

from minikube_py.meta import names, quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj
from minikube_py.resources.quantities import container_requests
from minikube_py.resources.rules import Faults

_LISTED = ("initContainers", "containers", "ephemeralContainers")


def resources(path: str, spec: Obj) -> Faults:
    """spec.resources: CPU, memory and huge pages, at least what the containers ask for together, no container limited above it."""
    given: Obj = spec["resources"]
    if (spec.get("os") or {}).get("name") == "windows":
        yield Cause.forbidden(path, "may not be set for a windows pod")
        return
    if given.get("claims") is not None:
        yield Cause.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    faults = list(rules.resources(path, given, _name))
    yield from faults
    if faults:
        return
    requests, limits = given.get("requests") or {}, given.get("limits") or {}
    for name, together in container_requests(spec).items():
        if name in requests and quantity.parse(requests[name]) < quantity.parse(together):
            words = f"must be greater than or equal to aggregate container requests of {together}"
            yield Cause.invalid(f"{path}.requests[{name}]", str(quantity.parse(requests[name])), words)
    for i, container in enumerate(spec.get("containers") or ()):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and quantity.parse(limits[name]) < quantity.parse(limit):
                words = f"must be less than or equal to pod limits of {quantity.parse(limits[name])}"
                yield Cause.invalid(f"{path}.containers[{i}][{name}].limits", str(quantity.parse(limit)), words)


def _name(path: str, name: str) -> Faults:
    if name not in ("cpu", "memory") and not name.startswith("hugepages-"):
        yield Cause.not_supported(path, name, ("cpu", "hugepages-", "memory"))


def hostname(path: str, spec: Obj) -> Faults:
    """spec.hostnameOverride (KEP-4762)."""
    wanted = spec.get("hostnameOverride")
    if wanted is None:
        return
    here = f"{path}.hostnameOverride"
    for field in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(field):
            yield Cause.forbidden(here, f"may not be specified when {field} is true")
    if len(wanted) > 64:
        yield Cause.too_long(here, 64)
    yield from rules.checked(here, wanted, names.dns1123_subdomain)


def proc_mounts(path: str, spec: Obj) -> Faults:
    """An unmasked /proc is for pods whose users are not the node's."""
    if spec.get("hostUsers") is False:
        return
    for listed in _LISTED:
        for i, container in enumerate(spec.get(listed) or ()):
            if (container.get("securityContext") or {}).get("procMount") == "Unmasked":
                here = f"{path}.{listed}[{i}].securityContext.procMount"
                yield Cause.invalid(here, "Unmasked", "`hostUsers` must be false to use `Unmasked`")


def key_files(path: str, spec: Obj) -> Faults:
    """The volumes of env[].valueFrom.fileKeyRef (KEP-3721): they are emptyDirs of the pod."""
    volumes: dict[str, Obj] = {v.get("name") or "": v for v in spec.get("volumes") or ()}
    for listed in _LISTED:
        for i, container in enumerate(spec.get(listed) or ()):
            for j, variable in enumerate(container.get("env") or ()):
                ref = (variable.get("valueFrom") or {}).get("fileKeyRef")
                if ref is None:
                    continue
                here, name = f"{path}.{listed}[{i}].env[{j}].valueFrom.fileKeyRef.volumeName", ref.get("volumeName") or ""
                if name not in volumes:
                    yield Cause.not_found(here, name)
                elif volumes[name].get("emptyDir") is None:
                    yield Cause.invalid(here, name, "referenced volume must be of type emptyDir")
