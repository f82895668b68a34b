"""Storage classes, CSI objects, attachments, runtime classes. Upstream: pkg/apis/{storage,node}."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults
from minikube_py.resources.workloads import fill


class StorageClassStrategy(Strategy):
    """How volumes are made; it never changes, but for whether they may grow."""

    has_generation = False

    def default(self, obj: Obj) -> None:
        fill(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.named("provisioner", (obj.get("provisioner") or "").lower(), names.label_key))
        if obj.get("reclaimPolicy"):
            found += rules.one_of("reclaimPolicy", obj["reclaimPolicy"], ("Delete", "Retain"))
        found += rules.one_of("volumeBindingMode", obj.get("volumeBindingMode"), ("Immediate", "WaitForFirstConsumer"))
        parameters = obj.get("parameters") or {}
        if len(parameters) > 512:
            found.append(Cause.too_long("parameters", 512))
        if any(not key for key in parameters):
            found.append(Cause.invalid("parameters", "", "field can not be empty."))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = []
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            found.append(Cause.forbidden("parameters", "updates to parameters are forbidden."))
        changed = [field for field in ("provisioner", "reclaimPolicy") if obj.get(field) != old.get(field)]
        found += [Cause.forbidden(field, f"updates to {field} are forbidden.") for field in changed]
        found += rules.unchanged("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))
        return found


class VolumeAttributesClassStrategy(Strategy):
    """What a volume is like; it never changes."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.named("driverName", obj.get("driverName"), names.dns1123_subdomain))
        if not obj.get("parameters"):
            found.append(Cause.required("parameters", "must contain at least one key/value pair"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = (
            [Cause.forbidden("driverName", "updates to driverName are forbidden.")]
            if obj.get("driverName") != old.get("driverName")
            else []
        )
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            found.append(Cause.forbidden("parameters", "updates to parameters are forbidden."))
        return found


class CSIDriverStrategy(Strategy):
    """What a driver can do."""

    has_generation = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        fill(
            spec, attachRequired=True, podInfoOnMount=False, storageCapacity=False, fsGroupPolicy="ReadWriteOnceWithFSType",
            requiresRepublish=False, seLinuxMount=False,
        )  # fmt: skip
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, obj: Obj) -> list[Cause]:
        spec = obj["spec"]
        name = obj["metadata"].get("name") or ""
        found = [Cause.too_long("metadata.name", 63)] if len(name) > 63 else []
        found += rules.optional("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), ("File", "None", "ReadWriteOnceWithFSType"))
        for mode in spec.get("volumeLifecycleModes") or ():
            found += rules.optional("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
        audiences = [t.get("audience", "") for t in spec.get("tokenRequests") or ()]
        for i, audience in enumerate(audiences):
            if audience in audiences[:i]:
                found.append(Cause.duplicate(f"spec.tokenRequests[{i}].audience", audience))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        for field in ("attachRequired", "volumeLifecycleModes"):
            found += rules.unchanged(f"spec.{field}", obj["spec"].get(field), old["spec"].get(field))
        return found


class CSINodeStrategy(Strategy):
    """Which drivers a node has."""

    has_generation = False
    allow_unconditional_update = False

    def validate(self, obj: Obj) -> list[Cause]:
        taken: set[str] = set()
        found: list[Cause] = []
        for i, driver in enumerate((obj.get("spec") or {}).get("drivers") or ()):
            path, name = f"spec.drivers[{i}]", driver.get("name") or ""
            found += rules.named(f"{path}.name", name, names.dns1123_subdomain)
            if name in taken:
                found.append(Cause.duplicate(f"{path}.name", name))
            taken.add(name)
            if not driver.get("nodeID"):
                found.append(Cause.required(f"{path}.nodeID"))
            count = (driver.get("allocatable") or {}).get("count")
            found += rules.not_negative(f"{path}.allocatable.count", count)
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        now: Sequence[Obj] = (obj.get("spec") or {}).get("drivers") or ()
        for driver in (old.get("spec") or {}).get("drivers") or ():
            for given in now:
                if given.get("name") == driver.get("name") and rules.without(given, ("allocatable",)) != rules.without(
                    driver, ("allocatable",)
                ):
                    found.append(Cause.invalid("spec.drivers", given, "field is immutable"))
        return found


class CSIStorageCapacityStrategy(Strategy):
    """How much room there is, for whom."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.selector("nodeTopology", obj.get("nodeTopology")))
        found += rules.named("storageClassName", obj.get("storageClassName"), names.dns1123_subdomain)
        for field in ("capacity", "maximumVolumeSize"):
            if obj.get(field) is not None:
                found += rules.amount(field, obj[field])
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = self.validate(obj)
        for field in ("nodeTopology", "storageClassName"):
            found += rules.unchanged(field, obj.get(field), old.get(field))
        return found


class VolumeAttachmentStrategy(Strategy):
    """A volume on a node."""

    has_status = True
    has_generation = False
    initial_status = {"attached": False}
    allow_unconditional_update = False

    def validate(self, obj: Obj) -> list[Cause]:
        return list(_attachment(obj.get("spec") or {}))

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status" or obj.get("spec") == old.get("spec"):
            return []
        return [*self.validate(obj), Cause.invalid("spec", obj.get("spec"), rules.IMMUTABLE)]


def _attachment(spec: Obj) -> Faults:
    yield from rules.named("spec.attacher", spec.get("attacher"), names.dns1123_subdomain)
    source = spec.get("source") or {}
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and volume is None:
        yield Cause.required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    elif inline is not None and volume is not None:
        yield Cause.forbidden("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
    if not spec.get("nodeName"):
        yield Cause.required("spec.nodeName")


class RuntimeClassStrategy(Strategy):
    """What runs a pod; the handler never changes."""

    has_generation = False
    allow_unconditional_update = False

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(rules.checked("handler", obj.get("handler") or "", names.dns1123_label))
        overhead = (obj.get("overhead") or {}).get("podFixed") or {}
        found += [c for name, value in overhead.items() for c in rules.amount(f"overhead.podFixed[{name}]", value)]
        found += rules.labels("scheduling.nodeSelector", (obj.get("scheduling") or {}).get("nodeSelector"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return list(rules.unchanged("handler", obj.get("handler"), old.get("handler")))
