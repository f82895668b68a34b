"""managedFields: which manager last set which field, kept by every write as upstream's field manager does.

Two objects are compared by their type: a field that is added or changed goes to the manager of the write and leaves the others, one that is
removed leaves all, and a manager that has none left vanishes. An entry's time changes when its manager changes something. Fields that the
server keeps in metadata belong to nobody. An object without managedFields is only tracked from its creation on: a client may clear them.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import orjson

from minikube_py.schema.definitions import Schema
from minikube_py.schema.fieldset import NOTHING, SELF, FieldSet, difference, union
from minikube_py.schema.fieldwalk import added_to_nothing, compared

Obj = dict[str, Any]

_STRIPPED = tuple(
    f"f:{name}"
    for name in (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
)
MAX_UPDATE_MANAGERS = 10
"""Entries of updates that an object keeps; the oldest beyond it are joined under one name."""

ANCIENT = "ancient-changes"


class Owner(NamedTuple):
    """What tells one entry from another. An applier's entry is the same in every API version."""

    manager: str
    operation: str
    api_version: str
    subresource: str


class Owned(NamedTuple):
    """What an owner has, since when."""

    fields: FieldSet
    time: str


Managers = dict[Owner, Owned]


def update_managed_fields(
    schema: Schema,
    new: Obj,
    old: Obj | None,
    *,
    manager: str,
    operation: Literal["Update", "Apply"] = "Update",
    api_version: str,
    subresource: str = "",
    now: str,
) -> None:
    """Set new["metadata"]["managedFields"] for a create (`old` is None) or an update by `manager`; `now` is a metav1.Time. `new` and
    `old` are normalized, in the version `api_version`. A write that changes nothing leaves the entries as they were, their times
    included."""
    metadata = new["metadata"]
    given = metadata.pop("managedFields", None)
    if old is None:
        managers = decode(given) or {}
        added, changed, removed = _stripped(added_to_nothing(schema.type, new)), NOTHING, NOTHING
    else:
        live = old["metadata"].get("managedFields")
        if given == [{}] and not subresource:
            return  # the client clears them
        source = live if subresource or not given or given == live else given
        managers = decode(source) or decode(live) or {}
        if not managers:
            return
        if source is live and _same(new, old):
            metadata["managedFields"] = live
            return
        added, changed, removed = (_stripped(part) for part in compared(schema.type, old, new))
    managers = moved(managers, Owner(manager, operation, api_version, subresource), added, changed, removed, now)
    if entries := encode(capped(managers)):
        metadata["managedFields"] = entries


def moved(managers: Managers, owner: Owner, added: FieldSet, changed: FieldSet, removed: FieldSet, now: str) -> Managers:
    """The managers after `owner` added, changed and removed these fields."""
    taken = union(added, changed)
    gone = union(taken, removed)
    after: Managers = {}
    for other, owned in managers.items():
        left = difference(owned.fields, removed if other == owner else gone)
        if left:
            after[other] = Owned(left, owned.time)
    if taken:
        before = after.pop(owner, None)
        after[owner] = Owned(_ordered(union(before.fields, taken) if before else taken), now)
    return after


def _ordered(fields: FieldSet) -> FieldSet:
    """The fields in the order of their names: some clients compare the text, and others parse it and write it again."""
    out: FieldSet = orjson.loads(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
    return out


def capped(managers: Managers) -> Managers:
    """The managers, with the oldest updates beyond the limit joined per API version."""
    updates = [owner for owner in managers if owner.operation == "Update" and not owner.subresource]
    surplus = len(updates) - MAX_UPDATE_MANAGERS
    if surplus <= 0:
        return managers
    after = dict(managers)
    updates.sort(key=lambda owner: (managers[owner].time, owner))
    for owner in updates:
        if surplus < 0:
            break
        ancient = Owner(ANCIENT, "Update", owner.api_version, "")
        if owner == ancient:
            continue
        owned = after.pop(owner)
        if ancient in after:
            before = after.pop(ancient)
            owned = Owned(union(before.fields, owned.fields), max(before.time, owned.time))
            surplus -= 1
        after[ancient] = owned
    return after


def decode(entries: Any) -> Managers | None:
    """The managers that entries stand for; None for entries that make no sense, which are then as good as absent."""
    managers: Managers = {}
    if not isinstance(entries, list):
        return None
    for entry in entries:
        fields = entry.get("fieldsV1") if isinstance(entry, dict) else None
        if not isinstance(fields, dict) or entry.get("fieldsType") != "FieldsV1" or entry.get("operation") not in ("Update", "Apply"):
            return None
        owner = Owner(entry.get("manager", ""), entry["operation"], entry.get("apiVersion", ""), entry.get("subresource", ""))
        managers[owner] = Owned(fields, entry.get("time", ""))
    return managers


def encode(managers: Managers) -> list[Obj]:
    """The entries, in upstream's order."""
    if len(managers) == 1:
        return [_entry(*next(iter(managers.items())))]

    def place(item: tuple[Owner, Owned]) -> tuple[str, ...]:
        owner, owned = item
        return owner.operation, owned.time, owner.manager, owner.api_version, owner.subresource

    return [_entry(owner, owned) for owner, owned in sorted(managers.items(), key=place)]


def _entry(owner: Owner, owned: Owned) -> Obj:
    entry: Obj = {"manager": owner.manager, "operation": owner.operation, "apiVersion": owner.api_version}
    if owned.time:
        entry["time"] = owned.time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = owned.fields
    if owner.subresource:
        entry["subresource"] = owner.subresource
    return entry


def _stripped(fields: FieldSet) -> FieldSet:
    """Without what the server keeps itself."""
    metadata = fields.get("f:metadata")
    if metadata is None and "f:kind" not in fields and "f:apiVersion" not in fields:
        return fields
    out = dict(fields)
    out.pop("f:kind", None)
    out.pop("f:apiVersion", None)
    if metadata is not None:
        kept = {key: node for key, node in metadata.items() if key not in _STRIPPED and key != SELF}
        if kept:
            out["f:metadata"] = kept
        else:
            del out["f:metadata"]
    return out


def _same(new: Obj, old: Obj) -> bool:
    """Whether nothing but managedFields differs."""
    if len(new) != len(old):
        return False
    for key, value in new.items():
        if key == "metadata":
            ours = old["metadata"]
            if any(ours.get(k) != v for k, v in value.items()) or any(k not in value and k != "managedFields" for k in ours):
                return False
        elif key not in old or old[key] != value:
            return False
    return True
