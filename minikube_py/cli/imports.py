"""How a command that runs for long imports what it runs: quickly, which is half of its start.

Two costs are left out. aiohttp makes a TLS context of the system's CA bundle when it is imported; here every connection brings a context
of its own. And the garbage collector would look again and again at modules and classes, which stay.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import inside this block. SSL_CERT_FILE is afterwards as it was: children want the CA bundle."""
    # Subprocesses are executed at once after the fork: grpc need not prepare for one that goes on. It reads this when it is imported.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    name = "SSL_CERT_FILE"
    before = os.environ.get(name)
    os.environ[name] = os.devnull
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
