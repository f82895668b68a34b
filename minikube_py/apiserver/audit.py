"""Audit ids: every answer carries one, so that a user's report can be found in the log."""

from __future__ import annotations

import uuid
from itertools import count


class AuditIds:
    """Ids in UUID form: random once, then counted, since a random one for each request would cost as much as finding an object."""

    def __init__(self) -> None:
        base = str(uuid.uuid4())
        self._prefix = base[:24].encode()
        self._numbers = count(int(base[24:30], 16) << 12)

    def next(self) -> bytes:
        """The next id."""
        return b"%b%012x" % (self._prefix, next(self._numbers) & 0xFFFFFFFFFFFF)
