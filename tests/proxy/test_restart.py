"""What the service proxy does with the rules that an earlier process has left, in a real kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from minikube_py.netfilter import Family, Netfilter, Variant
from minikube_py.proxy import Proxier, ProxyOptions
from minikube_py.proxy.frame import table
from minikube_py.proxy.model import Backend, ServicePort
from minikube_py.proxy.rules import Frame, service_rules
from tests.support.netns import entered, namespace, run

pytestmark = pytest.mark.cluster

FRAME = Frame("10.43.0.0/16", "10.42.0.0/16")
NAME = f"mkpyrs{os.getpid()}"
BACKENDS = (Backend("10.42.0.2", 8080), Backend("10.42.1.2", 8080))
PORT = ServicePort("d/web", "tcp", "10.43.0.7", 80, 30080, (), (), (), 0, False, False, BACKENDS, BACKENDS)


class NoInformers:
    """Informers that have not filled, and never will."""

    def of(self, view: object) -> NoInformers:
        return self

    def add_index(self, name: str, index: object) -> None: ...


@pytest.fixture(params=[Variant.LEGACY, Variant.NFT])
def variant(request: pytest.FixtureRequest) -> Iterator[Variant]:
    with namespace(NAME), entered(NAME):
        yield request.param


def save(variant: Variant) -> list[str]:
    lines = run(f"iptables-{variant.value}-save").splitlines()
    return [line for line in lines if line.startswith("-A")]


def proxier(netfilter: Netfilter) -> Proxier:
    return Proxier(NoInformers(), netfilter, ProxyOptions("node", FRAME.service_cidr, FRAME.cluster_cidr))  # type: ignore[arg-type]


async def test_they_stand_until_it_is_known_what_they_should_be(variant: Variant) -> None:
    earlier = Netfilter(Family.IPV4, variant)
    await earlier.apply("kube-proxy", table((service_rules(PORT, FRAME),), FRAME))
    before = save(variant)
    assert any("10.42.1.2:8080" in line for line in before)
    later = Netfilter(Family.IPV4, variant)
    await proxier(later).guard()
    assert save(variant) == before
    await later.apply("kube-proxy", table((), FRAME))
    assert not any("10.42.1.2:8080" in line for line in save(variant))


async def test_without_any_or_with_half_of_them_the_guard_is_put_up(variant: Variant) -> None:
    await proxier(Netfilter(Family.IPV4, variant)).guard()
    whole = save(variant)
    assert any("MKPY-GUARD" in line and "10.43.0.0/16" in line for line in whole)
    run(f"iptables-{variant.value}", "-F", "MKPY-GUARD")
    for hook in ("FORWARD", "OUTPUT"):
        rule = next(line for line in whole if line.startswith(f"-A {hook}") and line.endswith("-j MKPY-GUARD"))
        assert rule
        while "MKPY-GUARD" in run(f"iptables-{variant.value}", "-S", hook):
            run(f"iptables-{variant.value}", "-D", hook, str(position(variant, hook)))
    run(f"iptables-{variant.value}", "-X", "MKPY-GUARD")
    await proxier(Netfilter(Family.IPV4, variant)).guard()
    assert sorted(save(variant)) == sorted(whole)


async def test_a_proxy_that_is_not_to_run_takes_them_away(variant: Variant) -> None:
    await Netfilter(Family.IPV4, variant).apply("kube-proxy", table((service_rules(PORT, FRAME),), FRAME))
    await proxier(Netfilter(Family.IPV4, variant)).guard(adopt=False)
    assert not any("10.42.1.2:8080" in line for line in save(variant))
    assert any("MKPY-GUARD" in line for line in save(variant))


def position(variant: Variant, hook: str) -> int:
    """The number of the hook's rule that leads to the guard."""
    rules = [line for line in run(f"iptables-{variant.value}", "-S", hook).splitlines() if line.startswith("-A")]
    return next(number for number, line in enumerate(rules, 1) if "MKPY-GUARD" in line)
