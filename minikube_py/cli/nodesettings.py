"""The options of a node's agent, which the server and the agent have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from minikube_py.cli.options import option
from minikube_py.config import ConfigError, parse_duration, parse_label
from minikube_py.meta import quantity, sysctls, thresholds
from minikube_py.nodesettings import RESERVED, VERIFICATION, NodeSettings

F = TypeVar("F", bound=Callable[..., Any])

_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*([./]?\*)?")
_PERCENT = click.IntRange(0, 100)
_OPTIONS = (
    option(
        "--eviction-hard",
        f"What must be left, or pods go at once (repeatable).  [default: {','.join(thresholds.DEFAULT_HARD)}]",
        many=True,
        metavar="SIGNAL<AMOUNT",
    ),
    option("--eviction-soft", "What must be left, or pods go after a while (repeatable).", many=True, metavar="SIGNAL<AMOUNT"),
    option("--eviction-soft-grace-period", "How long after (repeatable).", many=True, metavar="SIGNAL=TIME"),
    option(
        "--eviction-max-pod-grace-period",
        "Seconds that a pod has to end when it goes for a soft threshold.",
        default=0,
        type=click.IntRange(0),
        metavar="SECONDS",
    ),
    option("--eviction-minimum-reclaim", "What is to be won back at least (repeatable).", many=True, metavar="SIGNAL=AMOUNT"),
    option(
        "--eviction-pressure-transition-period", "How long a node says that it is under pressure, at least.", default="5m", metavar="TIME"
    ),
    option(
        "--image-gc-high-threshold", "Percent of the disk in use at which unused images go.", default=85, type=_PERCENT, metavar="PERCENT"
    ),
    option("--image-gc-low-threshold", "Percent of the disk in use down to which they go.", default=80, type=_PERCENT, metavar="PERCENT"),
    option("--minimum-image-ttl-duration", "How long an unused image stays at least.", default="2m", metavar="TIME"),
    option("--image-maximum-gc-age", "How long an unused image stays at most; 0 is for ever.", default="0", metavar="TIME"),
    option("--max-parallel-image-pulls", "Images that are pulled at the same time.", default=3, type=click.IntRange(1), metavar="NUMBER"),
    option(
        "--image-credential-verification",
        "When a pod must show that it may use an image that is there already.",
        default=VERIFICATION[1],
        type=click.Choice(VERIFICATION),
    ),
    option("--max-pods", "Pods that the node takes.", default=110, type=click.IntRange(1), metavar="NUMBER"),
    option("--pod-max-pids", "Processes that one pod may have; -1 is no limit.", default=-1, type=click.IntRange(-1), metavar="NUMBER"),
    option("--allowed-unsafe-sysctls", "Kernel parameters that pods may set (repeatable).", many=True, metavar="NAME"),
    option("--kube-reserved", "What of the machine is the agent's and the runtime's (repeatable).", many=True, metavar="RESOURCE=AMOUNT"),
    option("--system-reserved", "What of it is the system's (repeatable).", many=True, metavar="RESOURCE=AMOUNT"),
    option("--shutdown-grace-period", "How long a machine's shutdown waits for pods to end; 0 is not.", default="0", metavar="TIME"),
    option("--shutdown-grace-period-critical-pods", "The last part of that time, for critical pods.", default="0", metavar="TIME"),
)


def node_options(function: F) -> F:
    """All of them, on a command."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function


def settings(options: dict[str, Any]) -> NodeSettings:
    """What the options come to. Raises ConfigError."""

    def time(key: str) -> float:
        return parse_duration("--" + key.replace("_", "-"), options[key])

    graces = dict(parse_label("--eviction-soft-grace-period", text) for text in options["eviction_soft_grace_period"])
    try:
        eviction = thresholds.parse(
            options["eviction_hard"] or thresholds.DEFAULT_HARD,
            options["eviction_soft"],
            {signal: parse_duration("--eviction-soft-grace-period", text) for signal, text in graces.items()},
            options["eviction_minimum_reclaim"],
        )
    except thresholds.ThresholdError as error:
        raise ConfigError(f"--eviction-…: {error}") from error
    low, high = options["image_gc_low_threshold"], options["image_gc_high_threshold"]
    if low > high:
        raise ConfigError(f"--image-gc-low-threshold {low} must not be above --image-gc-high-threshold {high}")
    if options["pod_max_pids"] == 0:
        raise ConfigError("--pod-max-pids must be a number of processes, or -1 for no limit")
    whole, critical = time("shutdown_grace_period"), time("shutdown_grace_period_critical_pods")
    if critical > whole:
        raise ConfigError("--shutdown-grace-period-critical-pods is a part of --shutdown-grace-period, and must not be longer")
    return NodeSettings(
        eviction=eviction,
        eviction_max_pod_grace_period=options["eviction_max_pod_grace_period"],
        eviction_pressure_transition_period=time("eviction_pressure_transition_period"),
        image_gc_high_threshold=high,
        image_gc_low_threshold=low,
        minimum_image_ttl=time("minimum_image_ttl_duration"),
        image_maximum_gc_age=time("image_maximum_gc_age"),
        max_parallel_image_pulls=options["max_parallel_image_pulls"],
        image_credential_verification=options["image_credential_verification"],
        max_pods=options["max_pods"],
        pod_max_pids=options["pod_max_pids"],
        allowed_unsafe_sysctls=_sysctls(options["allowed_unsafe_sysctls"]),
        kube_reserved=_reserved("--kube-reserved", options["kube_reserved"]),
        system_reserved=_reserved("--system-reserved", options["system_reserved"]),
        shutdown_grace_period=whole,
        shutdown_grace_period_critical_pods=critical,
    )


def _sysctls(given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(map(sysctls.normal, given))
    for name in names:
        if not _SYSCTL.fullmatch(name):
            raise ConfigError(f"--allowed-unsafe-sysctls: {name!r} is not the name of a kernel parameter, or one with * at its end")
        if not sysctls.namespace(name.rstrip("*")):
            raise ConfigError(f"--allowed-unsafe-sysctls: {name} is the whole machine's: a pod has none of its own")
    return names


def _reserved(name: str, given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    amounts = dict(parse_label(name, text) for text in given)
    for resource, text in amounts.items():
        if resource not in RESERVED:
            raise ConfigError(f"{name}: cannot reserve {resource!r}, only {', '.join(RESERVED)}")
        try:
            amount = quantity.parse(text)
        except quantity.QuantityError as error:
            raise ConfigError(f"{name}: {resource}={text}: {error}") from error
        if amount.nano < 0:
            raise ConfigError(f"{name}: {resource}={text} must not be negative")
    return tuple(amounts.items())
