"""The text of /metrics/resource and what the Summary API says of swap and pressure, from values; tests/guest reads a real node's."""

from __future__ import annotations

from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import nodestats
from minikube_py.kubelet.cgroups import Pressure, Stall, Swap
from minikube_py.kubelet.nodestats import ContainerReading, PodReading, Reading
from minikube_py.meta import expfmt
from tests.kubelet.values import pod

MIB = 1 << 20
CALM = Stall(0, 0.0, 0.0, 0.0)


def test_swap_is_told_where_the_kernel_counts_it() -> None:
    inner = ContainerReading("main", 5.0, Reading(1.0, 10**9, MIB, Swap(4096, 8192)), v1.ContainerStats())
    one = PodReading(pod(metadata={"name": "p", "namespace": "n"}), Reading(1.0, 2 * 10**9, 2 * MIB, Swap(4096)), (inner,))
    text = expfmt.text(nodestats.resource_metrics(Reading(1.0, 3 * 10**9, 3 * MIB, Swap(MIB, 2 * MIB)), [one]))
    shown = {line.rpartition(" ")[0] for line in text.splitlines() if "_swap_" in line and not line.startswith("#")}
    assert shown == {
        "node_swap_usage_bytes 1048576",
        'pod_swap_usage_bytes{namespace="n",pod="p"} 4096',
        'container_swap_usage_bytes{container="main",namespace="n",pod="p"} 4096',
        'container_swap_limit_bytes{container="main",namespace="n",pod="p"} 8192',
    }
    assert "# HELP pod_swap_usage_bytes [ALPHA] " in text and "# HELP pod_memory_working_set_bytes [STABLE] " in text
    without = expfmt.text(nodestats.resource_metrics(Reading(1.0, 1, 1), [one._replace(reading=Reading(1.0, 1, 1), containers=())]))
    assert "_swap_" not in without


def test_swap_and_pressure_in_the_summary() -> None:
    waited = Stall(70, 2.0, 0.5, 0.0)
    found = nodestats._further(Reading(0.0, 0, 0, Swap(4096, 8192), {"io": Pressure(CALM, waited)}))
    time = "1970-01-01T00:00:00Z"
    assert found["swap"] == {"time": time, "swapUsageBytes": 4096, "swapAvailableBytes": 4096}
    assert found["io"] == {"time": time, "psi": {"full": CALM._asdict(), "some": {"total": 70, "avg10": 2.0, "avg60": 0.5, "avg300": 0.0}}}
    assert nodestats._further(Reading(0.0, 0, 0, Swap(1)))["swap"] == {"time": time, "swapUsageBytes": 1}
    assert nodestats._further(Reading(0.0, 0, 0)) == {}
