"""Which admission plugins a write meets, and in which order."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.phases import Phases
from minikube_py.meta.user import User
from minikube_py.resources.registry import built_in

BY_PLURAL = {(r.ref.group, r.ref.plural): r for r in built_in()}


class Noting(Plugin):
    """Notes when it is asked."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self._notes = name, notes

    async def admit(self, request: AdmissionRequest) -> None:
        self._notes.append(f"{self.name} admits")

    async def validate(self, request: AdmissionRequest) -> None:
        self._notes.append(f"{self.name} validates")


class OfPods(Noting):
    resources = frozenset({("", "pods")})


class Silent(Plugin):
    """Has no phase of its own."""


class Foreign:
    """Not one of ours: asked about everything."""

    name = "foreign"

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    async def admit(self, request: AdmissionRequest) -> None:
        self._notes.append("foreign admits")

    async def validate(self, request: AdmissionRequest) -> None:
        self._notes.append("foreign validates")


def request(group: str, plural: str, subresource: str = "") -> AdmissionRequest:
    return AdmissionRequest(Operation.CREATE, BY_PLURAL[group, plural], subresource, "default", "a", {}, None, User("u", ()))


async def test_plugins_are_asked_in_their_order_about_what_they_have_to_do_with() -> None:
    notes: list[str] = []
    phases = Phases((Noting("first", notes), OfPods("pods", notes), Silent(), Foreign(notes)))
    for resource in (("", "pods"), ("", "configmaps"), ("", "pods")):
        for subresource in ("", "status"):
            notes.clear()
            asked = request(*resource, subresource)
            await phases.admit(asked)
            await phases.validate(asked)
            names = ["first", "pods", "foreign"] if resource[1] == "pods" else ["first", "foreign"]
            assert notes == [f"{name} admits" for name in names] + [f"{name} validates" for name in names]
