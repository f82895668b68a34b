"""The proxy's tables as a whole: the frame that every node has, and what each Service adds to it.

`Tables` is changed a Service at a time and gives the whole as a value; what did not change is the same object in both, so that a
difference is found without looking at it. New lines come first in the shared chains: what is added is put in front, nothing is written
again. MKPY-GUARD is ours: whatever goes to the service range and was not translated is rejected here and never leaves the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from minikube_py.netfilter.table import Chain, Jump, Rules, Saved
from minikube_py.proxy.rules import (
    EXTERNAL_REJECTS,
    FILTER,
    FIREWALL,
    HEALTH_CHECKS,
    NAT,
    NODE_PORTS,
    REJECTS,
    SERVICES,
    Frame,
    Lines,
    ServiceRules,
    reject,
)

MASQUERADE_MARK: Final = "0x4000/0x4000"

_NEW: Final = "-m conntrack --ctstate NEW -m comment --comment"
_PORTALS, _EXTERNAL = '"kubernetes service portals"', '"kubernetes externally-visible service portals"'
_BALANCERS, _CHECKS = '"kubernetes load balancer firewall"', '"kubernetes health check service ports"'
_GUARD: Final = '-m comment --comment "nothing for the service range leaves this node" -j MKPY-GUARD'

JUMPS: Final = (
    Jump(NAT, "PREROUTING", f"-m comment --comment {_PORTALS} -j KUBE-SERVICES"),
    Jump(NAT, "OUTPUT", f"-m comment --comment {_PORTALS} -j KUBE-SERVICES"),
    Jump(NAT, "POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'),
    Jump(FILTER, "INPUT", f"{_NEW} {_BALANCERS} -j KUBE-PROXY-FIREWALL"),
    Jump(FILTER, "OUTPUT", f"{_NEW} {_BALANCERS} -j KUBE-PROXY-FIREWALL"),
    Jump(FILTER, "FORWARD", f"{_NEW} {_BALANCERS} -j KUBE-PROXY-FIREWALL"),
    Jump(FILTER, "FORWARD", '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'),
    Jump(FILTER, "FORWARD", f"{_NEW} {_PORTALS} -j KUBE-SERVICES"),
    Jump(FILTER, "OUTPUT", f"{_NEW} {_PORTALS} -j KUBE-SERVICES"),
    Jump(FILTER, "INPUT", f"-m comment --comment {_CHECKS} -j KUBE-NODEPORTS"),
    Jump(FILTER, "INPUT", f"{_NEW} {_EXTERNAL} -j KUBE-EXTERNAL-SERVICES"),
    Jump(FILTER, "FORWARD", f"{_NEW} {_EXTERNAL} -j KUBE-EXTERNAL-SERVICES"),
    Jump(FILTER, "INPUT", "-j KUBE-FIREWALL"),
    Jump(FILTER, "OUTPUT", "-j KUBE-FIREWALL"),
    Jump(FILTER, "FORWARD", _GUARD),
    Jump(FILTER, "OUTPUT", _GUARD),
)

_SHARED: Final = (SERVICES, NODE_PORTS, REJECTS, EXTERNAL_REJECTS, FIREWALL, HEALTH_CHECKS)
_LAST: Final[dict[Chain, Lines]] = {
    # whatever is addressed to a service's own address has matched by then
    SERVICES: (
        '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
        "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    )
}


class Tables:
    """The rules of all Services of one node and address family."""

    def __init__(self, frame: Frame) -> None:
        self._chains: dict[Chain, Lines] = _fixed(frame)
        self._lines: dict[Chain, dict[str, Lines]] = {chain: {} for chain in _SHARED}
        self._own: dict[str, tuple[Chain, ...]] = {}
        self._touched: set[Chain] = set(_SHARED)

    def put(self, key: str, services: Sequence[ServiceRules]) -> None:
        """Replace what a Service adds; nothing removes it."""
        for chain in self._own.pop(key, ()):
            self._chains.pop(chain, None)
        shared: dict[Chain, Lines] = {}
        for rules in services:
            self._chains.update(rules.chains)
            for chain, lines in rules.shared.items():
                shared[chain] = shared.get(chain, ()) + lines
        if services:
            self._own[key] = tuple(chain for rules in services for chain in rules.chains)
        for chain, each in self._lines.items():
            if each.get(key) == shared.get(chain):
                continue
            each.pop(key, None)
            if chain in shared:
                each[key] = shared[chain]
            self._touched.add(chain)

    def rules(self) -> Rules:
        """Everything: the frame and all Services' rules."""
        for chain in self._touched:
            lines = (line for service in reversed(self._lines[chain].values()) for line in service)
            self._chains[chain] = (*lines, *_LAST.get(chain, ()))
        self._touched.clear()
        return Rules(dict(self._chains), JUMPS)


def table(services: Iterable[ServiceRules], frame: Frame) -> Rules:
    """The tables with these rules alone."""
    tables = Tables(frame)
    tables.put("", tuple(services))
    return tables.rules()


def standing(saved: Saved) -> Rules | None:
    """The rules that an earlier proxy has left, as they are; None where it has left none. What its frame lacked is there, and empty."""
    frame = table((), Frame("0.0.0.0/0", "0.0.0.0/0")).chains
    if SERVICES not in saved.chains or (FILTER, "MKPY-GUARD") not in saved.chains:
        return None
    left = {chain: rules for chain, rules in saved.chains.items() if chain in frame or chain[1].startswith("KUBE-")}
    return Rules({**dict.fromkeys(frame, ()), **left}, JUMPS)


def _fixed(frame: Frame) -> dict[Chain, Lines]:
    loopback = "::1/128" if frame.ipv6 else "127.0.0.0/8"
    untranslated = f"-d {frame.service_cidr} -m addrtype ! --dst-type LOCAL"
    return {
        (NAT, "KUBE-MARK-MASQ"): ("-j MARK --set-xmark 0x4000/0x4000",),
        (NAT, "KUBE-POSTROUTING"): (
            f"-m mark ! --mark {MASQUERADE_MARK} -j RETURN",
            "-j MARK --set-xmark 0x4000/0x0",
            '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        ),
        (FILTER, "KUBE-FORWARD"): (
            "-m conntrack --ctstate INVALID -j DROP",
            f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {MASQUERADE_MARK} -j ACCEPT',
            '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        ),
        (FILTER, "KUBE-FIREWALL"): (
            f'! -s {loopback} -d {loopback} -m comment --comment "block incoming localnet connections" '
            "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        ),
        (FILTER, "MKPY-GUARD"): (
            f"{untranslated.replace(' -m', ' -p tcp -m', 1)} -j {reject(frame.ipv6, 'tcp')}",
            f"{untranslated} -j {reject(frame.ipv6, '')}",
        ),
    }
