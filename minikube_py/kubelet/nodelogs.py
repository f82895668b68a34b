"""The node's log directory over HTTP (/logs/), as Go's file server shows it: directories as lists of links, files as they are.

A symbolic link is followed only to what lies below that directory too: a container that may write there shall not choose what is read.
"""

from __future__ import annotations

import asyncio
import html
from pathlib import Path
from urllib.parse import quote, unquote

from aiohttp import web

from minikube_py.kubelet.refused import Refused


async def serve(request: web.BaseRequest, root: Path) -> web.StreamResponse:
    """What the request's path, which begins with /logs, names below `root`. Raises Refused."""
    raw = request.raw_path.partition("?")[0].removeprefix("/logs")
    path = await asyncio.to_thread(_find, root, unquote(raw))
    if path is None:
        raise Refused(404, "404 page not found\n")
    if not path.is_dir():
        return web.FileResponse(path)
    if not raw.endswith("/"):
        return web.Response(status=301, headers={"Location": (raw or "logs").rpartition("/")[2] + "/"})
    return web.Response(text=await asyncio.to_thread(_listing, path), content_type="text/html", charset="utf-8")


def _find(root: Path, path: str) -> Path | None:
    try:
        top = root.resolve(strict=True)
        found = (top / path.strip("/")).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    return found if found.is_relative_to(top) and (found.is_dir() or found.is_file()) else None


def _listing(directory: Path) -> str:
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in directory.iterdir())
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return f'<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n{links}</pre>\n'
