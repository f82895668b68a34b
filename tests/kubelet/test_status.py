"""A pod's status from what the runtime has."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from minikube_py.kubelet import status
from minikube_py.kubelet.plan import Verdict, Verdicts, Waiting
from minikube_py.kubelet.state import PodState, RunState
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod
from tests.kubelet.values import NOW, container, pod, state


def generate(of: Pod, found: PodState, **facts: Any) -> status.Status:
    return status.generate(
        of, found, status.Facts(**{"verdicts": Verdicts(), "waiting": {}, "host_ips": ("192.0.2.1",), "now": NOW, **facts})
    )


def condition(made: status.Status, type_: str) -> dict[str, Any]:
    return next(c for c in made["conditions"] if c["type"] == type_)


NONE = PodState(uid="u")


def test_a_pod_of_which_nothing_is_there_yet() -> None:
    made = generate(pod({}), NONE)
    assert made["phase"] == "Pending"
    assert made["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert condition(made, "PodReadyToStartContainers")["status"] == "False"
    assert condition(made, "Initialized")["status"] == "True"
    ready = condition(made, "Ready")
    assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [main]")


def test_a_running_pod() -> None:
    of = pod({})
    made = generate(of, state(container(of)))
    assert (made["phase"], made["podIP"], made["podIPs"]) == ("Running", "10.0.0.5", [{"ip": "10.0.0.5"}])
    shown = made["containerStatuses"][0]
    assert (shown["ready"], shown["started"], shown["containerID"]) == (True, True, "containerd://main-0")
    assert all(c["status"] == "True" for c in made["conditions"])


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
        {"type": "Initialized", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
    ]
    of = pod({}, status={"conditions": before})
    made = generate(of, state(container(of)))
    assert condition(made, "Ready")["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert condition(made, "Initialized")["lastTransitionTime"] == timestamp(NOW)


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [
        ("Never", (0, 0), "Succeeded"),
        ("Never", (0, 1), "Failed"),
        ("OnFailure", (0, 0), "Succeeded"),
        ("OnFailure", (0, 1), "Running"),
        ("Always", (0, 0), "Running"),
    ],
)
def test_the_phase_of_ended_containers(policy: str, codes: tuple[int, int], phase: str) -> None:
    of = pod({"name": "a"}, {"name": "b"}, restartPolicy=policy)
    found = state(*(container(of, n, RunState.EXITED, code=c, attempt=i) for i, (n, c) in enumerate(zip("ab", codes, strict=True))))
    assert generate(of, found)["phase"] == phase


def test_a_terminal_phase_waits_for_the_last_container_and_never_goes_back() -> None:
    side = {"name": "side", "restartPolicy": "Always"}
    of = pod({}, restartPolicy="Never", initContainers=[side], status={"phase": "Running"})
    ended = container(of, state=RunState.EXITED, attempt=1)
    assert generate(of, state(ended, container(of, "side")), ending=True)["phase"] == "Running"
    assert generate(of, state(ended, container(of, "side", RunState.EXITED, code=143)), ending=True)["phase"] == "Succeeded"
    failed = pod({}, status={"phase": "Failed", "reason": "Evicted", "message": "why"})
    made = generate(failed, NONE)
    assert (made["phase"], made["reason"], made["message"]) == ("Failed", "Evicted", "why")


def test_a_held_container_shows_why_and_how_it_ended() -> None:
    of = pod({})
    found = state(container(of, state=RunState.EXITED, code=3, attempt=2))
    shown = generate(of, found, waiting={"main": Waiting("CrashLoopBackOff", "back-off")})["containerStatuses"][0]
    assert shown["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert shown["lastState"]["terminated"]["exitCode"] == 3 and shown["restartCount"] == 2


def test_the_container_before_is_the_last_state() -> None:
    of = pod({})
    found = state(container(of, state=RunState.EXITED, code=1), container(of, attempt=1))
    shown = generate(of, found)["containerStatuses"][0]
    assert "running" in shown["state"] and shown["lastState"]["terminated"]["containerID"] == "containerd://main-0"


def test_probes_make_started_and_ready() -> None:
    of = pod({"readinessProbe": {"exec": {}}, "startupProbe": {"exec": {}}})
    found = state(container(of))

    def shown(verdicts: Verdicts) -> tuple[bool, bool]:
        made = generate(of, found, verdicts=verdicts)["containerStatuses"][0]
        return made["started"], made["ready"]

    up = {"main-0": Verdict.SUCCESS}
    assert shown(Verdicts()) == (False, False)
    assert shown(Verdicts(startup=up)) == (True, False)
    assert shown(Verdicts(startup=up, readiness=up)) == (True, True)


def test_after_a_restart_of_the_agent_a_container_stays_what_it_was_until_it_was_probed() -> None:
    def shown(id_: str, verdicts: Verdicts) -> tuple[bool, bool]:
        known = {"name": "main", "containerID": f"containerd://{id_}", "ready": True, "started": True}
        probes: dict[str, Any] = {"readinessProbe": {"exec": {}}, "startupProbe": {"exec": {}}}
        of = pod(probes, status={"containerStatuses": [known]})
        made = generate(of, state(container(of)), verdicts=verdicts)["containerStatuses"][0]
        return made["started"], made["ready"]

    assert shown("main-0", Verdicts()) == (True, True)
    assert shown("main-0", Verdicts(readiness={"main-0": Verdict.FAILURE})) == (True, False)
    assert shown("main-0", Verdicts(startup={"main-0": Verdict.FAILURE})) == (False, False)
    assert shown("another", Verdicts()) == (False, False)


def test_init_containers_hold_the_phase_and_are_listed() -> None:
    of = pod({}, initContainers=[{"name": "i1"}, {"name": "i2"}])
    made = generate(of, state(container(of, "i1", RunState.EXITED)))
    assert made["phase"] == "Pending"
    assert condition(made, "Initialized")["message"] == "containers with incomplete status: [i2]"
    assert made["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert [s["ready"] for s in made["initContainerStatuses"]] == [True, False]


def test_what_is_made_and_not_started_waits_like_what_is_not_made() -> None:
    of = pod({"name": "main"}, initContainers=[{"name": "i1"}])
    made = generate(of, state(container(of, "i1", RunState.CREATED)))
    assert made["initContainerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    made = generate(of, state(container(of, "i1", RunState.EXITED), container(of, "main", RunState.CREATED)))
    assert made["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_readiness_gates() -> None:
    gate = [{"conditionType": "example.com/ok"}]
    of = pod({}, readinessGates=gate)
    ready = condition(generate(of, state(container(of))), "Ready")
    assert ready["reason"] == "ReadinessGatesNotReady"
    assert ready["message"] == 'corresponding condition of pod readiness gate "example.com/ok" does not exist.'
    open_ = pod({}, readinessGates=gate, status={"conditions": [{"type": "example.com/ok", "status": "True"}]})
    assert condition(generate(open_, state(container(open_))), "Ready")["status"] == "True"


def test_a_container_that_the_runtime_lost_has_ended() -> None:
    before = {"containerStatuses": [{"name": "main", "state": {"running": {}}, "containerID": "containerd://x", "restartCount": 4}]}
    of = pod({}, status={"phase": "Running", **before})
    shown = generate(of, NONE, ending=True, lost=True)["containerStatuses"][0]
    assert shown["state"]["terminated"]["reason"] == "ContainerStatusUnknown" and shown["restartCount"] == 4


def test_a_patch_leaves_other_conditions_and_replaces_addresses() -> None:
    of = pod({}, status={"podIPs": [{"ip": "10.0.0.9"}]})
    made = generate(of, state(container(of)))
    body = status.patch(of, made, None)
    assert body["metadata"] == {"uid": "u"}
    assert body["status"]["podIPs"] == [{"ip": "10.0.0.5"}, {"$patch": "replace"}]
    assert {c["type"] for c in body["status"]["conditions"]} == {c["type"] for c in made["conditions"]}
    again = status.patch(of, made, made)
    assert "containerStatuses" not in again["status"]


def test_what_others_made_of_our_conditions_is_seen() -> None:
    of = pod({})
    made = generate(of, state(container(of)))
    assert not status.shows(of, made), "nothing was written yet"
    assert status.shows(pod({}, status={"conditions": made["conditions"]}), made)
    marked = [{**c, "status": "False"} if c["type"] == "Ready" else c for c in made["conditions"]]
    assert not status.shows(pod({}, status={"conditions": marked}), made), "a silent node's pods are marked as not ready"


def test_a_pod_that_ends_before_it_has_begun_has_failed() -> None:
    of = pod({}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, status={"phase": "Pending"})
    made = generate(of, NONE, ending=True, lost=True)
    assert made["phase"] == "Failed"
    assert made["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    held = pod({}, initContainers=[{"name": "i1"}], metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, status={"phase": "Pending"})
    assert generate(held, NONE, ending=True, lost=True)["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_sidecar_keeps_a_pod_running_until_it_has_ended() -> None:
    of = pod({}, initContainers=[{"name": "side", "restartPolicy": "Always"}], restartPolicy="Never")
    done = container(of, state=RunState.EXITED)
    made = generate(of, state(container(of, "side"), done), ending=True)
    assert made["phase"] == "Running" and condition(made, "ContainersReady")["reason"] == "ContainersNotReady"
    assert generate(of, state(container(of, "side", RunState.EXITED, code=137), done), ending=True)["phase"] == "Succeeded"


def test_an_init_container_s_own_policy_fails_the_pod() -> None:
    of = pod({}, initContainers=[{"name": "i1", "restartPolicy": "Never"}], restartPolicy="Always")
    assert generate(of, state(container(of, "i1", RunState.EXITED, code=1)))["phase"] == "Failed"
    again = pod({}, initContainers=[{"name": "i1", "restartPolicy": "OnFailure"}], restartPolicy="Never")
    assert generate(again, state(container(again, "i1", RunState.EXITED, code=1)))["phase"] == "Pending"


def test_containers_that_are_all_restarted_wait_and_tell_how_they_ended() -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
    before = {
        "phase": "Running",
        "conditions": [{"type": "Initialized", "status": "True"}],
        "containerStatuses": [
            {"name": "main", "state": {"terminated": {"exitCode": 88}}, "containerID": "containerd://x", "restartCount": 4}
        ],
    }
    of = pod({"restartPolicy": "Never", "restartPolicyRules": rules}, status=before, initContainers=[{"name": "i1"}])
    stopped = generate(of, state(container(of, state=RunState.EXITED, code=88)))
    assert condition(stopped, "AllContainersRestarting")["reason"] == "RestartAllContainersStarted"
    removed = generate(of, state())
    shown = removed["containerStatuses"][0]
    assert shown["state"]["waiting"]["reason"] == "RestartingAllContainers"
    assert (shown["lastState"]["terminated"]["exitCode"], shown["restartCount"]) == (88, 4)
    assert condition(removed, "Initialized")["status"] == "True" and condition(removed, "AllContainersRestarting")["status"] == "False"


def test_a_pod_that_a_sidecar_restarts_has_not_ended_when_its_containers_have() -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
    sidecar = {"name": "s", "restartPolicy": "Always", "restartPolicyRules": rules}
    of = pod({}, initContainers=[{"name": "i"}, sidecar], restartPolicy="Never")
    init, killed = container(of, "i", RunState.EXITED, code=0), container(of, state=RunState.EXITED, code=137)
    cause = container(of, "s", RunState.EXITED, code=88)
    assert generate(of, state(init, cause, killed))["phase"] == "Running"
    assert generate(of, state(init, cause, killed), ending=True)["phase"] == "Failed"
    assert generate(of, state(init, container(of, "s", RunState.EXITED, code=1), killed))["phase"] == "Failed"


def test_messages_of_ended_containers_are_bounded_together() -> None:
    of = pod(*({"name": f"c{i}"} for i in range(6)), restartPolicy="Never")
    records = [msgspec.structs.replace(container(of, f"c{i}", RunState.EXITED), message="x" * 4096) for i in range(6)]
    made = generate(of, state(*records))
    assert [len(s["state"]["terminated"]["message"]) for s in made["containerStatuses"]] == [2048] * 6


def test_conditions_of_a_resize_come_and_go() -> None:
    told = {"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "m", "observedGeneration": 2}
    of = pod({})
    found = state(container(of))
    assert condition(generate(of, found, resize=(told,)), "PodResizePending")["reason"] == "Deferred"
    later = pod({}, status={"conditions": [told]})
    body = status.patch(later, generate(later, found), None)
    assert {"type": "PodResizePending", "$patch": "delete"} in body["status"]["conditions"]
