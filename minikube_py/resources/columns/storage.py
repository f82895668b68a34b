"""Volumes, claims, storage classes, CSI, and devices (resource.k8s.io)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minikube_py.resources.api import Columns, Obj
from minikube_py.resources.columns.base import age, columns
from minikube_py.types.storage import BETA_CLASS

_MODES = (("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP"))


def _modes(modes: Sequence[str] | None) -> str:
    return ",".join(short for long, short in _MODES if long in (modes or ()))


def _class(obj: Obj) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    if BETA_CLASS in annotations:
        return str(annotations[BETA_CLASS])
    name = (obj.get("spec") or {}).get("storageClassName")
    return str(name or "")


def _or_unset(value: Any) -> Any:
    return "<unset>" if value is None else value


def _phase(obj: Obj) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else str((obj.get("status") or {}).get("phase", ""))


def _volume(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    claim = spec.get("claimRef")
    return (
        obj["metadata"].get("name", ""), str((spec.get("capacity") or {}).get("storage", "0")), _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""), _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", _class(obj),
        _or_unset(spec.get("volumeAttributesClassName")), (obj.get("status") or {}).get("reason", ""), age(obj, now),
        _or_unset(spec.get("volumeMode")),
    )  # fmt: skip


def _claim(obj: Obj, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = spec.get("volumeName") or ""
    return (
        obj["metadata"].get("name", ""), _phase(obj), bound,
        str((status.get("capacity") or {}).get("storage", "0")) if bound else "", _modes(status.get("accessModes")) if bound else "",
        _class(obj), _or_unset(spec.get("volumeAttributesClassName")), age(obj, now), _or_unset(spec.get("volumeMode")),
    )  # fmt: skip


def _default_class(obj: Obj, *annotations: str) -> str:
    given = obj["metadata"].get("annotations") or {}
    return str(obj["metadata"].get("name", "")) + (" (default)" if any(given.get(a) == "true" for a in annotations) else "")


def _storage_class(obj: Obj, now: float) -> Sequence[Any]:
    name = _default_class(obj, "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
    return (
        name, obj.get("provisioner", ""), obj.get("reclaimPolicy") or "Delete", obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")), age(obj, now),
    )  # fmt: skip


def _attributes_class(obj: Obj, now: float) -> Sequence[Any]:
    name = _default_class(obj, "storageclass.kubernetes.io/is-default-class")
    return name, obj.get("driverName", ""), age(obj, now)


def _attachment(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return obj["metadata"].get("name", ""), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)


def _csi_node(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), len((obj.get("spec") or {}).get("drivers") or ()), age(obj, now)


def _csi_driver(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    tokens = spec.get("tokenRequests")
    return (
        obj["metadata"].get("name", ""), spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")), bool(spec.get("storageCapacity")),
        "<unset>" if tokens is None else ",".join(t.get("audience", "") for t in tokens), bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>", age(obj, now),
    )  # fmt: skip


def _csi_capacity(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), obj.get("storageClassName", ""), str(_or_unset(obj.get("capacity")))


def _named(obj: Obj, now: float) -> Sequence[Any]:
    return obj["metadata"].get("name", ""), age(obj, now)


def _resource_claim(obj: Obj, now: float) -> Sequence[Any]:
    status, deleted = obj.get("status") or {}, bool(obj["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status.get("allocation") is None:
        states += [] if deleted else ["pending"]
    else:
        states += ["allocated"] + (["reserved"] if status.get("reservedFor") else [])
    return obj["metadata"].get("name", ""), ",".join(states), age(obj, now)


def _resource_slice(obj: Obj, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name", "")
    return obj["metadata"].get("name", ""), spec.get("nodeName") or "", spec.get("driver", ""), pool, age(obj, now)


VOLUMES = Columns(
    columns("Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, VolumeMode+"),
    _volume,
)
CLAIMS = Columns(columns("Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, VolumeMode+"), _claim)
STORAGE_CLASSES = Columns(columns("Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age"), _storage_class)
ATTRIBUTES_CLASSES = Columns(columns("Name, DriverName, Age"), _attributes_class)
ATTACHMENTS = Columns(columns("Name, Attacher, PV, Node, Attached:boolean, Age"), _attachment)
CSI_NODES = Columns(columns("Name, Drivers:integer, Age"), _csi_node)
CSI_DRIVERS = Columns(
    columns(
        "Name, AttachRequired:boolean, PodInfoOnMount:boolean, StorageCapacity:boolean, TokenRequests, "
        "RequiresRepublish:boolean, Modes, Age"
    ),
    _csi_driver,
)
CSI_CAPACITIES = Columns(columns("Name, StorageClassName, Capacity"), _csi_capacity)
NAMED = Columns(columns("Name, Age"), _named)
RESOURCE_CLAIMS = Columns(columns("Name, State, Age"), _resource_claim)
RESOURCE_SLICES = Columns(columns("Name, Node, Driver, Pool, Age"), _resource_slice)
