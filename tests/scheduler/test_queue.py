"""Who is scheduled next, and when a pod that failed comes back."""

from __future__ import annotations

from minikube_py.scheduler.queue import Queued, SchedulingQueue
from tests.scheduler.builders import info


def popped(queue: SchedulingQueue, now: float) -> Queued:
    found = queue.pop(now)
    assert found is not None
    return found


def test_priority_goes_before_age() -> None:
    queue = SchedulingQueue()
    queue.add(info("old"), 0)
    queue.add(info("young"), 1)
    queue.add(info("important", priority=10), 2)
    assert [popped(queue, 3).info.uid for _ in range(3)] == ["important", "old", "young"]
    assert queue.pop(3) is None


def test_a_rejected_pod_waits_for_a_change_that_helps_it() -> None:
    queue = SchedulingQueue()
    queue.add(info("a"), 0)
    queue.rejected(popped(queue, 0), 0)
    assert queue.pop(1) is None and queue.where("a") == "unschedulable"
    assert queue.move(lambda pod: False, 1) == 0
    assert queue.move(lambda pod: True, 1) == 1
    assert popped(queue, 1).attempts == 2


def test_a_rejected_pod_comes_back_after_five_minutes() -> None:
    queue = SchedulingQueue()
    queue.add(info("a"), 0)
    queue.rejected(popped(queue, 0), 0)
    assert queue.next_due(10) == 290
    assert queue.pop(299) is None
    assert popped(queue, 300).info.uid == "a"


def test_an_error_is_backed_off_from_one_second_to_ten() -> None:
    queue = SchedulingQueue()
    queue.add(info("a"), 0)
    now, waits = 0.0, []
    for _ in range(6):
        queue.failed(popped(queue, now), now)
        assert queue.pop(now) is None
        due = queue.next_due(now)
        assert due is not None
        waits.append(due)
        now += due
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_helped_pod_need_not_sit_out_its_backoff_while_nothing_else_waits() -> None:
    queue = SchedulingQueue()
    queue.add(info("rejected"), 0)
    queue.rejected(popped(queue, 0), 0)
    queue.move(lambda pod: True, 0.1)
    assert queue.where("rejected") == "backoff"
    queue.add(info("other"), 0.1)
    assert popped(queue, 0.1).info.uid == "other"
    assert popped(queue, 0.1).info.uid == "rejected"


def test_a_changed_pod_is_tried_again_and_a_removed_one_is_not() -> None:
    queue = SchedulingQueue()
    queue.add(info("a"), 0)
    queue.rejected(popped(queue, 0), 0)
    queue.changed(info("a", cpu="1"), 5)
    assert popped(queue, 5).info.cpu == 1000
    queue.add(info("b"), 5)
    queue.remove("b")
    assert queue.pop(6) is None and len(queue) == 1


def test_a_pod_removed_while_it_is_decided_on_stays_away() -> None:
    queue = SchedulingQueue()
    queue.add(info("a"), 0)
    taken = popped(queue, 0)
    queue.remove("a")
    queue.rejected(taken, 0)
    queue.failed(taken, 0)
    assert queue.pop(1000) is None and len(queue) == 0
