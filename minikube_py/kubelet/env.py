"""A container's environment: services, envFrom, env with references, and $(NAME) expansion. Pure.

Order of precedence, as upstream's: what `env` says, later entries over earlier ones, then envFrom (later sources over earlier ones), then
the variables of the services.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from minikube_py.kubelet.fields import Addresses, FieldError, allocatable_to, field_value, resource_value
from minikube_py.types.core import ConfigMap, Secret
from minikube_py.types.network import Service
from minikube_py.types.pod import Container, EnvVarSource, FileKeySelector, KeySelector, Pod


class EnvError(Exception):
    """A reference that cannot be resolved: the container waits with CreateContainerConfigError and this message."""


class Sources(NamedTuple):
    """Where values come from. The lookups give None for an object that does not exist."""

    config_map: Callable[[str], ConfigMap | None]
    secret: Callable[[str], Secret | None]
    services: Mapping[str, str]
    addresses: Addresses
    allocatable: Mapping[str, str]
    key_files: Mapping[tuple[str, str], str | None] = {}
    """The files that fileKeyRef names, by volume and path: their text, None for one that is not there."""


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """Replace $(NAME) by its value; $$ is a dollar; what has no value stays as it is."""
    if "$" not in text:
        return text
    out: list[str] = []
    at = 0
    while True:
        dollar = text.find("$", at)
        if dollar < 0 or dollar + 1 >= len(text):
            out.append(text[at:])
            return "".join(out)
        out.append(text[at:dollar])
        following = text[dollar + 1]
        end = text.find(")", dollar + 2) if following == "(" else -1
        if following == "$":
            out.append("$")
            at = dollar + 2
        elif following == "(" and end >= 0:
            name = text[dollar + 2 : end]
            value = lookup(name)
            out.append(text[dollar : end + 1] if value is None else value)
            at = end + 1
        elif following == "(":
            out.append("$(")
            at = dollar + 2
        else:
            out.append("$" + following)
            at = dollar + 2


def build(pod: Pod, container: Container, sources: Sources) -> dict[str, str]:
    """The whole environment. Raises EnvError."""
    services = dict(sources.services)
    values: dict[str, str] = {}
    for source in container.envFrom:
        if source.configMapRef is not None:
            ref = source.configMapRef
            config_map = sources.config_map(ref.name)
            if config_map is None:
                if not ref.optional:
                    raise EnvError(f'configmap "{ref.name}" not found')
                continue
            values.update((source.prefix + key, value) for key, value in config_map.data.items())
        elif source.secretRef is not None:
            ref = source.secretRef
            secret = sources.secret(ref.name)
            if secret is None:
                if not ref.optional:
                    raise EnvError(f'secret "{ref.name}" not found')
                continue
            values.update((source.prefix + key, _decode(value)) for key, value in secret.data.items())

    def lookup(name: str) -> str | None:
        return values.get(name, services.get(name))

    for variable in container.env:
        if variable.valueFrom is not None and not variable.value:
            value = _reference(pod, container, variable.valueFrom, sources)
            if value is None:
                continue
        else:
            value = expand(variable.value, lookup)
        values[variable.name] = value
    return {**{k: v for k, v in services.items() if k not in values}, **values}


def _reference(pod: Pod, container: Container, source: EnvVarSource, sources: Sources) -> str | None:
    try:
        if source.fieldRef is not None:
            return field_value(pod, source.fieldRef.fieldPath, sources.addresses)
        if source.resourceFieldRef is not None:
            return resource_value(pod, container, source.resourceFieldRef, allocatable_to(pod, sources.allocatable))
    except FieldError as error:
        raise EnvError(str(error)) from error
    if source.configMapKeyRef is not None:
        config_map = sources.config_map(source.configMapKeyRef.name)
        return _by_key(pod, source.configMapKeyRef, "ConfigMap", config_map.data if config_map is not None else None)
    if source.secretKeyRef is not None:
        secret = sources.secret(source.secretKeyRef.name)
        found = _by_key(pod, source.secretKeyRef, "Secret", secret.data if secret is not None else None)
        return _decode(found) if found is not None else None
    if source.fileKeyRef is not None:
        return _from_file(source.fileKeyRef, sources.key_files)
    return None


def _by_key(pod: Pod, ref: KeySelector, kind: str, data: Mapping[str, str] | None) -> str | None:
    """What stands under a key of a config map or secret, or None where that is allowed. `data` is None where there is no such object."""
    if data is not None and ref.key in data:
        return data[ref.key]
    if ref.optional:
        return None
    if data is None:
        raise EnvError(f'{kind.lower()} "{ref.name}" not found')
    raise EnvError(f"couldn't find key {ref.key} in {kind} {pod.metadata.namespace}/{ref.name}")


def _from_file(ref: FileKeySelector, files: Mapping[tuple[str, str], str | None]) -> str | None:
    """A variable out of a file of the pod's (KEP-3721); one that is empty counts as not there."""
    text = files.get((ref.volumeName, ref.path))
    try:
        value = key_of_file(text, ref.key) if text is not None else ""
    except ValueError:
        raise EnvError("couldn't parse env file") from None
    if not value and text is None and not ref.optional:
        raise EnvError("couldn't parse env file")
    if not value and not ref.optional:
        raise EnvError(f'environment variable key "{ref.key}" not found in file "{ref.path}"')
    return value or None


_ASSIGNMENT = re.compile(r"[ \t]*([^=\n]*)=(?:[ \t][^\n]*|'([^']*)'[ \t]*(?:#[^\n]*)?)?(?:\n|\Z)")
_NO_ASSIGNMENT = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


def key_of_file(text: str, key: str) -> str:
    """The first value of a key in a file of NAME='value' lines; "" where there is none. Raises ValueError for what is no such line.

    A value stands in single quotes, over several lines where it has them; what begins with # is a comment; a space after the equals sign
    leaves the variable empty, and none may stand before it."""
    at = 0
    while at < len(text):
        if (blank := _NO_ASSIGNMENT.match(text, at)) is not None:
            at = blank.end()
            continue
        found = _ASSIGNMENT.match(text, at)
        if found is None or not found[1] or found[1] != found[1].rstrip(" \t") or text[found.end(1) + 1 : found.end(1) + 2] in ("", "\n"):
            raise ValueError(text[at:].partition("\n")[0])
        if found[1] == key:
            return found[2] or ""
        at = found.end()
    return ""


def _decode(value: str) -> str:
    return base64.b64decode(value).decode("utf-8", "surrogateescape")


def service_variables(services: Iterable[Service], namespace: str, links: bool) -> dict[str, str]:
    """The variables that tell of services: the API's own always, those of the pod's namespace where the pod wants service links."""
    wanted: dict[str, Service] = {}
    for service in services:
        meta = service.metadata
        if service.spec.clusterIP in ("", "None"):
            continue
        is_api = meta.namespace == "default" and meta.name == "kubernetes"
        if (meta.namespace == namespace and links) or (is_api and meta.name not in wanted):
            wanted[meta.name] = service
    out: dict[str, str] = {}
    for service in wanted.values():
        out.update(_of_service(service))
    return out


def _of_service(service: Service) -> dict[str, str]:
    name = service.metadata.name.upper().replace("-", "_")
    address = service.spec.clusterIP
    host = f"[{address}]" if ":" in address else address
    out = {f"{name}_SERVICE_HOST": address}
    for index, port in enumerate(service.spec.ports):
        protocol = (port.protocol or "TCP").upper()
        if index == 0:
            out[f"{name}_SERVICE_PORT"] = str(port.port)
            out[f"{name}_PORT"] = f"{protocol.lower()}://{host}:{port.port}"
        if port.name:
            out[f"{name}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
        prefix = f"{name}_PORT_{port.port}_{protocol}"
        out[prefix] = f"{protocol.lower()}://{host}:{port.port}"
        out[f"{prefix}_PROTO"] = protocol.lower()
        out[f"{prefix}_PORT"] = str(port.port)
        out[f"{prefix}_ADDR"] = address
    return out
