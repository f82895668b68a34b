"""What the units do when a machine goes down: `minikube-py shutdown` returns when the node's pods have ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.objects import pod
from tests.support.agents import Agent, Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def start(agent: Agent) -> None:
    since = len(agent.log())
    agent.start()
    agent.logs("the node runs", since)


@pytest.fixture
def patient(agent: Agent) -> Iterator[Agent]:
    """The agent with time for its pods to end; afterwards as it was."""
    flags = agent.flags
    agent.stop()
    agent.flags = (*flags, "--shutdown-grace-period", "20s", "--shutdown-grace-period-critical-pods", "5s")
    start(agent)
    yield agent
    agent.stop()
    agent.flags = flags
    start(agent)


def test_the_pods_have_ended_when_the_command_returns(cluster: Nodes, patient: Agent) -> None:
    kubectl = cluster.server.kubectl()
    kubectl.apply(pod("ends", nodeName=patient.node_name))
    kubectl.wait("condition=Ready", "pod/ends")
    assert patient.process is not None
    command = [sys.executable, "-m", "minikube_py", "shutdown", "--data-dir", str(patient.data), "--timeout", "30"]
    done = subprocess.run([*command, "--pid", str(patient.process.pid)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert kubectl.field(".status.phase", "pod/ends") == "Failed" and kubectl.field(".status.reason", "pod/ends") == "Terminated"
    ready = '.status.conditions[?(@.type=="Ready")].message'
    assert kubectl.field(ready, "node", patient.node_name) == "node is shutting down"
    kubectl("delete", "pod", "--now", "ends")
    # nobody went down after all: a new process makes the node a node again
    patient.stop()
    start(patient)
    cluster.ready()
    kubectl.apply(pod("again", nodeName=patient.node_name))
    kubectl.wait("condition=Ready", "pod/again")
    kubectl("delete", "pod", "--now", "again")
