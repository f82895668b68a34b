"""A process that says on stdout when a write begins and when it was acknowledged, to be watched by strace. Used by test_durability.py."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from minikube_py.store.api import Durability, Write
from minikube_py.store.sqlite import open_sqlite


async def main(directory: Path) -> None:
    store = await open_sqlite(directory)

    async def write(number: int, durability: Durability) -> None:
        name = durability.value
        os.write(1, f"begin-{name}-{number}\n".encode())
        await store.commit(Write(f"/{name}/{number}", 0, b"x" * 5000, "", durability))
        os.write(1, f"done-{name}-{number}\n".encode())

    await write(0, Durability.RELAXED)
    for number in range(20):
        await write(number, Durability.DURABLE)
    for number in range(1, 20):
        await write(number, Durability.RELAXED)
    os.write(1, b"crowd\n")
    await asyncio.gather(*(write(100 + number, Durability.DURABLE) for number in range(30)))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
