"""Namespaces that are being deleted: all that is in them goes, pods first, then the namespace's own finalizer.

assess(): what is left, resource by resource → the namespace's conditions and whether it may go. What there is to delete is asked of
discovery, so that custom resources go too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, change, merge_status
from minikube_py.controllers.discovery import Served, discover
from minikube_py.controllers.pods import condition_json, with_condition
from minikube_py.meta.errors import MethodNotAllowed, NotFound, StatusError
from minikube_py.types.core import Namespace
from minikube_py.types.meta import Condition, PartialObject, ResourceRef
from minikube_py.types.pod import Pod

FINALIZER = "kubernetes"


class Remains(NamedTuple):
    """What is left of one resource: how many objects, and how many wait for which finalizer."""

    ref: ResourceRef
    objects: int
    finalizers: Mapping[str, int]


def assess(
    conditions: Sequence[Condition], remains: Iterable[Remains], discovery_error: str, delete_errors: Sequence[str], now: float
) -> tuple[Condition, ...]:
    """The conditions that say why the namespace is still there, in upstream's words."""
    left = [r for r in remains if r.objects]
    finalizers: dict[str, int] = {}
    for r in left:
        for name, count in r.finalizers.items():
            finalizers[name] = finalizers.get(name, 0) + count
    amounts = ", ".join(sorted(f"{r.ref.plural}.{r.ref.group} has {r.objects} resource instances" for r in left))
    waiting = ", ".join(sorted(f"{name} in {count} resource instances" for name, count in finalizers.items()))
    failed = f"Failed to delete all resource types, {len(delete_errors)} remaining: {', '.join(sorted(delete_errors))}"
    verdicts = (
        (
            "NamespaceDeletionDiscoveryFailure",
            ("DiscoveryFailed", f"Discovery failed for some groups, 1 failing: {discovery_error}") if discovery_error else None,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        ("NamespaceDeletionGroupVersionParsingFailure", None, ("ParsedGroupVersions", "All legacy kube types successfully parsed")),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", failed) if delete_errors else None,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", f"Some resources are remaining: {amounts}") if left else None,
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {waiting}") if finalizers else None,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    )
    result = tuple(conditions)
    for type_, bad, good in verdicts:
        reason, message = bad or good
        result = with_condition(result, type_, "True" if bad else "False", reason, message, now)
    return result


class NamespaceController(Controller):
    """Empties and removes namespaces."""

    name = "namespace"
    identity = "namespace-controller"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = context.informers.of(Namespace)
        self._pods = context.informers.of(Pod)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._namespaces, lambda ns: (ns.key,) if is_ending(ns) else ()), Watch(self._pods, self._ending_of))

    def _ending_of(self, pod: Pod) -> Iterable[str]:
        namespace = self._namespaces.get(pod.metadata.namespace)
        if namespace is not None and is_ending(namespace) and not self._pods.list(pod.metadata.namespace):
            yield namespace.key

    async def reconcile(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or not is_ending(namespace):
            return None
        if namespace.status.phase != "Terminating":
            try:
                namespace = await change(self.client, namespace, merge_status({"phase": "Terminating"}), "status")
            except NotFound:
                return None
        if FINALIZER not in namespace.spec.finalizers:
            return None
        discovery_error = ""
        served: tuple[Served, ...] = ()
        try:
            served = await discover(self.client)
        except StatusError as error:
            discovery_error = error.message
        targets = [s for s in served if s.ref.namespaced and "delete" in s.verbs and not _is_alias(s)]
        pods = [s for s in targets if s.ref.plural == "pods" and not s.ref.group]
        remains, errors = await self._empty(key, pods)
        if not remains and not errors:
            remains, errors = await self._empty(key, [s for s in targets if s not in pods])
        if not remains and not errors and not discovery_error:
            await self._finalize(key)
            return None
        await self._say(namespace, assess(namespace.status.conditions, remains, discovery_error, errors, self.clock.time()))
        if errors or discovery_error:
            raise StatusError(f"namespace {key} could not be emptied: {', '.join(errors) or discovery_error}")
        return _patience(remains)

    async def _empty(self, namespace: str, targets: Iterable[Served]) -> tuple[list[Remains], list[str]]:
        """Delete everything of these resources; gives what is left and what went wrong."""
        remains: list[Remains] = []
        errors: list[str] = []
        for served in targets:
            try:
                left = await self._empty_one(namespace, served)
            except StatusError as error:
                errors.append(error.message)
                continue
            if left.objects:
                remains.append(left)
        return remains, errors

    async def _empty_one(self, namespace: str, served: Served) -> Remains:
        ref = served.ref
        try:
            present = (await self.client.list(PartialObject, namespace, resource=ref)).items
        except (NotFound, MethodNotAllowed):
            return Remains(ref, 0, {})
        if not present:
            return Remains(ref, 0, {})
        if "deletecollection" in served.verbs:
            options = orjson.dumps({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
            await self.client.request("DELETE", ref.path(namespace), body=options)
        else:
            for obj in present:
                try:
                    await self.client.delete(PartialObject, obj.metadata.name, namespace, propagation="Background", resource=ref)
                except NotFound:
                    continue
        left = (await self.client.list(PartialObject, namespace, resource=ref)).items
        finalizers: dict[str, int] = {}
        for obj in left:
            for finalizer in obj.metadata.finalizers:
                finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        return Remains(ref, len(left), finalizers)

    async def _say(self, namespace: Namespace, conditions: tuple[Condition, ...]) -> None:
        if conditions == namespace.status.conditions:
            return
        status = {"conditions": [condition_json(c) for c in conditions]}
        try:
            await change(self.client, namespace, merge_status(status), "status")
        except NotFound:
            return

    async def _finalize(self, name: str) -> None:
        path = Namespace.resource.path(None, name)
        try:
            body = orjson.loads(await self.client.request("GET", path))
            spec = body.setdefault("spec", {})
            spec["finalizers"] = [f for f in spec.get("finalizers") or () if f != FINALIZER]
            await self.client.request("PUT", f"{path}/finalize", body=orjson.dumps(body))
        except NotFound:
            return


def is_ending(namespace: Namespace) -> bool:
    """Whether the namespace is being deleted."""
    return namespace.metadata.deletionTimestamp is not None


def _is_alias(served: Served) -> bool:
    """Events are one storage under two groups: the core one is enough."""
    return served.ref.kind == "Event" and bool(served.ref.group)


def _patience(remains: Sequence[Remains]) -> float:
    """Seconds until another look: pods that end gracefully wake us themselves."""
    return 5.0 if all(r.ref.plural == "pods" and not r.finalizers for r in remains) else 1.0


__all__ = ["NamespaceController", "Remains", "assess", "is_ending"]
