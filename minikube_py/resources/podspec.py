"""What a pod spec may be, in a pod and in a template. Upstream: pkg/apis/core/validation (ValidatePodSpec, ValidatePodTemplateSpec)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import containers, placement, podlevel, rules, volumes
from minikube_py.resources.api import Obj
from minikube_py.resources.names import parse_ip
from minikube_py.resources.rules import Faults

DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_SYSCTL_PATTERN = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(_SYSCTL_PATTERN)
_INIT_ONLY = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
_EPHEMERAL_FIELDS = frozenset(
    [
        "name",
        "targetContainerName",
        "image",
        "command",
        "args",
        "workingDir",
        "env",
        "envFrom",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "resources",
    ]
)


def pod_spec(path: str, spec: Obj) -> Faults:
    """The whole of a pod spec."""
    by_name: Mapping[str, Obj] = {v.get("name") or "": v for v in spec.get("volumes") or ()}
    if by_name:
        yield from volumes.volumes(f"{path}.volumes", spec["volumes"])
    yield from _containers(path, spec, by_name)
    yield from rules.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), containers.RESTART_POLICIES)
    yield from rules.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), DNS_POLICIES)
    yield from rules.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    yield from _security(path, spec)
    if spec.get("affinity"):
        yield from placement.affinity(f"{path}.affinity", spec["affinity"])
    if spec.get("dnsConfig") is not None or spec.get("dnsPolicy") == "None":
        yield from _dns(f"{path}.dnsConfig", spec.get("dnsConfig"), spec.get("dnsPolicy"))
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        yield from rules.checked(f"{path}.readinessGates[{i}].conditionType", gate.get("conditionType", ""), names.label_key)
    yield from _scheduling_gates(f"{path}.schedulingGates", spec.get("schedulingGates") or ())
    if spec.get("topologySpreadConstraints"):
        yield from placement.spread(f"{path}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    for field in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(field):
            yield from rules.checked(f"{path}.{field}", spec[field], names.dns1123_subdomain)
    yield from rules.within(f"{path}.activeDeadlineSeconds", spec.get("activeDeadlineSeconds"), 1, rules.MAX_INT32)
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            yield from rules.checked(f"{path}.{field}", spec[field], names.dns1123_label)
    if spec.get("tolerations"):
        yield from placement.tolerations(f"{path}.tolerations", spec["tolerations"])
    for alias in spec.get("hostAliases") or ():
        yield from rules.ip(f"{path}.hostAliases.ip", alias.get("ip", ""), "must be valid IP address")
        for name in alias.get("hostnames") or ():
            yield from rules.checked(f"{path}.hostAliases.hostnames", name, names.dns1123_subdomain)
    if spec.get("preemptionPolicy") is not None:
        yield from rules.one_of(f"{path}.preemptionPolicy", spec["preemptionPolicy"], ("PreemptLowerPriority", "Never"))
    if (system := spec.get("os")) is not None:
        yield from rules.one_of(f"{path}.os.name", system.get("name"), ("linux", "windows"))
    if spec.get("resources"):
        yield from podlevel.resources(f"{path}.resources", spec)
    yield from podlevel.hostname(path, spec)
    yield from podlevel.key_files(path, spec)
    yield from podlevel.proc_mounts(path, spec)


def _containers(path: str, spec: Obj, by_name: Mapping[str, Obj]) -> Faults:
    listed = spec.get("containers") or ()
    if not listed:
        yield Cause.required(f"{path}.containers")
    taken: set[str] = set()
    for i, container in enumerate(listed):
        here = f"{path}.containers[{i}]"
        yield from containers.container(here, container, by_name)
        yield from _unique(here, container, taken)
        yield from containers.probes(here, container)
        yield from containers.restarts(here, container)
    yield from _host_ports(f"{path}.containers", listed)
    for i, container in enumerate(spec.get("initContainers") or ()):
        here = f"{path}.initContainers[{i}]"
        yield from containers.container(here, container, by_name)
        yield from _unique(here, container, taken)
        yield from containers.restarts(here, container)
        if container.get("restartPolicy") == "Always":
            yield from containers.probes(here, container)
        else:
            for field in _INIT_ONLY:
                if container.get(field) is not None:
                    yield Cause.forbidden(f"{here}.{field}", "may not be set for init containers without restartPolicy=Always")
        yield from _host_ports(f"{path}.initContainers", [container])
    targets = frozenset(taken)
    for i, container in enumerate(spec.get("ephemeralContainers") or ()):
        here = f"{path}.ephemeralContainers[{i}]"
        yield from containers.container(here, container, by_name)
        yield from _unique(here, container, taken)
        target = container.get("targetContainerName")
        if target and target not in targets:
            yield Cause.not_found(f"{here}.targetContainerName", target)
        yield from _ephemeral(here, container)


def _unique(here: str, container: Obj, taken: set[str]) -> Faults:
    name = container.get("name") or ""
    if name and name in taken:
        yield Cause.duplicate(f"{here}.name", name)
    taken.add(name)


def _ephemeral(here: str, container: Obj) -> Faults:
    for field, value in container.items():
        if value not in (None, {}, []) and (field not in _EPHEMERAL_FIELDS or field == "resources"):
            yield Cause.forbidden(f"{here}.{field}", "cannot be set for an Ephemeral Container")
    for i, mount in enumerate(container.get("volumeMounts") or ()):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                yield Cause.forbidden(f"{here}.volumeMounts[{i}].{field}", "cannot be set for an Ephemeral Container")


def _host_ports(path: str, listed: Sequence[Obj]) -> Faults:
    taken: set[str] = set()
    for i, container in enumerate(listed):
        for j, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                text = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
                if text in taken:
                    yield Cause.duplicate(f"{path}[{i}].ports[{j}].hostPort", text)
                taken.add(text)


def _security(path: str, spec: Obj) -> Faults:
    given, here = spec.get("securityContext") or {}, f"{path}.securityContext"
    if spec.get("hostNetwork"):
        for i, container in enumerate(spec.get("containers") or ()):
            for j, port in enumerate(container.get("ports") or ()):
                if port.get("hostPort") and port["hostPort"] != port.get("containerPort"):
                    words = "must match `hostPort` when `hostNetwork` is true"
                    yield Cause.invalid(f"{path}.containers[{i}].ports[{j}].containerPort", port.get("containerPort"), words)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        yield Cause.invalid(f"{here}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
    if spec.get("hostUsers") is False:
        for field, name in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                yield Cause.forbidden(f"{path}.{name}", "when `hostUsers` is false")
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        yield from rules.within(f"{here}.{field}", given.get(field), 0, rules.MAX_INT32)
    for i, group in enumerate(given.get("supplementalGroups") or ()):
        yield from rules.within(f"{here}.supplementalGroups[{i}]", group, 0, rules.MAX_INT32)
    taken: set[str] = set()
    for i, sysctl in enumerate(given.get("sysctls") or ()):
        name = sysctl.get("name") or ""
        field = f"{here}.sysctls[{i}].name"
        if not name:
            yield Cause.required(field)
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            yield Cause.invalid(field, name, f"must have at most 253 characters and match regex ^{_SYSCTL_PATTERN}$")
        elif name in taken:
            yield Cause.duplicate(field, name)
        taken.add(name)
    yield from rules.optional(f"{here}.supplementalGroupsPolicy", given.get("supplementalGroupsPolicy"), ("Merge", "Strict"))
    yield from rules.optional(f"{here}.fsGroupChangePolicy", given.get("fsGroupChangePolicy"), ("Always", "OnRootMismatch"))
    if (profile := given.get("seccompProfile")) is not None:
        yield from containers.seccomp(f"{here}.seccompProfile", profile)


def _dns(path: str, config: Obj | None, policy: str | None) -> Faults:
    if policy == "None" and config is None:
        yield Cause.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        return
    config = config or {}
    servers, searches = config.get("nameservers") or (), config.get("searches") or ()
    if policy == "None" and not servers:
        yield Cause.required(f"{path}.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None")
    if len(servers) > 3:
        yield Cause.invalid(f"{path}.nameservers", list(servers), "must not have more than 3 nameservers")
    for i, server in enumerate(servers):
        if parse_ip(server) is None:
            yield Cause.invalid(f"{path}.nameservers[{i}]", server, "must be valid IP address")
    if len(searches) > 32:
        yield Cause.invalid(f"{path}.searches", list(searches), "must not have more than 32 search paths")
    if len(" ".join(searches)) > 2048:
        words = "must not have more than 2048 characters (including spaces) in the search list"
        yield Cause.invalid(f"{path}.searches", list(searches), words)
    for i, search in enumerate(searches):
        if search != ".":
            yield from rules.checked(f"{path}.searches[{i}]", search.removesuffix("."), names.underscored_dns1123_subdomain)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            yield Cause.required(f"{path}.options[{i}]", "must not be empty")


def _scheduling_gates(path: str, gates: Sequence[Obj]) -> Faults:
    taken: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name") or ""
        yield from rules.checked(f"{path}[{i}].name" if name else f"{path}[{i}]", name, names.label_key)
        if name in taken:
            yield Cause.duplicate(f"{path}[{i}]", name)
        taken.add(name)


def template(path: str, given: Obj) -> Faults:
    """A PodTemplateSpec."""
    metadata = given.get("metadata") or {}
    yield from rules.labels(f"{path}.labels", metadata.get("labels"))
    for key in metadata.get("annotations") or ():
        yield from rules.checked(f"{path}.annotations", key.lower(), names.label_key)
    spec = given.get("spec") or {}
    yield from pod_spec(f"{path}.spec", spec)
    if spec.get("ephemeralContainers"):
        yield Cause.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def workload_template(path: str, spec: Obj, kind: str, selects: Sequence[str] = ("Always",)) -> Faults:
    """The template of a workload: what it selects, and a restart policy that the workload can keep."""
    from minikube_py.meta import selectors

    given = spec.get("template") or {}
    wanted: Obj | None = spec.get("selector")
    labels = (given.get("metadata") or {}).get("labels") or {}
    selecting = wanted is not None and bool(wanted.get("matchLabels") or wanted.get("matchExpressions"))
    if selecting and not any(rules.selector("", wanted)) and not selectors.matches(wanted, labels):
        yield Cause.invalid(f"{path}.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from template(path, given)
    pod = given.get("spec") or {}
    policy = pod.get("restartPolicy")
    if policy not in selects and policy in containers.RESTART_POLICIES:
        yield Cause.not_supported(f"{path}.spec.restartPolicy", policy, selects)
    if pod.get("activeDeadlineSeconds") is not None:
        yield Cause.forbidden(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported")
