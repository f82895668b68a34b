"""The rules of metadata that hold for every kind: what a client may not set, what may not change, what is well formed. Pure functions.

Objects are JSON values; those that are prepared are changed in place. Messages are upstream's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from minikube_py.apiserver.options import parse_revision
from minikube_py.meta import names
from minikube_py.meta.errors import BadRequest, Cause, StatusError
from minikube_py.resources.api import Obj
from minikube_py.types.meta import timestamp

ANNOTATIONS_LIMIT = 256 * 1024
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
IMMUTABLE = "field is immutable"

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_GENERATED_BASE = 58


def generate_name(base: str, choose: Callable[[int], int]) -> str:
    """A name from a generateName: the base, cut so that the whole fits 63 characters, and five random ones (`choose(n)` is below n)."""
    letters = len(_SUFFIX_ALPHABET)
    number, suffix = choose(letters**5), ""
    for _ in range(5):
        number, letter = divmod(number, letters)
        suffix += _SUFFIX_ALPHABET[letter]
    return base[:_GENERATED_BASE] + suffix


def new_uid() -> str:
    """A random UUID (version 4)."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=4)
def stamp(second: int) -> str:
    """metav1.Time of a second; many writes share one."""
    return timestamp(second)


def metadata_of(obj: Obj) -> Obj:
    """The metadata of an object, made where it is absent."""
    meta = obj.get("metadata")
    if meta is None:
        meta = obj["metadata"] = {}
    return meta


def set_namespace(meta: Obj, namespace: str, namespaced: bool) -> None:
    """Bring the object's namespace in line with the request's. Raises BadRequest where they differ."""
    given = meta.get("namespace") or ""
    if not namespaced:
        meta.pop("namespace", None)
    elif given and given != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    else:
        meta["namespace"] = namespace


def prepare_create(meta: Obj) -> None:
    """Take out what the system sets. Raises the error for a resourceVersion, which a new object cannot have; "0" is none, and what is
    no number is let pass, as by upstream."""
    with contextlib.suppress(ValueError):
        if parse_revision(meta.pop("resourceVersion", None) or ""):
            raise StatusError("resourceVersion should not be set on objects to be created")
    for field in _SYSTEM_FIELDS:
        meta.pop(field, None)


def take_revision(meta: Obj) -> int:
    """Take the resourceVersion out of a changed object's metadata; 0, which is no version, stands for none. Raises the error for what is
    no number."""
    try:
        return parse_revision(meta.pop("resourceVersion", None) or "")
    except ValueError as error:
        raise StatusError(str(error)) from None


def check_name(meta: Mapping[str, Any], name: str, namespace: str) -> None:
    """Whether a changed object is the one of the URL. Raises BadRequest."""
    given = meta.get("name") or ""
    if not given:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if given != name:
        raise BadRequest(f"the name of the object ({given}) does not match the name on the URL ({name})")
    given_namespace = meta.get("namespace") or ""
    if namespace and given_namespace and given_namespace != namespace:
        raise BadRequest(f"the namespace of the object ({given_namespace}) does not match the namespace on the request ({namespace})")


def carry_over(meta: Obj, old: Mapping[str, Any]) -> None:
    """What an update may leave out and never changes: identity, creation, deletion, generation."""
    for field in ("creationTimestamp", "deletionTimestamp"):
        if field in old:
            meta[field] = old[field]
    for field in ("uid", "deletionGracePeriodSeconds"):
        if meta.get(field) is None and field in old:
            meta[field] = old[field]
    if "generation" in old:
        meta["generation"] = old["generation"]
    else:
        meta.pop("generation", None)
    meta.pop("selfLink", None)


def validate_create(meta: Mapping[str, Any], namespaced: bool, name_rule: Callable[[str], str | None] | None) -> list[Cause]:
    """The faults of a new object's metadata, its name generated already."""
    causes: list[Cause] = []
    check = names.dns1123_subdomain if name_rule is None else _listed(name_rule)
    if generate := meta.get("generateName"):
        causes += [Cause.invalid("metadata.generateName", generate, fault) for fault in names.as_prefix(check)(generate)]
    name = meta.get("name")
    if not name:
        causes.append(Cause.required("metadata.name", "name or generateName is required"))
    else:
        causes += [Cause.invalid("metadata.name", name, fault) for fault in dict.fromkeys(names.path_segment(name) + check(name))]
    if namespaced:
        namespace = meta.get("namespace")
        if not namespace:
            causes.append(Cause.required("metadata.namespace"))
        else:
            causes += [Cause.invalid("metadata.namespace", namespace, fault) for fault in names.dns1123_label(namespace)]
    causes += _validate_common(meta)
    return causes


def _listed(rule: Callable[[str], str | None]) -> names.Check:
    def check(name: str) -> list[str]:
        fault = rule(name)
        return [] if fault is None else [fault]

    return check


def validate_update(meta: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    """The faults of a change of metadata."""
    causes = []
    finalizers = meta.get("finalizers") or ()
    if old.get("deletionTimestamp") and (added := sorted(set(finalizers) - set(old.get("finalizers") or ()))):
        listed = ", ".join(f'"{f}"' for f in added)
        causes.append(
            Cause.forbidden(
                "metadata.finalizers",
                f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}",
            )
        )
    for field in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        value = meta.get(field)
        if value != old.get(field):
            causes.append(Cause.invalid(f"metadata.{field}", value, IMMUTABLE))
    if any(meta.get(field) != old.get(field) for field in ("labels", "annotations", "ownerReferences", "finalizers")):
        causes += _validate_common(meta)
    return causes


def _validate_common(meta: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if labels := meta.get("labels"):
        causes += label_faults(labels, "metadata.labels")
    if annotations := meta.get("annotations"):
        size = 0
        for key, value in annotations.items():
            causes += [Cause.invalid("metadata.annotations", key, fault) for fault in _key_faults(key.lower())]
            size += len(key) + len(value)
        if size > ANNOTATIONS_LIMIT // 4 and sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > ANNOTATIONS_LIMIT:
            causes.append(Cause.too_long("metadata.annotations", ANNOTATIONS_LIMIT))
    if owners := meta.get("ownerReferences"):
        causes += _owner_faults(owners)
    if finalizers := meta.get("finalizers"):
        for finalizer in finalizers:
            causes += [Cause.invalid("metadata.finalizers", finalizer, fault) for fault in _key_faults(finalizer)]
        if ORPHAN in finalizers and FOREGROUND in finalizers:
            causes.append(Cause.invalid("metadata.finalizers", finalizers, f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"))
    return causes


def label_faults(labels: Mapping[str, str], path: str) -> list[Cause]:
    """The faults of labels under a field path."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += [Cause.invalid(path, key, fault) for fault in _key_faults(key)]
        if value:
            causes += [Cause.invalid(path, value, fault) for fault in _value_faults(value)]
    return causes


def _owner_faults(owners: Sequence[Mapping[str, Any]]) -> list[Cause]:
    causes = []
    controller = ""
    for owner in owners:
        path = "metadata.ownerReferences"
        api_version, kind = owner.get("apiVersion") or "", owner.get("kind") or ""
        if not api_version:
            causes.append(Cause.invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        causes += [Cause.invalid(f"{path}.{field}", "", "must not be empty") for field in ("kind", "name", "uid") if not owner.get(field)]
        if api_version == "v1" and kind == "Event":
            causes.append(Cause.invalid(path, dict(owner), "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            current = f"{kind}/{owner.get('name')}"
            if controller:
                why = f'Only one reference can have Controller set to true. Found "true" in references for {controller} and {current}'
                causes.append(Cause.invalid(path, [dict(o) for o in owners], why))
            controller = controller or current
    return causes


_USUAL = 128
"""Length up to which what is found about a text is remembered: sound ones are hardly longer, and the others may be of any length."""


def _key_faults(key: str) -> Sequence[str]:
    return _known_key_faults(key) if len(key) <= _USUAL else names.qualified_name(key)


def _value_faults(value: str) -> Sequence[str]:
    return _known_value_faults(value) if len(value) <= _USUAL else names.label_value(value)


@lru_cache(maxsize=1024)
def _known_key_faults(key: str) -> Sequence[str]:
    return names.qualified_name(key)


@lru_cache(maxsize=1024)
def _known_value_faults(value: str) -> Sequence[str]:
    return names.label_value(value)
