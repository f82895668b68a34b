"""What a node does for a container beside running it: hooks of its life, and probes of its health."""

from __future__ import annotations

from minikube_py.types.meta import View

IntOrString = int | str


class ExecAction(View, frozen=True):
    command: tuple[str, ...] = ()


class HTTPHeader(View, frozen=True):
    name: str
    value: str


class HTTPGetAction(View, frozen=True):
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    httpHeaders: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(View, frozen=True):
    port: IntOrString
    host: str = ""


class GRPCAction(View, frozen=True):
    port: int
    service: str = ""


class SleepAction(View, frozen=True):
    seconds: int


class LifecycleHandler(View, frozen=True):
    exec: ExecAction | None = None
    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(View, frozen=True):
    postStart: LifecycleHandler | None = None
    preStop: LifecycleHandler | None = None
    stopSignal: str = ""


class Probe(View, frozen=True):
    exec: ExecAction | None = None
    httpGet: HTTPGetAction | None = None
    tcpSocket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initialDelaySeconds: int = 0
    timeoutSeconds: int = 1
    periodSeconds: int = 10
    successThreshold: int = 1
    failureThreshold: int = 3
    terminationGracePeriodSeconds: int | None = None
