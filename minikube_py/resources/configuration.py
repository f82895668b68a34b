"""ConfigMaps, secrets and service accounts: keys, sizes, immutability. Upstream: pkg/registry/core."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.rules import Faults

MAX_SIZE = 1024 * 1024
_UNSET = "field is immutable when `immutable` is set"


def _immutable(obj: Obj, old: Obj, *fields: str) -> Faults:
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        yield Cause.forbidden("immutable", _UNSET)
    for field in fields:
        if (obj.get(field) or {}) != (old.get(field) or {}):
            yield Cause.forbidden(field, _UNSET)


class ConfigMapStrategy(Strategy):
    """Text and bytes by key, up to a mebibyte."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        found: list[Cause] = []
        size = 0
        for key, value in data.items():
            if faults := names.config_map_key(key):
                found += [Cause.invalid(f"data[{key}]", key, fault) for fault in faults]
            if key in binary:
                found.append(Cause.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
            size += len(value) if value.isascii() else len(value.encode())
        for key, value in binary.items():
            found += rules.checked(f"binaryData[{key}]", key, names.config_map_key)
            size += decoded_size(value)
        if size > MAX_SIZE:
            found.append(Cause.too_long("", MAX_SIZE))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        return [*_immutable(obj, old, "data", "binaryData"), *self.validate(obj)]


def decoded_size(value: str) -> int:
    """How many bytes base64 text stands for."""
    return len(value) * 3 // 4 - value[-2:].count("=")


class SecretStrategy(Strategy):
    """Bytes by key; a type asks for certain keys."""

    has_generation = False
    selectable_fields = {"type": lambda secret: str(secret.get("type") or "")}

    def default(self, obj: Obj) -> None:
        if not obj.get("type"):
            obj["type"] = "Opaque"
        if (text := obj.pop("stringData", None)) is not None:
            data = obj.setdefault("data", {})
            for key, value in text.items():
                data[key] = base64.b64encode(value.encode()).decode()

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        """A Put without a type keeps the one that the secret has."""
        super().prepare_update(obj, old, context)
        if not obj.get("type"):
            obj["type"] = old.get("type")

    def validate(self, obj: Obj) -> list[Cause]:
        data = obj.get("data") or {}
        found = [c for key in data for c in rules.checked(f"data[{key}]", key, names.config_map_key)]
        if sum(decoded_size(value) for value in data.values()) > MAX_SIZE:
            found.append(Cause.too_long("data", MAX_SIZE))
        rule = _SECRET_TYPES.get(obj.get("type", ""))
        return found + list(rule(obj, data)) if rule else found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        found = list(rules.unchanged("type", obj.get("type"), old.get("type")))
        return [*found, *_immutable(obj, old, "data"), *self.validate(obj)]


def _account(obj: Obj, data: Obj) -> Faults:
    if not (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"):
        yield Cause.required("metadata.annotations[kubernetes.io/service-account.name]")


def _json_key(key: str) -> Callable[[Obj, Obj], Faults]:
    def rule(obj: Obj, data: Obj) -> Faults:
        if key not in data:
            yield Cause.required(f"data[{key}]")
            return
        try:
            json.loads(base64.b64decode(data[key]))
        except (ValueError, binascii.Error) as e:
            yield Cause.invalid(f"data[{key}]", "<secret contents redacted>", str(e))

    return rule


def _basic(obj: Obj, data: Obj) -> Faults:
    if "username" not in data and "password" not in data:
        yield Cause.required("data[username]")
        yield Cause.required("data[password]")


def _needs(*keys: str) -> Callable[[Obj, Obj], Faults]:
    def rule(obj: Obj, data: Obj) -> Faults:
        for key in keys:
            if key not in data:
                yield Cause.required(f"data[{key}]")

    return rule


_SECRET_TYPES: Mapping[str, Callable[[Obj, Obj], Faults]] = {
    "kubernetes.io/service-account-token": _account,
    "kubernetes.io/dockercfg": _json_key(".dockercfg"),
    "kubernetes.io/dockerconfigjson": _json_key(".dockerconfigjson"),
    "kubernetes.io/basic-auth": _basic,
    "kubernetes.io/ssh-auth": _needs("ssh-privatekey"),
    "kubernetes.io/tls": _needs("tls.crt", "tls.key"),
}


class ServiceAccountStrategy(Strategy):
    """An identity for pods."""

    has_generation = False

    def validate(self, obj: Obj) -> list[Cause]:
        return []

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = []
        annotations: Mapping[str, Any] = obj["metadata"].get("annotations") or {}
        if "kubernetes.io/enforce-mountable-secrets" in annotations:
            found.append(
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to "
                "isolate access to mounted secrets"
            )
        return found
