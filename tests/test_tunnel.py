"""Connections that are joined."""

from __future__ import annotations

import asyncio
import gc
import weakref

from minikube_py.tunnel import End
from tests.support.waiting import until


async def test_what_was_joined_is_gone_with_its_connections_without_the_garbage_collector() -> None:
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(writer)
        writer.write(await reader.read(100))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    ends = [(await asyncio.get_running_loop().create_connection(End, "127.0.0.1", port))[1] for _ in range(2)]
    ends[0].join(ends[1])
    ends[1].join(ends[0])
    for _ in range(2):
        (await accepted.get()).close()
    for end in ends:
        await end.gone.wait()
    known = [weakref.ref(end) for end in ends]
    gc.disable()
    try:
        del ends, end
        await until(lambda: [reference() for reference in known] == [None, None], timeout=5)
    finally:
        gc.enable()
        listener.close()
