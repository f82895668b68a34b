"""Links of pages that come through …/proxy, and redirects: they go on through the proxy, as upstream has it. Pure.

A page in a pod links to `/style.css` and means its own server; through the proxy that is below …/pods/NAME/proxy. Only what names no other
host and begins with a slash is changed. Text, scripts, styles and comments stay as they are.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

_ATTRIBUTES = {
    "a": ("href",), "applet": ("codebase",), "area": ("href",), "audio": ("src",), "base": ("href",), "blockquote": ("cite",),
    "body": ("background",), "button": ("formaction",), "command": ("icon",), "del": ("cite",), "embed": ("src",), "form": ("action",),
    "frame": ("longdesc", "src"), "head": ("profile",), "html": ("manifest",), "iframe": ("longdesc", "src"),
    "img": ("longdesc", "src", "usemap"), "input": ("src", "usemap", "formaction"), "ins": ("cite",), "link": ("href",),
    "object": ("classid", "codebase", "data", "usemap"), "q": ("cite",), "script": ("src",), "source": ("src",), "video": ("poster", "src"),
}  # fmt: skip
_TOKEN = re.compile(rb"<!--.*?-->|<([a-zA-Z][a-zA-Z0-9]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.DOTALL)
_ATTRIBUTE = re.compile(rb"([^\s=/\"'>]+)(\s*=\s*)(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_RAW = {name: re.compile(rb"</" + name.encode() + rb"[\s/>]", re.IGNORECASE) for name in ("script", "style", "textarea", "title")}


class Links(NamedTuple):
    """Rewrites what leads to the proxied server. `prefix` is the path up to …/proxy; the hosts are that of the server and the one that the
    client asked."""

    prefix: str
    hosts: tuple[str, str]

    def url(self, text: str) -> str:
        """A link or a redirect's target, through the proxy where it means the proxied server."""
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if (parts.netloc and parts.netloc not in self.hosts) or not parts.path.startswith("/"):
            return text
        scheme, host = (parts.scheme, parts.netloc) if parts.netloc and parts.netloc == self.hosts[1] else ("", "")
        path = parts.path if parts.path.startswith(self.prefix) else self.prefix + parts.path
        return urlunsplit(SplitResult(scheme, host, path, parts.query, parts.fragment))

    def page(self, body: bytes) -> bytes:
        """A page of HTML with its links rewritten."""
        out: list[bytes] = []
        at = 0
        while (found := _TOKEN.search(body, at)) is not None:
            out.append(body[at : found.start()])
            at = found.end()
            if found[1] is None:
                out.append(found[0])
                continue
            name = found[1].decode().lower()
            out.append(b"<" + found[1] + self._attributes(name, found[2]) + b">")
            if name in _RAW and (end := _RAW[name].search(body, at)) is not None:
                out.append(body[at : end.start()])
                at = end.start()
        return b"".join((*out, body[at:]))

    def _attributes(self, element: str, text: bytes) -> bytes:
        wanted = _ATTRIBUTES.get(element)
        if wanted is None:
            return text

        def rewritten(found: re.Match[bytes]) -> bytes:
            if found[1].decode("utf-8", "replace").lower() not in wanted:
                return found[0]
            value = next(v for v in found.groups()[2:] if v is not None)
            link = html.unescape(value.decode("utf-8", "surrogateescape"))
            changed = self.url(link)
            if changed == link:
                return found[0]
            return found[1] + found[2] + b'"' + html.escape(changed).encode("utf-8", "surrogateescape") + b'"'

        return _ATTRIBUTE.sub(rewritten, text)
