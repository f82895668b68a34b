"""Pods: what they are like when new, what of them may change, how long they may take to go. Upstream: pkg/registry/core/pod/strategy.go.

Every subresource that writes a pod (status, ephemeralcontainers, resize, binding) changes its own part only; the rest is taken from the
stored pod, whatever the client sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minikube_py.meta import names
from minikube_py.meta.errors import Cause
from minikube_py.resources import placement, podresize, rules
from minikube_py.resources.api import Obj, Strategy, WriteContext
from minikube_py.resources.names import IP_FAULT, parse_ip
from minikube_py.resources.podspec import pod_spec
from minikube_py.resources.podspec_defaults import default_pod
from minikube_py.resources.podspec_warnings import pod_warnings
from minikube_py.resources.quantities import qos_class
from minikube_py.resources.rules import Faults
from minikube_py.types.meta import timestamp

_GATED = "Scheduling is blocked due to non-empty scheduling gates"
_UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)


def _spec_field(name: str) -> Any:
    return lambda pod: str((pod.get("spec") or {}).get(name) or "")


def _status_field(name: str) -> Any:
    return lambda pod: str((pod.get("status") or {}).get(name) or "")


def _pod_ips(pod: Obj) -> str:
    return ",".join(p.get("ip", "") for p in (pod.get("status") or {}).get("podIPs") or ())


class PodStrategy(Strategy):
    """A pod is Pending when new; its spec hardly changes; it goes gracefully once it runs somewhere."""

    has_status = True
    selectable_fields = {
        "spec.nodeName": _spec_field("nodeName"),
        "spec.restartPolicy": _spec_field("restartPolicy"),
        "spec.schedulerName": _spec_field("schedulerName"),
        "spec.serviceAccountName": _spec_field("serviceAccountName"),
        "spec.hostNetwork": lambda pod: "true" if (pod.get("spec") or {}).get("hostNetwork") else "false",
        "status.phase": _status_field("phase"),
        "status.podIP": _status_field("podIP"),
        "status.podIPs": _pod_ips,
        "status.nominatedNodeName": _status_field("nominatedNodeName"),
    }

    def default(self, obj: Obj) -> None:
        default_pod(obj)

    def prepare_create(self, obj: Obj, context: WriteContext) -> None:
        obj["metadata"]["generation"] = 1
        spec = obj["spec"]
        status: Obj = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            status["conditions"] = [
                {
                    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": _GATED,
                    "lastTransitionTime": timestamp(context.now),
                }
            ]  # fmt: skip
        obj["status"] = status
        _merge_label_keys(obj)

    def prepare_update(self, obj: Obj, old: Obj, context: WriteContext) -> None:
        if context.subresource == "binding":
            return
        status = obj.get("status")
        if context.subresource == "status":
            _prepare_status(obj, old, status or {})
        else:
            obj["status"] = old.get("status") or {}
            if context.subresource:
                metadata = dict(old["metadata"])
                if "managedFields" in obj["metadata"]:
                    metadata["managedFields"] = obj["metadata"]["managedFields"]
                asked = obj["spec"]
                obj["metadata"], obj["spec"] = metadata, dict(old["spec"])
                if context.subresource == "ephemeralcontainers":
                    _take(obj["spec"], asked, "ephemeralContainers")
                elif context.subresource == "resize":
                    obj["spec"] = podresize.resized_spec(old["spec"], asked)
        generation = old["metadata"].get("generation", 0)
        if obj["spec"] != old["spec"]:
            generation += 1
        if generation:
            obj["metadata"]["generation"] = generation

    def validate(self, obj: Obj) -> list[Cause]:
        found = list(_pod(obj))
        spec = obj["spec"]
        if spec.get("ephemeralContainers"):
            found.append(Cause.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        if spec.get("nodeName") and spec.get("schedulingGates"):
            found.append(Cause.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
        return found

    def validate_update(self, obj: Obj, old: Obj, context: WriteContext) -> list[Cause]:
        if context.subresource == "status":
            return list(_status_faults(obj, old))
        if context.subresource == "binding":
            return []
        if obj["spec"] == old["spec"]:
            return []
        rules_of = {"ephemeralcontainers": _ephemeral_faults, "resize": podresize.faults}.get(context.subresource, _update_faults)
        return [*_pod(obj), *rules_of(obj, old)]

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return pod_warnings(obj) if old is None or obj["spec"] != old["spec"] else []

    def grace_period(self, obj: Obj, requested: int | None) -> int:
        spec = obj.get("spec") or {}
        period = spec.get("terminationGracePeriodSeconds") or 0 if requested is None else requested
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        return 1 if period < 0 else int(period)


def _merge_label_keys(pod: Obj) -> None:
    """matchLabelKeys become requirements on the pod's own values, so that the scheduler need not know of them."""
    labels, spec = pod["metadata"].get("labels") or {}, pod["spec"]
    for constraint in spec.get("topologySpreadConstraints") or ():
        _require(constraint, constraint.get("matchLabelKeys"), labels, "In")
    for kind in ("podAffinity", "podAntiAffinity"):
        given = (spec.get("affinity") or {}).get(kind) or {}
        terms = list(given.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            t["podAffinityTerm"] for t in given.get("preferredDuringSchedulingIgnoredDuringExecution") or () if "podAffinityTerm" in t
        ]
        for term in terms:
            _require(term, term.get("matchLabelKeys"), labels, "In")
            _require(term, term.get("mismatchLabelKeys"), labels, "NotIn")


def _require(term: Obj, keys: Sequence[str] | None, labels: Obj, operator: str) -> None:
    if not keys or term.get("labelSelector") is None:
        return
    added = [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys if key in labels]
    if added:
        selector = term["labelSelector"]
        selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _take(spec: Obj, asked: Obj, field: str) -> None:
    if field in asked:
        spec[field] = asked[field]
    else:
        spec.pop(field, None)


def _prepare_status(obj: Obj, old: Obj, status: Obj) -> None:
    """/status changes the status, and metadata but for who owns the pod and when it goes."""
    obj["spec"] = old["spec"]
    metadata = obj["metadata"]
    for field in ("ownerReferences", "deletionTimestamp"):
        if field in old["metadata"]:
            metadata[field] = old["metadata"][field]
        else:
            metadata.pop(field, None)
    if not status.get("qosClass"):
        status["qosClass"] = (old.get("status") or {}).get("qosClass") or qos_class(old["spec"])
    obj["status"] = status


def _pod(obj: Obj) -> Faults:
    """The rules for pods that templates do not have, and those that they have."""
    spec = obj["spec"]
    annotations = obj["metadata"].get("annotations") or {}
    cost = annotations.get("controller.kubernetes.io/pod-deletion-cost")
    if cost is not None and not _int32(cost):
        path = "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]"
        yield Cause.invalid(path, cost, "must be a 32bit integer")
    yield from pod_spec("spec", spec)
    for listed in ("containers", "initContainers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(listed) or ()):
            image = container.get("image") or ""
            if image != image.strip():
                yield Cause.invalid(f"spec.{listed}[{i}].image", image, "must not have leading or trailing whitespace")
    if not spec.get("serviceAccountName"):
        for i, volume in enumerate(spec.get("volumes") or ()):
            for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
                if source.get("serviceAccountToken") is not None:
                    path = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                    yield Cause.forbidden(path, "must not be specified when serviceAccountName is not set")


def _int32(text: str) -> bool:
    digits = text[1:] if text[:1] in "+-" else text
    return digits.isascii() and digits.isdigit() and (text[:1] != "+") and -(2**31) <= int(text) < 2**31


def _update_faults(obj: Obj, old: Obj) -> Faults:
    new_spec, old_spec = obj["spec"], old["spec"]
    for listed in ("containers", "initContainers"):
        if len(new_spec.get(listed) or ()) != len(old_spec.get(listed) or ()):
            yield Cause.forbidden(f"spec.{listed}", "pod updates may not add or remove containers")
            return
    deadline, before = new_spec.get("activeDeadlineSeconds"), old_spec.get("activeDeadlineSeconds")
    if deadline is not None and before is not None and before < deadline:
        yield Cause.invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
        return
    if deadline is None and before is not None:
        yield Cause.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    yield from _added_tolerations(new_spec.get("tolerations") or (), old_spec.get("tolerations") or ())
    gates = {g.get("name") for g in old_spec.get("schedulingGates") or ()}
    for gate in new_spec.get("schedulingGates") or ():
        if gate.get("name") not in gates:
            words = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield Cause.forbidden("spec.schedulingGates", words)
    munged, kept = _comparable(new_spec, old_spec), _comparable(old_spec, old_spec)
    if munged != kept:
        yield Cause.forbidden("spec", _UPDATABLE + "\n" + "\n".join(_difference("spec", kept, munged)))


def _comparable(spec: Obj, old: Obj) -> Obj:
    """A spec without what may change, so that the rest can be compared."""
    out = rules.without(spec, ("activeDeadlineSeconds", "tolerations", "schedulingGates"))
    if old.get("schedulingGates"):
        # While scheduling is gated, where the pod may go can still be narrowed down.
        out.pop("nodeSelector", None)
        affinity = dict(out.pop("affinity", None) or {})
        affinity.pop("nodeAffinity", None)
        if affinity:
            out["affinity"] = affinity
    for listed in ("containers", "initContainers"):
        if listed in out:
            out[listed] = [rules.without(c, ("image",)) for c in out[listed]]
    grace = old.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0 and out.get("terminationGracePeriodSeconds") == 1:
        out["terminationGracePeriodSeconds"] = grace
    return out


def _difference(path: str, old: Any, new: Any) -> Iterator[str]:
    """Which fields differ, and how."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _difference(f"{path}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _difference(f"{path}[{i}]", before, after)
    else:
        import json

        yield f"  {path}: {json.dumps(old)} -> {json.dumps(new)}"


def _added_tolerations(new: Sequence[Obj], old: Sequence[Obj]) -> Faults:
    kept = [rules.without(t, ("tolerationSeconds",)) for t in new]
    for toleration in old:
        if rules.without(toleration, ("tolerationSeconds",)) not in kept:
            yield Cause.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
            return
    if new != old:
        yield from placement.tolerations("spec.tolerations", new)


def _ephemeral_faults(obj: Obj, old: Obj) -> Faults:
    new = {c.get("name"): c for c in obj["spec"].get("ephemeralContainers") or ()}
    for container in old["spec"].get("ephemeralContainers") or ():
        name = container.get("name")
        if name not in new:
            yield Cause.forbidden("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n')
        elif new[name] != container:
            difference = "\n".join(_difference("spec.ephemeralContainers", container, new[name]))
            words = f'existing ephemeral containers "{name}" may not be changed\n{difference}'
            yield Cause.forbidden("spec.ephemeralContainers", words)


_SYSTEM_CONDITIONS = frozenset({"PodScheduled", "Ready", "Initialized"})


def _status_faults(obj: Obj, old: Obj) -> Faults:
    status, before = obj.get("status") or {}, old.get("status") or {}
    for i, condition in enumerate(status.get("conditions") or ()):
        if condition.get("type") not in _SYSTEM_CONDITIONS:
            yield from rules.checked(f"status.conditions[{i}].Type", condition.get("type", ""), names.label_key)
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        yield from rules.checked("status.nominatedNodeName", nominated, names.dns1123_subdomain)
    policy = old["spec"].get("restartPolicy")
    lasting = [*(old["spec"].get("initContainers") or ()), *(old["spec"].get("containers") or ())]
    rules_given = [rule for c in lasting for rule in c.get("restartPolicyRules") or ()]
    if any(rule.get("action") == "RestartAllContainers" for rule in rules_given):
        policy = "Always"  # any container may be started again
    own = {c.get("name") for c in lasting if (c.get("restartPolicy") or "Never") != "Never" or c.get("restartPolicyRules")}
    for field, which in (("containerStatuses", policy), ("initContainerStatuses", policy), ("ephemeralContainerStatuses", "Never")):
        if which != "Always":
            yield from _transitions(f"status.{field}", status.get(field) or (), before.get(field) or (), which, own)
    ips = [p.get("ip", "") for p in status.get("podIPs") or ()]
    for i, address in enumerate(ips):
        if parse_ip(address) is None:
            yield Cause.invalid(f"status.podIPs[{i}]", address, IP_FAULT)
        elif address in ips[:i]:
            yield Cause.duplicate(f"status.podIPs[{i}]", {"ip": address})
    if len(ips) > 1:
        families = [parsed.version for a in ips if (parsed := parse_ip(a))]
        if len(set(families)) != len(families):
            yield Cause.invalid("status.podIPs", status.get("podIPs"), "may specify no more than one IP for each IP family")


def _transitions(path: str, new: Sequence[Obj], old: Sequence[Obj], policy: Any, restarting: set[Any]) -> Faults:
    """What has ended for good stays ended."""
    states = {s.get("name"): s.get("state") or {} for s in new}
    for i, status in enumerate(old):
        terminated = (status.get("state") or {}).get("terminated")
        name = status.get("name")
        if terminated is None or name in restarting or name not in states:
            continue
        if terminated.get("exitCode") and policy == "OnFailure":
            continue
        if states[name].get("terminated") is None:
            yield Cause.forbidden(f"{path}[{i}].state", "may not be transitioned to non-terminated state")
