"""Looks at large objects: spread where they find nothing to do, at once where they lead to work."""

from __future__ import annotations

from minikube_py.controllers.base import Pace


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def test_a_dear_look_is_not_repeated_at_once_unless_it_led_to_as_much_work() -> None:
    clock = _Clock()
    pace = Pace(clock)
    pace.took("small", 0.001)
    pace.took("idle", 0.05)
    pace.took("burst", 0.05, writes=500)
    pace.took("trickle", 0.05, writes=1)
    assert [round(pace.wait(key), 3) for key in ("small", "idle", "burst", "trickle")] == [0, 0.5, 0, 0.5]
    clock.now += 0.6
    assert pace.wait("idle") == 0
