"""What a service tells systemd, where systemd has started it."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tell it a state (sd_notify): READY=1, STOPPING=1."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
