"""Evictions: deletions of pods that disruption budgets may refuse for a while (429), POSTed to pods/NAME/eviction.

What flows through: an Eviction → whether a budget guards the pod → one disruption taken from it → the pod marked as a DisruptionTarget →
a deletion. What always holds: a pod that goes uncounted, because it is not ready or has not started, is still as it was seen.
"""

from __future__ import annotations

from typing import Any

import orjson

from minikube_py.aio import Clock
from minikube_py.apiserver import answers, options
from minikube_py.apiserver.api import AdmissionRequest, Operation, Response
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.decode import decode
from minikube_py.apiserver.delete import Deleter, check_preconditions
from minikube_py.apiserver.objectmeta import metadata_of
from minikube_py.apiserver.options import DeleteOptions, write_options
from minikube_py.apiserver.write import Writer
from minikube_py.meta import selectors
from minikube_py.meta.errors import BadRequest, Conflict, TooManyRequests, forbidden
from minikube_py.resources.api import Obj, Resource
from minikube_py.schema import definitions
from minikube_py.types.meta import ResourceRef, timestamp

EVICTION = ResourceRef("policy", "v1", "evictions", "Eviction")
_MAX_DISRUPTED = 2000
_ATTEMPTS = 20


class Evictions:
    """Serves pods/eviction. `budgets` is the resource of PodDisruptionBudgets."""

    def __init__(self, cache: Cache, writer: Writer, deleter: Deleter, budgets: Resource, clock: Clock) -> None:
        self._cache, self._writer, self._deleter, self._budgets, self._clock = cache, writer, deleter, budgets, clock

    async def __call__(self, call: Call) -> Response:
        request, info = call.request, call.info
        loaded = definitions.load()
        written = write_options(request.query, call.user_agent, "CreateOptions")
        schema = loaded.schema(EVICTION.group, EVICTION.version, EVICTION.kind)
        content_type = request.headers.get("content-type", "")
        eviction = decode(request.body, content_type, EVICTION, loaded, schema, written.validation, call.warnings)
        if metadata_of(eviction).get("name") != info.name:
            raise BadRequest("name in URL does not match name in Eviction object")
        wanted = options.delete_options({}, {**(eviction.get("deleteOptions") or {}), "kind": "DeleteOptions"})
        if written.dry_run:
            wanted = wanted._replace(dry_run=True)
        admission = AdmissionRequest(
            Operation.CREATE, call.resource, "eviction", info.namespace, info.name, eviction, None, request.user, wanted.dry_run
        )
        await self._writer.admit(admission)
        for attempt in range(_ATTEMPTS):
            try:
                return await self._evict(call, wanted)
            except _Raced:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _evict(self, call: Call, wanted: DeleteOptions) -> Response:
        pod = self._cache.of(call.resource).get(call.info.namespace, call.info.name)
        if pod is None:
            raise call.missing()
        obj = pod.decode()
        free = unguarded(obj)
        # what no budget guards now must still be so when it goes
        only_this = free and not is_past_counting(obj)
        budget = ""
        if not free:
            guarding = self._guarding(obj)
            if len(guarding) > 1:
                return _too_many_budgets()
            if guarding:
                budget = guarding[0].name
                only_this = may_go_unhealthy(guarding[0].decode(), obj)
                if not only_this:
                    await self._spend(call, guarding[0], wanted.dry_run)
        pinned = wanted._replace(uid=wanted.uid or pod.uid)
        if only_this and not wanted.resource_version:
            pinned = pinned._replace(resource_version=obj["metadata"]["resourceVersion"])
        try:
            if not wanted.dry_run:
                pinned = await self._mark(call, pinned)
            await self._deleter.remove(call, call.info.namespace, call.info.name, pinned)
        except Conflict as error:
            if not only_this or wanted.resource_version:
                raise
            if budget:
                raise _later(_processed(budget), 10) from None
            raise _Raced(error.message, details=error.details) from None
        return answers.json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    def _guarding(self, pod: Obj) -> list[Entry]:
        labels = pod["metadata"].get("labels") or {}
        return [budget for budget in self._cache.of(self._budgets).entries(pod["metadata"]["namespace"]) if guards(budget, labels)]

    async def _spend(self, call: Call, budget: Entry, dry_run: bool) -> None:
        """Take one disruption from the pod's budget. Raises TooManyRequests, Forbidden."""
        now = timestamp(self._clock.time())
        ref = self._budgets.ref
        info = call.info._replace(group=ref.group, version=ref.version, resource=ref.plural, subresource="", name=budget.name)
        target = Call(call.request, info, self._budgets, ref)
        await self._writer.swap(target, lambda current: take(current, call.info.name, now), dry_run=dry_run)

    async def _mark(self, call: Call, wanted: DeleteOptions) -> DeleteOptions:
        """Say on the pod why it goes; the options, with what they ask of the pod's version brought up to date."""

        def mark(pod: Obj) -> Obj:
            check_preconditions(call.resource, call.info.name, pod["metadata"], wanted)
            return disrupted(pod, timestamp(self._clock.time()))

        body = await self._writer.swap(call, mark)
        if not wanted.resource_version:
            return wanted
        return wanted._replace(resource_version=str(orjson.loads(body)["metadata"]["resourceVersion"]))


class _Raced(Conflict):
    """The pod has changed since it was seen that no budget guards it."""


def unguarded(pod: Obj) -> bool:
    """Pods whose eviction no budget can refuse: those that are done, being deleted, or not started."""
    return is_past_counting(pod) or (pod.get("status") or {}).get("phase") == "Pending"


def is_past_counting(pod: Obj) -> bool:
    """Pods that can never be healthy again."""
    return bool(pod["metadata"].get("deletionTimestamp")) or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def may_go_unhealthy(budget: Obj, pod: Obj) -> bool:
    """Whether a pod that is not ready may go without a disruption being counted: it is none to what the budget guards."""
    if is_ready(pod):
        return False
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    always = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    return always or 0 < desired <= (status.get("currentHealthy") or 0)


def disrupted(pod: Obj, now: str) -> Obj:
    """The pod with the condition that says that it is being evicted."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    wanted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
    found = next((c for c in conditions if c.get("type") == "DisruptionTarget"), None)
    if found is None:
        conditions.append({**wanted, "lastProbeTime": None, "lastTransitionTime": now})
    else:
        found.update(wanted, **({} if found.get("status") == "True" else {"lastTransitionTime": now}))
    return pod


def is_ready(pod: Obj) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def guards(budget: Entry, labels: dict[str, Any]) -> bool:
    """Whether a budget is about pods with these labels."""
    selector = (budget.decode().get("spec") or {}).get("selector")
    return selector is not None and selectors.matches(selector, labels)


def take(budget: Obj, pod: str, now: str) -> Obj:
    """The budget with one disruption less. Raises TooManyRequests, Forbidden."""
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        raise _later(_processed(name), 10)
    allowed = status.get("disruptionsAllowed") or 0
    if allowed < 0:
        raise forbidden("poddisruptionbudget", name, "pdb disruptions allowed is negative", "policy")
    if len(status.get("disruptedPods") or {}) > _MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden("poddisruptionbudget", name, why, "policy")
    if allowed == 0:
        raise _later(why_not(name, status))
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        for condition in status.get("conditions") or ():
            if condition.get("type") == "DisruptionAllowed" and condition.get("status") != "False":
                condition.update({"status": "False", "reason": "InsufficientPods", "lastTransitionTime": now})
    status.setdefault("disruptedPods", {})[pod] = now
    return budget


def why_not(name: str, status: Obj) -> str:
    """Why a budget allows nothing now."""
    desired, current = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
    conditions = status.get("conditions") or ()
    said: Obj = next(
        (c for c in conditions if c.get("type") == "DisruptionAllowed" and c.get("status") == "False" and c.get("message")), {}
    )
    if said.get("reason") == "SyncFailed":
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {said['message']}"
    if current <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    if said:
        return f"The disruption budget {name} does not allow evicting pods currently ({said.get('reason', '')}): {said['message']}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _processed(budget: str) -> str:
    return f"The disruption budget {budget} is still being processed by the server."


def _later(why: str, seconds: int = 0) -> TooManyRequests:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if seconds:
        details["retryAfterSeconds"] = seconds
    return TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", details=details)


def _too_many_budgets() -> Response:
    why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    return answers.json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": why, "code": 500}, 500)
