"""What is to be done for a pod."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.kubelet import plan
from minikube_py.kubelet.plan import Verdict, Verdicts
from minikube_py.kubelet.restarts import BackoffTable
from minikube_py.kubelet.state import RunState, SandboxId, SandboxRecord
from minikube_py.types.pod import Pod
from tests.kubelet.values import NOW, container, pod, state

NONE = state(sandboxes=())
NO_VERDICTS = Verdicts()


def compute(of: Pod, found: Any, verdicts: Verdicts = NO_VERDICTS, backoff: BackoffTable | None = None) -> plan.Plan:
    return plan.compute(of, found, verdicts, backoff or BackoffTable(), NOW)


def started(made: plan.Plan) -> list[str]:
    return [c.name for c in made.start]


def test_a_new_pod_gets_a_sandbox_and_all_its_containers() -> None:
    made = compute(pod({"name": "a"}, {"name": "b"}), NONE)
    assert (made.create_sandbox, made.attempt, made.kill_pod, started(made)) == (True, 0, False, ["a", "b"])


def test_a_new_pod_with_init_containers_begins_with_the_first() -> None:
    made = compute(pod({}, initContainers=[{"name": "i1"}, {"name": "i2"}]), NONE)
    assert made.create_sandbox and started(made) == ["i1"]


def test_what_runs_unchanged_is_left_alone() -> None:
    of = pod({})
    assert compute(of, state(container(of))).idle


def test_a_dead_sandbox_is_replaced_with_everything_in_it() -> None:
    of = pod({})
    made = compute(of, state(container(of, state=RunState.EXITED, code=137), ready=False))
    assert (made.kill_pod, made.create_sandbox, made.attempt, started(made)) == (True, True, 1, ["main"])


def test_a_dead_sandbox_of_a_pod_that_never_restarts_ends_it() -> None:
    of = pod({}, restartPolicy="Never")
    made = compute(of, state(container(of, state=RunState.EXITED, code=137), ready=False))
    assert (made.kill_pod, made.create_sandbox, started(made)) == (True, False, [])


def test_a_sandbox_without_an_address_is_replaced_unless_it_is_on_the_host() -> None:
    bare = (SandboxRecord(id=SandboxId("s0"), ready=True),)
    assert compute(pod({}), state(sandboxes=bare)).create_sandbox
    host = (SandboxRecord(id=SandboxId("s0"), ready=True, host_network=True),)
    assert not compute(pod({}, hostNetwork=True), state(sandboxes=host)).create_sandbox


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 0, False), ("Never", 1, False)],
)
def test_the_restart_policy(policy: str, code: int, again: bool) -> None:
    of = pod({}, restartPolicy=policy)
    made = compute(of, state(container(of, state=RunState.EXITED, code=code)))
    assert (started(made) == ["main"], made.kill_pod) == (again, not again)


def test_a_container_s_own_rules_come_before_the_pod_s_policy() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    of = pod({"restartPolicy": "Never", "restartPolicyRules": rules}, restartPolicy="Never")
    assert started(compute(of, state(container(of, state=RunState.EXITED, code=42)))) == ["main"]
    assert not started(compute(of, state(container(of, state=RunState.EXITED, code=1))))


def test_init_containers_one_after_another() -> None:
    of = pod({}, initContainers=[{"name": "i1"}, {"name": "i2"}])
    done = RunState.EXITED
    assert compute(of, state(container(of, "i1"))).idle
    assert started(compute(of, state(container(of, "i1", done)))) == ["i2"]
    assert started(compute(of, state(container(of, "i1", done), container(of, "i2", done, attempt=1)))) == ["main"]


def test_a_failed_init_container_is_tried_again_or_ends_the_pod() -> None:
    again = pod({}, initContainers=[{"name": "i1"}])
    assert started(compute(again, state(container(again, "i1", RunState.EXITED, code=1)))) == ["i1"]
    never = pod({}, initContainers=[{"name": "i1"}], restartPolicy="Never")
    made = compute(never, state(container(never, "i1", RunState.EXITED, code=1)))
    assert (made.kill_pod, started(made)) == (True, [])


def test_after_initialization_init_containers_stay_ended() -> None:
    of = pod({}, initContainers=[{"name": "i1"}])
    assert compute(of, state(container(of))).idle  # its record may even be gone
    assert compute(of, state(container(of, "i1", RunState.EXITED), container(of, attempt=1))).idle


def test_a_sidecar_lets_the_next_start_once_it_has_started_and_is_kept_running() -> None:
    side = {"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}
    of = pod({}, initContainers=[side, {"name": "i2"}])
    assert compute(of, state(container(of, "side"))).idle
    up = Verdicts(startup={"side-0": Verdict.SUCCESS})
    assert started(compute(of, state(container(of, "side")), up)) == ["i2"]
    running = state(
        container(of, "side", RunState.EXITED, code=1), container(of, "i2", RunState.EXITED, attempt=1), container(of, attempt=2)
    )
    assert started(compute(of, running)) == ["side"]


def test_a_failed_probe_replaces_the_container() -> None:
    of = pod({"livenessProbe": {"terminationGracePeriodSeconds": 7}})
    made = compute(of, state(container(of)), Verdicts(liveness={"main-0": Verdict.FAILURE}))
    assert [(k.container.id, k.message, k.grace) for k in made.kills] == [
        ("main-0", "Container main failed liveness probe, will be restarted", 7)
    ]
    assert started(made) == ["main"]


def test_a_failed_probe_of_a_pod_that_never_restarts_only_kills() -> None:
    of = pod({}, {"name": "other"}, restartPolicy="Never")
    found = state(container(of), container(of, "other", attempt=1))
    made = compute(of, found, Verdicts(startup={"main-0": Verdict.FAILURE}))
    assert [k.message for k in made.kills] == ["Container main failed startup probe"] and not made.start


def test_a_crash_waits_its_turn() -> None:
    of = pod({})
    found = state(container(of, state=RunState.EXITED, code=1, ended=NOW - 4))
    backoff = BackoffTable()
    assert started(compute(of, found, backoff=backoff)) == ["main"]
    backoff.next(plan.backoff_key(of, "main"), NOW - 30, NOW - 30)
    made = compute(of, found, backoff=backoff)
    assert made.idle and made.again_after == pytest.approx(6)
    assert made.waiting["main"] == plan.Waiting("CrashLoopBackOff", "back-off 10s restarting failed container=main pod=p_ns(u)")


def test_a_deleted_pod_starts_nothing_again() -> None:
    of = pod({}, metadata={"deletionTimestamp": "2023-11-14T22:13:20Z"})
    assert not compute(of, state(container(of, state=RunState.EXITED, code=1))).start


def test_ephemeral_containers_start_once() -> None:
    of = pod({}, ephemeralContainers=[{"name": "debug"}])
    assert started(compute(of, state(container(of)))) == ["debug"]
    assert compute(of, state(container(of), container(of, "debug", RunState.EXITED, attempt=1))).idle


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    kinds=st.lists(st.tuples(st.sampled_from(list(RunState)), st.integers(0, 2)), min_size=1, max_size=4),
    ready=st.booleans(),
)
def test_nothing_that_runs_is_started_again(policy: str, kinds: list[tuple[RunState, int]], ready: bool) -> None:
    of = pod(*({"name": f"c{i}"} for i in range(len(kinds))), restartPolicy=policy)
    found = state(*(container(of, f"c{i}", kind, code=code, attempt=i) for i, (kind, code) in enumerate(kinds)), ready=ready)
    made = compute(of, found)
    running = {c.name for c in found.containers if c.running}
    if not made.kill_pod:
        assert running.isdisjoint(started(made)) and not any(k.container.running for k in made.kills)
    assert len(set(started(made))) == len(made.start)


def test_the_back_off_doubles_to_its_limit_and_forgets() -> None:
    table = BackoffTable()
    delays = []
    for i in range(7):
        at = NOW + 1000.0 * 0 + i
        table.next("k", at, at)
        delays.append(table.delay("k"))
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert table.remaining("k", NOW + 6, NOW + 106) == pytest.approx(200)
    assert table.remaining("k", NOW + 700, NOW + 700) == 0
    table.next("k", NOW + 700, NOW + 700)
    assert table.delay("k") == 10


RULES = [
    {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
    {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}},
]


@pytest.mark.parametrize(("code", "again"), [(42, True), (88, True), (1, False), (0, False)])
def test_rules_of_exit_codes_need_a_policy_of_the_container_s_own(code: int, again: bool) -> None:
    of = pod({"restartPolicy": "Never", "restartPolicyRules": RULES}, restartPolicy="Never")
    assert plan.restarts_after(of, of.spec.containers[0], code) is again
    without = pod({"restartPolicyRules": RULES}, restartPolicy="Never")
    assert not plan.restarts_after(without, without.spec.containers[0], code)


def test_one_container_s_end_restarts_all_of_them() -> None:
    of = pod({"restartPolicy": "Never", "restartPolicyRules": RULES}, {"name": "other"}, initContainers=[{"name": "first"}])
    ended = container(of, "first", RunState.EXITED)
    cause = container(of, state=RunState.EXITED, code=88, ended=NOW - 1)
    made = compute(of, state(ended, cause, container(of, "other")))
    assert [r.name for r in made.reset] == ["other", "first", "main"] and not made.kills and not made.start
    backoff = BackoffTable()
    backoff.next(plan.backoff_key(of, "main"), NOW - 2, NOW - 2)
    held = compute(of, state(ended, cause, container(of, "other")), backoff=backoff)
    assert not held.reset and held.again_after == pytest.approx(9)
    afresh = compute(of, state())
    assert started(afresh) == ["first"] and not afresh.create_sandbox
