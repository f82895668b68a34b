"""What a container may be: ports, environment, mounts, probes, hooks, resources, privileges. Upstream: pkg/apis/core/validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from minikube_py.meta import names, quantity
from minikube_py.meta.errors import Cause
from minikube_py.resources import rules
from minikube_py.resources.api import Obj
from minikube_py.resources.rules import Faults

RESTART_POLICIES = ("Always", "OnFailure", "Never")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_SCHEMES = ("HTTP", "HTTPS")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
)  # fmt: skip
RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]")
_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def container(path: str, given: Obj, volumes: Mapping[str, Obj]) -> Faults:
    """What holds for containers of all three lists."""
    yield from rules.named(f"{path}.name", given.get("name"), names.dns1123_label)
    if not given.get("image"):
        yield Cause.required(f"{path}.image")
    policy = given.get("terminationMessagePolicy")
    if policy not in _MESSAGE_POLICIES:
        yield from rules.one_of(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    if given.get("ports"):
        yield from _ports(f"{path}.ports", given["ports"])
    if given.get("env"):
        yield from _env(f"{path}.env", given["env"])
    if given.get("envFrom"):
        yield from _env_from(f"{path}.envFrom", given["envFrom"])
    if given.get("volumeMounts") or given.get("volumeDevices"):
        yield from _mounts(path, given, volumes)
    if given.get("imagePullPolicy") not in PULL_POLICIES:
        yield from rules.one_of(f"{path}.imagePullPolicy", given.get("imagePullPolicy"), PULL_POLICIES)
    if given.get("resources"):
        yield from rules.resources(f"{path}.resources", given["resources"])
    if given.get("resizePolicy"):
        yield from _resize(f"{path}.resizePolicy", given["resizePolicy"])
    if given.get("securityContext"):
        yield from security(f"{path}.securityContext", given["securityContext"])


def probes(path: str, given: Obj) -> Faults:
    """Hooks and probes, of a container that may have them."""
    if lifecycle := given.get("lifecycle"):
        for name in ("postStart", "preStop"):
            if (hook := lifecycle.get(name)) is not None:
                yield from _handler(f"{path}.lifecycle.{name}", hook, ("exec", "httpGet", "tcpSocket", "sleep"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        found = given.get(name)
        if found is None:
            continue
        yield from _probe(f"{path}.{name}", found)
        if name == "readinessProbe":
            if found.get("terminationGracePeriodSeconds") is not None:
                value = found["terminationGracePeriodSeconds"]
                yield Cause.invalid(f"{path}.{name}.terminationGracePeriodSeconds", value, "must not be set for readinessProbes")
        elif found.get("successThreshold") != 1:
            yield Cause.invalid(f"{path}.{name}.successThreshold", found.get("successThreshold"), "must be 1")


def restarts(path: str, given: Obj) -> Faults:
    """A container's own restart policy and rules (KEP-5307, KEP-5532)."""
    policy, listed = given.get("restartPolicy"), given.get("restartPolicyRules") or ()
    if policy is None and listed:
        yield Cause.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    yield from rules.optional(f"{path}.restartPolicy", policy, RESTART_POLICIES)
    if len(listed) > 20:
        yield Cause("FieldValueTooMany", f"{path}.restartPolicyRules", f"Too many: {len(listed)}: must have at most 20 items")
    for i, rule in enumerate(listed):
        here, codes = f"{path}.restartPolicyRules[{i}]", rule.get("exitCodes")
        if rule.get("action") not in _RULE_ACTIONS:
            yield Cause.not_supported(f"{here}.action", rule.get("action", ""), _RULE_ACTIONS)
        if codes is None:
            yield Cause.required(f"{here}.exitCodes", "must be specified")
            continue
        if codes.get("operator") not in ("In", "NotIn"):
            yield Cause.not_supported(f"{here}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn"))
        if (amount := len(codes.get("values") or ())) > 255:
            yield Cause("FieldValueTooMany", f"{here}.exitCodes.values", f"Too many: {amount}: must have at most 255 items")


def _probe(path: str, probe: Obj) -> Faults:
    yield from _handler(path, probe, ("exec", "httpGet", "tcpSocket", "grpc"))
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from rules.not_negative(f"{path}.{field}", probe.get(field))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield Cause.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def _handler(path: str, handler: Obj, kinds: Sequence[str]) -> Faults:
    given = [kind for kind in kinds if handler.get(kind) is not None]
    if not given:
        yield Cause.required(path, "must specify a handler type")
        return
    for kind in given[1:]:
        yield Cause.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    kind, action = given[0], handler[given[0]]
    here = f"{path}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            yield Cause.required(f"{here}.command")
    elif kind == "sleep":
        yield from rules.not_negative(here, action.get("seconds"))
    else:
        if kind == "httpGet":
            if not action.get("path"):
                yield Cause.required(f"{here}.path")
            if action.get("scheme") not in _SCHEMES:
                yield Cause.not_supported(f"{here}.scheme", action.get("scheme", ""), _SCHEMES)
            for header in action.get("httpHeaders") or ():
                yield from rules.checked(f"{here}.httpHeaders", header.get("name", ""), names.http_header_name)
        yield from rules.port_or_name(f"{here}.port", action.get("port"))


def _ports(path: str, ports: Sequence[Obj]) -> Faults:
    taken: set[str] = set()
    for i, port in enumerate(ports):
        here = f"{path}[{i}]"
        if name := port.get("name"):
            faults = names.port_name(name)
            for fault in faults:
                yield Cause.invalid(f"{here}.name", name, fault)
            if not faults:
                if name in taken:
                    yield Cause.duplicate(f"{here}.name", name)
                taken.add(name)
        if not port.get("containerPort"):
            yield Cause.required(f"{here}.containerPort")
        else:
            yield from rules.port(f"{here}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from rules.port(f"{here}.hostPort", port["hostPort"])
        if port.get("hostIP"):
            yield from rules.ip(f"{here}.hostIP", port["hostIP"])
        yield from rules.one_of(f"{here}.protocol", port.get("protocol"), rules.PROTOCOLS)


def _env(path: str, variables: Sequence[Obj]) -> Faults:
    for i, variable in enumerate(variables):
        name, source = variable.get("name"), variable.get("valueFrom")
        if source is None and name and rules.sound(name, names.relaxed_env_var_name):
            continue
        here = f"{path}[{i}]"
        yield from rules.named(f"{here}.name", name, names.relaxed_env_var_name)
        if source is not None:
            yield from _value_from(f"{here}.valueFrom", source, variable.get("value") or "")


_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def _value_from(path: str, source: Obj, value: str) -> Faults:
    given = [name for name in _SOURCES if source.get(name) is not None]
    for name in given:
        here, ref = f"{path}.{name}", source[name]
        if name == "fieldRef":
            yield from field_ref(here, ref, ENV_FIELDS, subscripts=True)
        elif name == "resourceFieldRef":
            yield from resource_ref(here, ref, volume=False)
        elif name == "fileKeyRef":
            yield from rules.named(f"{here}.key", ref.get("key"), names.relaxed_env_var_name)
            yield from rules.named(f"{here}.volumeName", ref.get("volumeName"), names.dns1123_label)
            if not ref.get("path"):
                yield Cause.required(f"{here}.path")
            else:
                yield from rules.relative_path(f"{here}.path", ref["path"])
        else:
            yield from rules.checked(f"{here}.name", ref.get("name", ""), names.dns1123_subdomain)
            yield from rules.named(f"{here}.key", ref.get("key"), names.config_map_key)
    if not given:
        words = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield Cause.invalid(path, "", words)
    elif value:
        yield Cause.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield Cause.invalid(path, "", "may not have more than one field specified at a time")


def field_ref(path: str, ref: Obj, fields: Sequence[str], *, subscripts: bool) -> Faults:
    """A field of the pod, for its own environment or files."""
    given = ref.get("fieldPath") or ""
    if not ref.get("apiVersion"):
        yield Cause.required(f"{path}.apiVersion")
    elif not given:
        yield Cause.required(f"{path}.fieldPath")
    elif match := _SUBSCRIPT.fullmatch(given):
        if match[1] == "metadata.annotations":
            yield from rules.checked(path, match[2].lower(), names.label_key)
        elif match[1] == "metadata.labels":
            yield from rules.checked(path, match[2], names.label_key)
        else:
            words = f"error converting fieldPath: field label not supported: {given}"
            yield Cause.invalid(f"{path}.fieldPath", given, words)
    elif given not in fields:
        if given in ("metadata.annotations", "metadata.labels"):
            yield Cause.not_supported(f"{path}.fieldPath", given, fields)
        else:
            yield Cause.invalid(f"{path}.fieldPath", given, f"error converting fieldPath: field label not supported: {given}")


def resource_ref(path: str, ref: Obj, *, volume: bool) -> Faults:
    """A container's own requests or limits."""
    name = ref.get("resource") or ""
    if volume and not ref.get("containerName"):
        yield Cause.required(f"{path}.containerName")
    elif not name:
        yield Cause.required(f"{path}.resource")
    elif name not in RESOURCE_FIELDS and not name.startswith(("requests.hugepages-", "limits.hugepages-")):
        yield Cause.not_supported(f"{path}.resource", name, RESOURCE_FIELDS)
    divisor = quantity.parse(ref.get("divisor", "0"))
    if not divisor:
        return
    if name.endswith(".cpu"):
        if str(divisor) not in ("1m", "1"):
            yield Cause.invalid(f"{path}.divisor", name, "only divisor's values 1m and 1 are supported with the cpu resource")
    elif str(divisor) not in _BYTES:
        what = "memory" if name.endswith(".memory") else "local ephemeral storage" if name.endswith("storage") else "hugepages"
        yield Cause.invalid(f"{path}.divisor", name, f"only divisor's values {', '.join(_BYTES)} are supported with the {what} resource")


def _env_from(path: str, sources: Sequence[Obj]) -> Faults:
    for i, source in enumerate(sources):
        here = f"{path}[{i}]"
        if source.get("prefix"):
            yield from rules.checked(f"{here}.prefix", source["prefix"], names.relaxed_env_var_name)
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for name in given:
            yield from rules.named(f"{here}.{name}.name", source[name].get("name"), names.dns1123_subdomain)
        if not given:
            yield Cause.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(given) > 1:
            yield Cause.invalid(path, "", "may not have more than one field specified at a time")


def _mounts(path: str, given: Obj, volumes: Mapping[str, Obj]) -> Faults:
    mounts, devices = given.get("volumeMounts") or (), given.get("volumeDevices") or ()
    device_names, device_paths = {d.get("name") for d in devices}, {d.get("devicePath") for d in devices}
    taken: set[str] = set()
    for i, mount in enumerate(mounts):
        here = f"{path}.volumeMounts[{i}]"
        name, where = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield Cause.required(f"{here}.name")
        if name not in volumes:
            yield Cause.not_found(f"{here}.name", name)
        if not where:
            yield Cause.required(f"{here}.mountPath")
        if where in taken:
            yield Cause.invalid(f"{here}.mountPath", where, "must be unique")
        taken.add(where)
        if name in device_names:
            yield Cause.invalid(f"{here}.name", name, "must not already exist in volumeDevices")
        if where in device_paths:
            yield Cause.invalid(f"{here}.mountPath", where, "must not already exist as a path in volumeDevices")
        if mount.get("subPath"):
            yield from rules.relative_path(f"{path}.volumeMounts.subPath", mount["subPath"])
        if expression := mount.get("subPathExpr"):
            if mount.get("subPath"):
                yield Cause.invalid(f"{here}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
            yield from rules.relative_path(f"{path}.volumeMounts.subPathExpr", expression)
        yield from _mount_modes(f"{path}.volumeMounts", here, mount, given)
    for i, device in enumerate(devices):
        here = f"{path}.volumeDevices[{i}]"
        name = device.get("name") or ""
        if not name:
            yield Cause.required(f"{here}.name")
        if name not in volumes:
            yield Cause.not_found(f"{here}.name", name)
        elif not {"persistentVolumeClaim", "ephemeral"} & volumes[name].keys():
            words = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield Cause.invalid(f"{here}.name", name, words)
        if not device.get("devicePath"):
            yield Cause.required(f"{here}.devicePath")


def _mount_modes(path: str, here: str, mount: Obj, given: Obj) -> Faults:
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in _PROPAGATIONS:
            yield Cause.not_supported(f"{path}.mountPropagation", propagation, _PROPAGATIONS)
        elif propagation == "Bidirectional" and not (given.get("securityContext") or {}).get("privileged"):
            yield Cause.forbidden(f"{path}.mountPropagation", "Bidirectional mount propagation is available only to privileged containers")
    recursive = mount.get("recursiveReadOnly")
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield Cause.forbidden(f"{here}.recursiveReadOnly", "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            yield Cause.forbidden(f"{here}.recursiveReadOnly", "may only be specified when mountPropagation is None or not specified")
    elif recursive not in (None, "Disabled"):
        yield Cause.not_supported(f"{here}.recursiveReadOnly", recursive, ("Disabled", "Enabled", "IfPossible"))


def _resize(path: str, policies: Sequence[Obj]) -> Faults:
    seen: set[str] = set()
    for policy in policies:
        name = policy.get("resourceName", "")
        if name in seen:
            yield Cause.duplicate(path, name)
        seen.add(name)
        if name not in ("cpu", "memory"):
            yield from rules.one_of(path, name, ("cpu", "memory"))
        yield from rules.one_of(path, policy.get("restartPolicy"), ("NotRequired", "RestartContainer"))


def seccomp(path: str, profile: Obj) -> Faults:
    """A seccomp profile, of a pod or of a container."""
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        yield Cause.required(f"{path}.type", "type is required when seccompProfile is set")
    else:
        yield from rules.one_of(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))
    if kind == "Localhost":
        if local is None:
            yield Cause.required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            yield from rules.relative_path(f"{path}.localhostProfile", local)
    elif local is not None:
        yield Cause.invalid(f"{path}.localhostProfile", profile, "can only be set when seccomp type is Localhost")


def security(path: str, given: Obj) -> Faults:
    """A container's security context."""
    for field in ("runAsUser", "runAsGroup"):
        yield from rules.within(f"{path}.{field}", given.get(field), 0, rules.MAX_INT32)
    if (profile := given.get("seccompProfile")) is not None:
        yield from seccomp(f"{path}.seccompProfile", profile)
    yield from rules.optional(f"{path}.procMount", given.get("procMount"), ("Default", "Unmasked"))
    if given.get("allowPrivilegeEscalation") is False:
        if given.get("privileged"):
            yield Cause.invalid(path, given, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        added: Any = (given.get("capabilities") or {}).get("add") or ()
        if "CAP_SYS_ADMIN" in added:
            yield Cause.invalid(path, given, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
