"""Further processes in running containers, through containerd's native task service.

CRI's own exec hands a command's streams to a server within containerd, which ends the input as soon as one of the outputs has ended. Here
the streams are FIFOs that the caller makes and holds the other ends of, and each end is the caller's to say. A process is made, started,
waited for and deleted by the id that the caller gave it; containerd may be restarted in between, since the shim holds process and FIFOs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage

from minikube_py.cri import errors
from minikube_py.cri.channel import answer
from minikube_py.cri.client import REQUEST_TIMEOUT, CriClient
from minikube_py.cri.events import NAMESPACE
from minikube_py.cri.native import containers_pb2, containers_pb2_grpc, tasks_pb2, tasks_pb2_grpc

_PROCESS: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_METADATA: Final = (("containerd-namespace", NAMESPACE),)


class ProcessId(NamedTuple):
    """A process, by its container's id and one of its own."""

    container: str
    process: str


class Stdio(NamedTuple):
    """Paths of a process's FIFOs; a terminal has no standard error of its own."""

    stdin: Path | None
    stdout: Path
    stderr: Path | None

    @property
    def terminal(self) -> bool:
        """Whether the process has a terminal."""
        return self.stderr is None


class Processes:
    """containerd's task service. Raises CriError."""

    def __init__(self, client: CriClient) -> None:
        self._containers = containers_pb2_grpc.ContainersStub(client.channel)
        self._tasks = tasks_pb2_grpc.TasksStub(client.channel)

    async def template(self, container_id: str) -> dict[str, Any]:
        """The container's own process as its OCI specification has it. Raises NotFound, and Unimplemented where this is not containerd."""
        request = containers_pb2.GetContainerRequest(id=container_id)
        found = await answer(self._containers.Get(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))
        process = orjson.loads(found.container.spec.value).get("process")
        if not isinstance(process, dict):
            raise errors.NotFound(f"container {container_id} has no process")
        return process

    async def create(self, id: ProcessId, spec: dict[str, Any], stdio: Stdio) -> None:
        """Make a process, unstarted. Its FIFOs must be there, those of its outputs open for reading."""
        request = tasks_pb2.ExecProcessRequest(
            container_id=id.container,
            exec_id=id.process,
            stdin=str(stdio.stdin or ""),
            stdout=str(stdio.stdout),
            stderr=str(stdio.stderr or ""),
            terminal=stdio.terminal,
            spec=AnyMessage(type_url=_PROCESS, value=orjson.dumps(spec)),
        )
        await answer(self._tasks.Exec(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))

    async def start(self, id: ProcessId) -> None:
        """Start it. When this returns, the FIFOs of its outputs are open for writing."""
        request = tasks_pb2.StartRequest(container_id=id.container, exec_id=id.process)
        await answer(self._tasks.Start(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))

    async def wait(self, id: ProcessId) -> int:
        """Its exit code, once it has ended, however long that takes."""
        request = tasks_pb2.WaitRequest(container_id=id.container, exec_id=id.process)
        return (await answer(self._tasks.Wait(request, metadata=_METADATA))).exit_status

    async def resize(self, id: ProcessId, width: int, height: int) -> None:
        """Give its terminal a size."""
        request = tasks_pb2.ResizePtyRequest(container_id=id.container, exec_id=id.process, width=width, height=height)
        await answer(self._tasks.ResizePty(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))

    async def close_stdin(self, id: ProcessId) -> None:
        """Let its input end behind what is in the FIFO, once no other writer has it open. A terminal would be hung up by this."""
        request = tasks_pb2.CloseIORequest(container_id=id.container, exec_id=id.process, stdin=True)
        await answer(self._tasks.CloseIO(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))

    async def delete(self, id: ProcessId) -> None:
        """Forget a process that has ended, or was never started. Idempotent, also for one whose container is gone."""
        request = tasks_pb2.DeleteProcessRequest(container_id=id.container, exec_id=id.process)
        with contextlib.suppress(errors.NotFound):
            await answer(self._tasks.DeleteProcess(request, metadata=_METADATA, timeout=REQUEST_TIMEOUT))


def process_spec(template: dict[str, Any], command: Sequence[str], terminal: bool) -> dict[str, Any]:
    """A further process like the container's own (user, environment, directory, capabilities, limits), as CRI's exec makes it."""
    made = {**template, "args": list(command), "terminal": terminal}
    made.pop("commandLine", None)
    if terminal:
        made["env"] = list(
            {**{variable.partition("=")[0]: variable for variable in template.get("env") or ()}, "TERM": "TERM=xterm"}.values()
        )
    return made
