"""Who controls what: adoption of matching orphans and release of objects that no longer match, by patches of ownerReferences.

The rules are upstream's ControllerRefManager: only an owner that is not being deleted adopts, and it looks at the live object first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple

from minikube_py.client import Client, Patch
from minikube_py.controllers.base import Fresh, controller_uid
from minikube_py.meta.errors import Invalid, NotFound
from minikube_py.meta.selectors import matcher
from minikube_py.types.meta import LabelSelector, Object, V, controller_of, owner_reference


class Claim(NamedTuple, Generic[V]):
    """What an owner holds, what it should adopt and what it should release."""

    held: tuple[V, ...]
    adopt: tuple[V, ...]
    release: tuple[V, ...]


def plan_claim(
    owner: Object, selector: LabelSelector, candidates: Iterable[V], eligible: Callable[[V], bool] = lambda view: True
) -> Claim[V]:
    """Sort candidates (owned objects and orphans of the namespace) into held, to be adopted and to be released."""
    held: list[V] = []
    adopt: list[V] = []
    release: list[V] = []
    uid = owner.metadata.uid
    ending = owner.metadata.deletionTimestamp is not None
    chosen = matcher(selector)
    for view in candidates:
        meta = view.metadata
        ref = controller_of(meta)
        if ref is not None:
            if ref.uid != uid:
                continue
            if chosen(meta.labels):
                held.append(view)
            elif not ending:
                release.append(view)
        elif not ending and meta.deletionTimestamp is None and eligible(view) and chosen(meta.labels):
            adopt.append(view)
    return Claim(tuple(held), tuple(adopt), tuple(release))


async def apply_claim(client: Client, fresh: Fresh[V], owner: Object, claim: Claim[V], finalizer: str = "") -> Sequence[V]:
    """Adopt and release; gives everything that the owner holds afterwards. What is held has the finalizer, what is released has not."""
    held = list(claim.held)
    if claim.adopt:
        live = await client.get(type(owner), owner.metadata.name, owner.metadata.namespace)
        if live.metadata.uid == owner.metadata.uid and live.metadata.deletionTimestamp is None:
            for view in claim.adopt:
                meta: dict[str, Any] = {"uid": view.metadata.uid, "ownerReferences": [owner_reference(owner)]}
                if finalizer:
                    meta["finalizers"] = [finalizer]
                adopted = await _patch(client, fresh, view, {"metadata": meta})
                if adopted is not None:
                    held.append(adopted)
    for view in claim.release:
        reference = {"$patch": "delete", "uid": owner.metadata.uid}
        meta = {"uid": view.metadata.uid, "ownerReferences": [reference]}
        if finalizer:
            meta["$deleteFromPrimitiveList/finalizers"] = [finalizer]
        await _patch(client, fresh, view, {"metadata": meta})
    return held


async def _patch(client: Client, fresh: Fresh[V], view: V, patch: dict[str, Any]) -> V | None:
    meta = view.metadata
    try:
        return fresh.wrote(await client.patch(type(view), meta.name, patch, meta.namespace, kind=Patch.STRATEGIC))
    except NotFound:
        return None
    except Invalid:
        # the object has got another controller meanwhile: it is theirs
        return None


def controller_index(view: Object) -> tuple[str, ...]:
    """Files a view under its controller's uid, or under its namespace's orphans."""
    return (controller_uid(view.metadata) or orphans_of(view.metadata.namespace),)


def orphans_of(namespace: str) -> str:
    """Where `controller_index` files what has no controller."""
    return f"orphans of {namespace}"


def candidates(fresh: Fresh[V], owner: Object) -> list[V]:
    """What an owner may claim: what it controls, and the orphans of its namespace. `fresh` has `controller_index` as "controller"."""
    return [*fresh.by_index("controller", owner.metadata.uid), *fresh.by_index("controller", orphans_of(owner.metadata.namespace))]
