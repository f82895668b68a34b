"""What both endpoint controllers ask of pods and services: whether a pod belongs behind a service, by which port, under which name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address

from minikube_py.control import Informer
from minikube_py.types.network import Service, ServicePort
from minikube_py.types.pod import Pod, is_terminal

TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a service's selector matches; an empty one matches nothing here."""
    return bool(selector) and selector.items() <= labels.items()


def belongs(pod: Pod, *, include_ending: bool) -> bool:
    """Whether the pod may stand behind a service at all."""
    if is_terminal(pod) or not (pod.status.podIP or pod.status.podIPs):
        return False
    return include_ending or pod.metadata.deletionTimestamp is None


def find_port(pod: Pod, port: ServicePort) -> int | None:
    """The container port that a service port leads to in this pod; None where the pod has no port of that name."""
    target = port.targetPort
    if target is None or target == 0 or target == "":
        return port.port
    if isinstance(target, int):
        return target
    sidecars = (c for c in pod.spec.initContainers if c.restartPolicy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for candidate in container.ports:
            if candidate.name == target and candidate.protocol == port.protocol:
                return candidate.containerPort
    return None


def hostname(pod: Pod, service: Service) -> str:
    """The name that the pod asks for under the service, or ""."""
    if pod.spec.hostname and pod.spec.subdomain == service.metadata.name and pod.metadata.namespace == service.metadata.namespace:
        return pod.spec.hostname
    return ""


def is_headless(service: Service) -> bool:
    """A service without a cluster IP."""
    return service.spec.clusterIP in ("", "None")


def addresses(pod: Pod, ipv6: bool) -> tuple[str, ...]:
    """The pod's addresses of one family, in their canonical notation."""
    texts = [entry.ip for entry in pod.status.podIPs] or [pod.status.podIP]
    known = [_canonical(text) for text in texts if text]
    return tuple([address for version, address in known if (version == 6) == ipv6])


@lru_cache(maxsize=65536)
def _canonical(text: str) -> tuple[int, str]:
    """An address's version and canonical notation: all of a service's are asked for whenever one of them changes."""
    address = ip_address(text)
    return address.version, str(address)


def families(service: Service) -> tuple[str, ...]:
    """The address types of the service's slices."""
    if service.spec.ipFamilies:
        return tuple(dict.fromkeys(service.spec.ipFamilies))
    if not is_headless(service):
        return ("IPv6" if ":" in service.spec.clusterIP else "IPv4",)
    return ("IPv4", "IPv6")


def services_of(services: Informer[Service], pod: Pod) -> Iterable[str]:
    """The services that select the pod."""
    labels = pod.metadata.labels
    for service in services.list(pod.metadata.namespace):
        if selects(service.spec.selector, labels):
            yield service.key


def trigger_time(service: Service, pods: Iterable[Pod], after: str) -> str:
    """The newest change among the service and its pods that is later than `after`: when what is now published came about; "" if none."""
    stamps = [service.metadata.creationTimestamp or ""]
    for pod in pods:
        stamps += [c.lastTransitionTime or "" for c in pod.status.conditions if c.type == "Ready" and c.status == "True"]
    newest = max(stamps)
    return newest if newest > after else ""
