"""From the command to the end of the process: what `minikube-py server` and `minikube-py agent` have in common.

Signals: SIGTERM and SIGINT end the program, in the middle of its start too; SIGPWR says that the machine goes down; SIGUSR1 has every task
logged. systemd is told when the program is ready and when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Protocol

from minikube_py import logs, ownprocess, stacks
from minikube_py.aio import Supervisor, Tasks, well
from minikube_py.systemd import notify

log = logging.getLogger(__name__)

_READY_SECONDS, _READY_LOOK = 30.0, 0.02


class StartError(Exception):
    """The program cannot start; the message says why and what to do, in one line."""


class PodsHost(Protocol):
    """A node, as far as the end of its machine goes."""

    async def shut_down(self) -> None:
        """End its pods."""


class Program(ABC):
    """What is run. Everything that it starts is ended by the exit stack, in the reverse order, after its components."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._supervisor = Supervisor()
        self._supervisor.start("memory", well(ownprocess.keep_small))
        self._node: PodsHost | None = None
        self._ends = Tasks()

    @abstractmethod
    async def start(self) -> None:
        """Start everything; returns when the program does what it is there for. Raises StartError."""

    async def _until_ready(self, missing: Callable[[], Iterable[str]]) -> None:
        """Until nothing is missing, but not for ever: one component that does not come up is no reason to start all of them again."""
        deadline = time.monotonic() + _READY_SECONDS
        while problems := list(missing()):
            if time.monotonic() > deadline:
                log.warning("not ready yet, and going on all the same", extra={"problems": problems})
                return
            await asyncio.sleep(_READY_LOOK)

    def shut_down_node(self) -> None:
        """The machine goes down: end the pods of its node, and go on meanwhile."""
        if self._node is not None:
            self._ends.spawn(self._node.shut_down(), "node shutdown")

    async def end_components(self) -> None:
        """End what runs, before what it shares is closed."""
        await self._ends.close()
        await self._supervisor.close()


def run(make: Callable[[AsyncExitStack], Program], log_level: str, log_format: str) -> None:
    """Run a program until SIGTERM or SIGINT. Raises StartError."""
    import uvloop

    logs.configure(log_level, log_format)
    ownprocess.settle()
    uvloop.run(_main(make))


async def _main(make: Callable[[AsyncExitStack], Program]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stacks.log_on_signal(loop)
    async with AsyncExitStack() as stack:
        program = make(stack)
        loop.add_signal_handler(signal.SIGPWR, program.shut_down_node)
        starting = asyncio.create_task(program.start(), name="start")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            # a start may wait, for a server or a container runtime, as long as it takes, and is ended like everything else
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                notify("READY=1")
                await stopping
                notify("STOPPING=1")
            log.info("stopping; pods are left running")
        finally:
            stacks.end_within(stacks.STOP_SECONDS, loop)
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await program.end_components()
