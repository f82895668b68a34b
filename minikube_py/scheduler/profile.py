"""A profile: the name that pods choose a scheduler by, and the plugins that decide for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from minikube_py.scheduler.plugins import PLUGINS, Filter, Plugin, Score, Wide

DEFAULT_SCHEDULER = "default-scheduler"


@dataclass(frozen=True)
class Profile:
    """`plugins` in the order in which they are asked; `preempts`: whether pods of this profile may take other pods' places."""

    name: str = DEFAULT_SCHEDULER
    plugins: tuple[Plugin, ...] = PLUGINS
    preempts: bool = True

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        """Those that tell impossible nodes."""
        return tuple(p for p in self.plugins if isinstance(p, Filter))

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """Those that rank the others."""
        return tuple(p for p in self.plugins if isinstance(p, Score))

    @cached_property
    def wide(self) -> tuple[Wide, ...]:
        """Those that look further than at one node."""
        return tuple(p for p in self.plugins if isinstance(p, Wide))

    @cached_property
    def wide_without_claims(self) -> tuple[Wide, ...]:
        """Those of them that have to do with pods without volume claims: with most."""
        return tuple(p for p in self.wide if not p.of_claims)


DEFAULT = Profile()
