"""A process that writes with many writers and says on stdout what was acknowledged, until it is killed. Used by test_crash.py."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from minikube_py.store.api import Durability, Write
from minikube_py.store.sqlite import open_sqlite


async def main(directory: Path, writers: int) -> None:
    store = await open_sqlite(directory)
    os.write(1, b"open %d\n" % store.revision)

    async def write(number: int) -> None:
        durability, name = (Durability.RELAXED, "relaxed") if number % 4 == 3 else (Durability.DURABLE, "durable")
        revision, count = 0, 0
        key = f"/r/{os.getpid()}/{number}"
        while True:
            count += 1
            value = None if revision and count % 7 == 0 else b"%d " % count * 300
            record = await store.commit(Write(key, revision, value, "crasher", durability))
            revision = 0 if record.deleted else record.revision
            os.write(1, f"{name} {record.key} {record.revision} {int(record.deleted)} {count}\n".encode())

    await asyncio.gather(*(write(number) for number in range(writers)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
