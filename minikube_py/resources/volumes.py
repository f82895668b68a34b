"""What a pod's volumes may be. Upstream: pkg/apis/core/validation (ValidateVolumes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj
from minikube_py.resources.containers import PULL_POLICIES, field_ref, resource_ref
from minikube_py.resources.rules import Faults

HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def volumes(path: str, given: Sequence[Obj]) -> Faults:
    """All volumes of a pod."""
    taken: set[str] = set()
    for i, volume in enumerate(given):
        here, name = f"{path}[{i}]", volume.get("name") or ""
        if not name:
            yield Cause.required(f"{here}.name")
        else:
            yield from rules.checked(f"{here}.name", name, names.dns1123_label)
        if name in taken:
            yield Cause.duplicate(f"{here}.name", name)
        taken.add(name)
        yield from source(here, volume)


def source(path: str, volume: Obj) -> Faults:
    """The one source of a volume (a pod's; a persistent volume's sources are of the same form)."""
    kinds = [kind for kind, value in volume.items() if kind in KINDS and value is not None]
    if not kinds:
        yield Cause.required(path, "must specify a volume type")
        return
    for kind in kinds[1:]:
        yield Cause.forbidden(f"{path}.{kind}", "may not specify more than 1 volume type")
    rule = _RULES.get(kinds[0])
    if rule:
        yield from rule(f"{path}.{kinds[0]}", volume[kinds[0]])


def _host_path(path: str, given: Obj) -> Faults:
    where = given.get("path") or ""
    if not where:
        yield Cause.required(f"{path}.path")
    else:
        yield from rules.no_backsteps(f"{path}.path", where)
    yield from rules.optional(f"{path}.type", given.get("type"), HOST_PATH_TYPES)


def _empty_dir(path: str, given: Obj) -> Faults:
    limit = given.get("sizeLimit")
    if limit is not None and any(rules.amount("", limit)):
        yield Cause.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _mode(path: str, mode: int | None) -> Faults:
    if mode is not None and not 0 <= mode <= 0o777:
        yield Cause.invalid(path, mode, _MODE)


def _items(path: str, items: Sequence[Obj] | None) -> Faults:
    for i, item in enumerate(items or ()):
        here = f"{path}.items[{i}]"
        if not item.get("key"):
            yield Cause.required(f"{here}.key")
        yield from _file(here, item)


def _file(here: str, item: Obj) -> Faults:
    """Where something is written to, below the volume."""
    where = item.get("path") or ""
    if not where:
        yield Cause.required(f"{here}.path")
    else:
        yield from rules.relative_path(f"{here}.path", where)
        first = where.split("/", 1)[0]
        if first.startswith("..") and first != "..":
            yield Cause.invalid(f"{here}.path", where, "must not start with '..'")
    yield from _mode(f"{here}.mode", item.get("mode"))


def _secret(path: str, given: Obj) -> Faults:
    if not given.get("secretName"):
        yield Cause.required(f"{path}.secretName")
    yield from _mode(f"{path}.defaultMode", given.get("defaultMode"))
    yield from _items(path, given.get("items"))


def _config_map(path: str, given: Obj) -> Faults:
    if not given.get("name"):
        yield Cause.required(f"{path}.name")
    yield from _mode(f"{path}.defaultMode", given.get("defaultMode"))
    yield from _items(path, given.get("items"))


def _downward_items(path: str, items: Sequence[Obj] | None) -> Faults:
    for i, item in enumerate(items or ()):
        here = f"{path}.items[{i}]" if not path.endswith("downwardAPI") else path
        yield from _file(here, item)
        if (ref := item.get("fieldRef")) is not None:
            yield from field_ref(f"{here}.fieldRef", ref, _FILE_FIELDS, subscripts=True)
            if item.get("resourceFieldRef") is not None:
                yield Cause.invalid(here, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif (ref := item.get("resourceFieldRef")) is not None:
            yield from resource_ref(f"{here}.resourceFieldRef", ref, volume=True)
        else:
            yield Cause.required(here, "one of fieldRef and resourceFieldRef is required")


def _downward(path: str, given: Obj) -> Faults:
    yield from _mode(f"{path}.defaultMode", given.get("defaultMode"))
    yield from _downward_items(path, given.get("items"))


_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")


def _projected(path: str, given: Obj) -> Faults:
    yield from _mode(f"{path}.defaultMode", given.get("defaultMode"))
    for i, projection in enumerate(given.get("sources") or ()):
        here = f"{path}.sources[{i}]"
        kinds = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        if not kinds:
            yield Cause.required(here, "must specify one of: `secret`, `configMap`, `downwardAPI`, `serviceAccountToken`")
        for kind in kinds[1:]:
            yield Cause.forbidden(f"{here}.{kind}", "may not specify more than 1 volume type")
        for kind in kinds[:1]:
            yield from _projection(f"{here}.{kind}", kind, projection[kind])


def _projection(path: str, kind: str, given: Obj) -> Faults:
    if kind in ("secret", "configMap"):
        if not given.get("name"):
            yield Cause.required(f"{path}.name")
        yield from _items(path, given.get("items"))
    elif kind == "downwardAPI":
        yield from _downward_items(path, given.get("items"))
    elif kind == "serviceAccountToken":
        seconds = given.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            yield Cause.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        if seconds is not None and seconds > 1 << 32:
            yield Cause.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        if not given.get("path"):
            yield Cause.required(f"{path}.path")
        else:
            yield from rules.relative_path(f"{path}.path", given["path"])


def _claim(path: str, given: Obj) -> Faults:
    if not given.get("claimName"):
        yield Cause.required(f"{path}.claimName")


def _nfs(path: str, given: Obj) -> Faults:
    if not given.get("server"):
        yield Cause.required(f"{path}.server")
    if not given.get("path"):
        yield Cause.required(f"{path}.path")
    elif not given["path"].startswith("/"):
        yield Cause.invalid(f"{path}.path", given["path"], "must be an absolute path")


def _csi(path: str, given: Obj) -> Faults:
    yield from rules.named(f"{path}.driver", given.get("driver"), names.dns1123_subdomain)


def _ephemeral(path: str, given: Obj) -> Faults:
    if given.get("volumeClaimTemplate") is None:
        yield Cause.required(f"{path}.volumeClaimTemplate")
    else:
        from minikube_py.resources.persistentvolumeclaims import claim_spec

        yield from claim_spec(f"{path}.volumeClaimTemplate.spec", given["volumeClaimTemplate"].get("spec") or {})


def _image(path: str, given: Obj) -> Faults:
    if given.get("pullPolicy") and given["pullPolicy"] not in PULL_POLICIES:
        yield Cause.not_supported(f"{path}.pullPolicy", given["pullPolicy"], PULL_POLICIES)


KINDS = frozenset(
    [
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "glusterfs",
        "hostPath",
        "image",
        "iscsi",
        "local",
        "nfs",
        "persistentVolumeClaim",
        "photonPersistentDisk",
        "portworxVolume",
        "projected",
        "quobyte",
        "rbd",
        "scaleIO",
        "secret",
        "storageos",
        "vsphereVolume",
    ]
)
_RULES: Mapping[str, Callable[[str, Obj], Faults]] = {
    "configMap": _config_map,
    "csi": _csi,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "ephemeral": _ephemeral,
    "hostPath": _host_path,
    "image": _image,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "projected": _projected,
    "secret": _secret,
}
