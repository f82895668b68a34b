"""Links of proxied pages, and where redirects lead."""

from __future__ import annotations

import pytest

from minikube_py.apiserver.links import Links

PREFIX = "/api/v1/namespaces/default/pods/web/proxy"
LINKS = Links(PREFIX, ("10.42.0.7:80", "localhost:8001"))


@pytest.mark.parametrize(
    ("link", "through"),
    [
        ("/a/b?c=d#e", f"{PREFIX}/a/b?c=d#e"),
        ("/", f"{PREFIX}/"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("http://10.42.0.7:80/a", f"{PREFIX}/a"),
        ("http://localhost:8001/a", f"http://localhost:8001{PREFIX}/a"),
        ("https://example.org/a", "https://example.org/a"),
        ("a/b", "a/b"),
        ("?c=d", "?c=d"),
        ("http://[", "http://["),
    ],
)
def test_what_means_the_server_goes_through_the_proxy(link: str, through: str) -> None:
    assert LINKS.url(link) == through


def test_pages_keep_everything_but_their_links() -> None:
    page = (
        '<!DOCTYPE html><HTML><a class="x" href="/rewriteme">/text</a><!-- <a href="/n"> --><img SRC=/i.png alt="/alt">'
        "<script src='/s.js'>if (a < b) write('<a href=\"/not\">')</script><p title='>'>1 < 2</p><a href=\"/q?a=1&amp;b=2\">"
    )
    wanted = (
        f'<!DOCTYPE html><HTML><a class="x" href="{PREFIX}/rewriteme">/text</a><!-- <a href="/n"> --><img SRC="{PREFIX}/i.png" alt="/alt">'
        f"<script src=\"{PREFIX}/s.js\">if (a < b) write('<a href=\"/not\">')</script><p title='>'>1 < 2</p>"
        f'<a href="{PREFIX}/q?a=1&amp;b=2">'
    )
    assert LINKS.page(page.encode()).decode() == wanted
    assert LINKS.page(b"<a href=") == b"<a href="
