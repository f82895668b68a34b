"""Persistent volumes and claims on them. Upstream: pkg/registry/core/{persistentvolume,persistentvolumeclaim}."""

from __future__ import annotations

from typing import Any

from minikube_py.meta import names, quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources import placement, rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.podspec_defaults import VOLUME_DEFAULTS, default_claim_spec
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import fill

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_SOURCES = frozenset(
    [
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "csi",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "glusterfs",
        "hostPath",
        "iscsi",
        "local",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ]
)


def claim_spec(path: str, spec: Obj) -> Faults:
    """The spec of a claim, here and in templates."""
    modes = spec.get("accessModes") or ()
    if not modes:
        yield Cause.required(f"{path}.accessModes", "at least 1 access mode is required")
    for mode in modes:
        if mode not in ACCESS_MODES:
            yield Cause.not_supported(f"{path}.accessModes", mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        words = "may not use ReadWriteOncePod with other access modes"
        yield Cause.forbidden(f"{path}.accessModes", words)
    yield from rules.selector(f"{path}.selector", spec.get("selector"))
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is None:
        yield Cause.required(f"{path}.resources[storage]")
    else:
        faults = list(rules.amount(f"{path}.resources[storage]", asked))
        yield from faults
        if not faults and quantity.parse(asked).nano <= 0:
            yield Cause.invalid(f"{path}.resources[storage]", asked, rules.POSITIVE)
    if spec.get("storageClassName"):
        yield from rules.checked(f"{path}.storageClassName", spec["storageClassName"], names.dns1123_subdomain)
    yield from rules.optional(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source is not None:
            for part in ("name", "kind"):
                if not source.get(part):
                    yield Cause.required(f"{path}.{field}.{part}")
            if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
                yield Cause.invalid(
                    f"{path}.{field}", source.get("kind"), "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
                )


class PersistentVolumeClaimStrategy(Strategy):
    """A claim hardly changes: it may grow, once it is bound."""

    has_status = True
    has_generation = False
    initial_status = {"phase": "Pending"}
    selectable_fields: dict[str, Any] = {}

    def default(self, obj: Obj) -> None:
        default_claim_spec(obj.setdefault("spec", {}))

    def validate(self, obj: Obj) -> list[Cause]:
        return list(claim_spec("spec", obj["spec"]))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            capacity = (obj.get("status") or {}).get("capacity") or {}
            return [c for name, value in capacity.items() for c in rules.amount(f"status.capacity[{name}]", value)]
        return [*self.validate(obj), *_claim_update(obj, old)]


def _storage(spec: Obj) -> Any:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")


def _claim_update(obj: Obj, old: Obj) -> Faults:
    spec, before = dict(obj["spec"]), dict(old["spec"])
    new_size, old_size = quantity.parse(_storage(spec)), quantity.parse(_storage(before))
    if not before.get("volumeName"):
        # a claim may be bound by whoever binds it
        spec.pop("volumeName", None)
        before.pop("volumeName", None)
    if before.get("storageClassName") is None and spec.get("storageClassName") is not None:
        # the default class may be filled in later
        spec.pop("storageClassName")
    for given in (spec, before):
        given.pop("volumeAttributesClassName", None)
    if (old.get("status") or {}).get("phase") == "Bound":
        for given in (spec, before):
            resources = dict(given.get("resources") or {})
            resources["requests"] = {k: v for k, v in (resources.get("requests") or {}).items() if k != "storage"}
            given["resources"] = rules.without(resources, ())
    if rules.without(spec, ()) != rules.without(before, ()):
        words = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        yield Cause.forbidden("spec", words)
    if new_size < old_size:
        capacity = quantity.parse(((old.get("status") or {}).get("capacity") or {}).get("storage", "0"))
        if new_size <= capacity:
            yield Cause.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


class PersistentVolumeStrategy(Strategy):
    """A piece of storage."""

    has_status = True
    has_generation = False
    initial_status = {"phase": "Pending"}

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        fill(spec, volumeMode="Filesystem")
        for source, rule in VOLUME_DEFAULTS.items():
            if spec.get(source) is not None:
                rule(spec[source])

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        obj["status"]["lastPhaseTransitionTime"] = _now(context)

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        super().prepare_update(obj, old, context)
        if context.subresource == "status":
            status, before = obj.setdefault("status", {}), old.get("status") or {}
            told = status.get("lastPhaseTransitionTime") != before.get("lastPhaseTransitionTime")
            if status.get("phase") != before.get("phase") and not told:
                status["lastPhaseTransitionTime"] = _now(context)

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_volume("spec", obj["spec"]))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            return []
        found = self.validate(obj)
        spec, before = obj["spec"], old["spec"]
        if {k: spec.get(k) for k in _SOURCES if spec.get(k)} != {k: before.get(k) for k in _SOURCES if before.get(k)}:
            found.append(Cause.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"))
        found += rules.unchanged("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
        if before.get("nodeAffinity"):
            found += rules.unchanged("nodeAffinity", spec.get("nodeAffinity"), before.get("nodeAffinity"))
        return found


def _now(context: WriteContext) -> str:
    from minikube_py.types.meta import timestamp

    return timestamp(context.now)


def _volume(path: str, spec: Obj) -> Faults:
    modes = spec.get("accessModes") or ()
    if not modes:
        yield Cause.required(f"{path}.accessModes")
    for mode in modes:
        if mode not in ACCESS_MODES:
            yield Cause.not_supported(f"{path}.accessModes", mode, ACCESS_MODES)
    capacity = spec.get("capacity") or {}
    if not capacity:
        yield Cause.required(f"{path}.capacity")
    if "storage" not in capacity or len(capacity) > 1:
        yield Cause.not_supported(f"{path}.capacity", _unknown(capacity), ("storage",))
    for name, value in capacity.items():
        faults = list(rules.amount(f"{path}.capacity[{name}]", value))
        yield from faults
        if not faults and quantity.parse(value).nano <= 0:
            yield Cause.invalid(f"{path}.capacity[{name}]", value, rules.POSITIVE)
    yield from rules.one_of(
        f"{path}.persistentVolumeReclaimPolicy", spec.get("persistentVolumeReclaimPolicy"), ("Delete", "Recycle", "Retain")
    )
    sources = [name for name in spec if name in _SOURCES and spec[name] is not None]
    if not sources:
        yield Cause.required(path, "must specify a volume type")
    for name in sources[1:]:
        yield Cause.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
    for name in sources[:1]:
        yield from _source(f"{path}.{name}", name, spec)
    if (affinity := spec.get("nodeAffinity")) is not None:
        if affinity.get("required") is None:
            yield Cause.required(f"{path}.nodeAffinity.required", "must specify required node constraints")
        else:
            yield from placement.node_selector(f"{path}.nodeAffinity.required", affinity["required"])
    if spec.get("storageClassName"):
        yield from rules.checked(f"{path}.storageClassName", spec["storageClassName"], names.dns1123_subdomain)
    yield from rules.optional(f"{path}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)


def _unknown(capacity: Obj) -> str:
    return ",".join(sorted(n for n in capacity if n != "storage"))


def _source(path: str, name: str, spec: Obj) -> Faults:
    given = spec[name]
    if name == "hostPath":
        if given.get("path") == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            yield Cause.forbidden("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")
        if not given.get("path"):
            yield Cause.required(f"{path}.path")
        else:
            yield from rules.no_backsteps(f"{path}.path", given["path"])
    elif name == "local":
        if not given.get("path"):
            yield Cause.required(f"{path}.path")
        else:
            yield from rules.no_backsteps(f"{path}.path", given["path"])
        if spec.get("nodeAffinity") is None:
            yield Cause.required("metadata.annotations", "Local volume requires node affinity")
    elif name == "nfs":
        for field in ("server", "path"):
            if not given.get(field):
                yield Cause.required(f"{path}.{field}")
    elif name == "csi":
        for field in ("driver", "volumeHandle"):
            if not given.get(field):
                yield Cause.required(f"{path}.{field}")
