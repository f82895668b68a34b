"""What the node agent counts of its own work, as Prometheus reads it."""

from __future__ import annotations

from minikube_py.kubelet import metrics
from minikube_py.kubelet.metrics import Metrics
from minikube_py.kubelet.state import RunState
from tests.kubelet.values import container, pod, state


def test_counters_without_labels_begin_with_nothing_and_the_others_when_they_are_counted() -> None:
    made = Metrics()
    assert "\nkubelet_started_pods_total 0\n" in made.text("kubelet_") and "started_containers" not in made.text("kubelet_")
    made.count("kubelet_started_pods_total")
    made.count("kubelet_started_containers_errors_total", 'Err"', "container")
    text = made.text("kubelet_", [("kubelet_desired_pods", ("",), 3)])
    assert "\nkubelet_started_pods_total 1\n" in text and '\nkubelet_desired_pods{static=""} 3\n' in text
    assert '\nkubelet_started_containers_errors_total{code="Err\\"",container_type="container"} 1\n' in text
    named = "kubelet_started_pods_total"
    assert f"# HELP {named} [ALPHA] Cumulative number of pods started\n# TYPE {named} counter\n" in text


def test_a_duration_is_in_every_bucket_that_is_wide_enough() -> None:
    made = Metrics()
    for seconds in (0.005, 0.3, 60.0):
        made.took("kubelet_run_podsandbox_duration_seconds", seconds, "")
    lines = made.text("kubelet_run").splitlines()
    shown = {line.partition("le=")[2]: line for line in lines if "le=" in line}
    assert [int(line.rpartition(" ")[2]) for line in shown.values()] == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    bounds = [bound.partition("}")[0] for bound in shown]
    assert bounds == ['"0.005"', '"0.01"', '"0.025"', '"0.05"', '"0.1"', '"0.25"', '"0.5"', '"1"', '"2.5"', '"5"', '"10"', '"+Inf"']
    assert 'kubelet_run_podsandbox_duration_seconds_sum{runtime_handler=""} 60.305' in lines
    assert 'kubelet_run_podsandbox_duration_seconds_count{runtime_handler=""} 3' in lines


def test_probes_are_told_of_while_they_go_on() -> None:
    made, of = Metrics(), pod()
    made.probed(of, "main", "readiness", True, 0.1)
    made.probed(of, "main", "readiness", False, 0.1)
    whom = 'container="main",namespace="ns",pod="p",pod_uid="u",probe_type="Readiness"'
    text = made.text("prober_")
    assert f'prober_probe_total{{{whom},result="successful"}} 1' in text and f'prober_probe_total{{{whom},result="failed"}} 1' in text
    assert 'prober_probe_duration_seconds_count{container="main",namespace="ns",pod="p",probe_type="Readiness"} 1' in text
    made.forget_probes(of, "main", "readiness")
    assert made.text("prober_") == ""


def test_reasons_of_rejections_are_few() -> None:
    made = Metrics()
    for reason in ("OutOfcpu", "OutOfexample.com/dongle", "OutOfexample.com/other", "Whatever"):
        made.rejected(reason)
    lines = [line for line in made.text("kubelet_admission").splitlines() if not line.startswith("#")]
    named = 'kubelet_admission_rejections_total{reason="%s"} %d'
    assert lines == [named % ("OutOfcpu", 1), named % ("OutOfExtendedResources", 2), named % ("Other", 1)]


def test_a_container_that_the_status_tells_of_was_counted_by_an_agent_before() -> None:
    ended = {"terminated": {"exitCode": 1, "containerID": "containerd://main-0"}}
    of = pod(status={"containerStatuses": [{"name": "main", "state": {"running": {}}, "lastState": ended}]})
    before, now = container(of, state=RunState.EXITED, code=1), container(of, state=RunState.EXITED, code=2, attempt=1)
    assert [c.exit_code for c in metrics.ended_since(state(now, before), metrics.told_as_ended(of))] == [2]
    assert metrics.ended_since(state(container(of)), ()) == []
    sidecars = pod(initContainers=[{"name": "first", "image": "i"}], ephemeralContainers=[{"name": "look", "image": "i"}])
    assert [metrics.container_type(sidecars, name) for name in ("main", "first", "look")] == [
        "container",
        "init_container",
        "ephemeral_container",
    ]
