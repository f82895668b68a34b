"""In which order free addresses and ports are tried. Pure: randomness is passed in, nothing is remembered.

A range has a small part at its start for those who ask for a certain value and a large one for values that are handed out: handing out
begins at a random place of the large part, goes round it, and takes from the small part only when the large one is full (upstream's
KEP-3070 and KEP-3668; the sizes are upstream's).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RandomBelow = Callable[[int], int]
"""A random number from 0 to one below what it is given (secrets.randbelow)."""


def first_address(network: Network) -> str:
    """The first address of a range that is handed out: the network's own is not."""
    return str(network.network_address + 1)


def contains(network: Network, address: str) -> bool:
    """Whether an address is one that the range may hand out."""
    value = ipaddress.ip_address(address)
    if value.version != network.version or value not in network:
        return False
    return bool(value != network.network_address and (network.version == 6 or value != network.broadcast_address))


def addresses(network: Network, random_below: RandomBelow) -> Iterator[str]:
    """Every address of a range, in the order in which to try them."""
    usable = network.num_addresses - (2 if network.version == 4 else 1)
    first = network.network_address + 1
    for offset in _order(usable, static_part(network.num_addresses, 16, 256), random_below):
        yield str(first + offset)


def ports(span: range, random_below: RandomBelow) -> Iterator[int]:
    """Every port of a range, in the order in which to try them."""
    for offset in _order(len(span), static_part(len(span), 32, 128), random_below):
        yield span[offset]


def static_part(size: int, step: int, most: int) -> int:
    """How many values at the start of a range are kept for those who ask for them: a `step`th of it, from 16 to `most`."""
    return 0 if size <= 16 else max(16, min(size // step, most))


def _order(size: int, static: int, random_below: RandomBelow) -> Iterator[int]:
    for start, end in ((static, size), (0, min(static, size))):
        span = end - start
        if span > 0:
            offset = random_below(span)
            for step in range(span):
                yield start + (offset + step) % span
