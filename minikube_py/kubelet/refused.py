"""How a request to the node's endpoint ends that cannot be served."""

from __future__ import annotations


class Refused(Exception):
    """The request ends with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text
