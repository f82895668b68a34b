"""The node's log directory over HTTP (/logs/), as Go's file server shows it: directories as lists of links, files as they are.

A symbolic link is followed only to what lies below that directory too: a container that may write there shall not choose what is read.
"""

from __future__ import annotations

import asyncio
import errno
import html
import mimetypes
import os
import stat
from pathlib import Path
from urllib.parse import quote, unquote

from aiohttp import web

from minikube_py.kubelet import nolinks
from minikube_py.kubelet.refused import Refused


async def serve(request: web.BaseRequest, root: Path) -> web.StreamResponse:
    """What the request's path, which begins with /logs, names below `root`. Raises Refused."""
    raw = request.raw_path.partition("?")[0].removeprefix("/logs")
    opening = asyncio.ensure_future(asyncio.to_thread(_open, root, unquote(raw)))
    try:
        descriptor, name = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)  # the thread goes on, whether anybody waits for it or not
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(404, "404 page not found\n") from error
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            file = web.FileResponse(f"/proc/self/fd/{descriptor}")
            file.content_type = mimetypes.guess_type(name)[0] or "text/plain"
            await file.prepare(request)
            return file
        if not raw.endswith("/"):
            return web.Response(status=301, headers={"Location": (raw or "logs").rpartition("/")[2] + "/"})
        return web.Response(text=await asyncio.to_thread(_listing, descriptor), content_type="text/html", charset="utf-8")
    finally:
        os.close(descriptor)


def _open(root: Path, path: str) -> tuple[int, str]:
    """A descriptor and the name. The links are resolved first; one that takes the place of a directory afterwards is not followed."""
    top = root.resolve(strict=True)
    found = (top / path.strip("/")).resolve(strict=True)
    descriptor = nolinks.open_below(top, found.relative_to(top).parts)
    if not stat.S_ISREG(kind := os.fstat(descriptor).st_mode) and not stat.S_ISDIR(kind):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor, found.name


def _close(opening: asyncio.Future[tuple[int, str]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


def _listing(directory: int) -> str:
    with os.scandir(directory) as entries:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return f'<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n{links}</pre>\n'
