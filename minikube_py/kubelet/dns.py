"""What stands in a pod's resolv.conf, by its dnsPolicy and dnsConfig. Pure: the node's own resolv.conf comes in as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minikube_py.types.pod import Pod

_MAX_SERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_LENGTH = 2048


class Resolver(NamedTuple):
    """The entries of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> Resolver:
    """Read a resolv.conf; the last `search` and `options` lines count."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for line in text.splitlines():
        fields = line.split("#")[0].split(";")[0].split()
        if len(fields) < 2:
            continue
        if fields[0] == "nameserver":
            servers.append(fields[1])
        elif fields[0] in ("search", "domain"):
            searches = tuple(f if f == "." else f.rstrip(".") for f in fields[1:])
        elif fields[0] == "options":
            options = tuple(fields[1:])
    return Resolver(tuple(servers), searches, options)


def pod_resolver(pod: Pod, host: Resolver, cluster_dns: Sequence[str], cluster_domain: str) -> Resolver:
    """The pod's resolver. A pod that wants the cluster's DNS where the node has none gets the node's."""
    policy = pod.spec.dnsPolicy
    if policy == "None":
        result = Resolver()
    elif policy == "Default" or (policy == "ClusterFirst" and pod.spec.hostNetwork) or not cluster_dns:
        result = host
    else:
        ours = (f"{pod.metadata.namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain) if cluster_domain else ()
        result = Resolver(tuple(cluster_dns), _unique((*ours, *host.searches)), ("ndots:5",))
    config = pod.spec.dnsConfig
    if config is not None:
        options = {o.partition(":")[0]: o for o in result.options}
        for option in config.options:
            options[option.name] = option.name if option.value is None else f"{option.name}:{option.value}"
        result = Resolver(
            _unique((*result.servers, *config.nameservers)), _unique((*result.searches, *config.searches)), tuple(options.values())
        )
    return _within_limits(result)


def _within_limits(resolver: Resolver) -> Resolver:
    searches: list[str] = []
    length = 0
    for search in resolver.searches[:_MAX_SEARCHES]:
        length += len(search) + 1
        if length - 1 > _MAX_SEARCH_LENGTH:
            break
        searches.append(search)
    return Resolver(resolver.servers[:_MAX_SERVERS], tuple(searches), resolver.options)


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


class Hostname(NamedTuple):
    """A pod's hostname and its domain (empty without a subdomain)."""

    name: str
    domain: str


class HostnameError(ValueError):
    """The pod wants a fully qualified hostname that the kernel cannot hold."""


def hostname(pod: Pod, cluster_domain: str) -> Hostname:
    """What the pod is called: spec.hostname or its name, cut to 63 characters; qualified where it asks for that. Raises HostnameError."""
    if pod.spec.hostnameOverride is not None:
        return Hostname(pod.spec.hostnameOverride[:63].rstrip("-."), "")
    name = pod.spec.hostname or pod.metadata.name[:63].rstrip("-.")
    domain = f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}" if pod.spec.subdomain else ""
    if pod.spec.setHostnameAsFQDN and domain:
        qualified = f"{name}.{domain}"
        if len(qualified) > 64:
            raise HostnameError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {qualified} is too long "
                f"(64 characters is the max, {len(qualified)} characters requested)"
            )
        return Hostname(qualified, domain)
    return Hostname(name, domain)
