"""Which unused images go, and when. Pure.

The rules are the kubelet's (pkg/kubelet/images/image_gc_manager.go): above the high threshold of the disk, those that were used the longest
ago go first, down to the low threshold; none that is in use, pinned, or known for less than the minimum age. An image counts as used while
a container of any state runs on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple


class Image(NamedTuple):
    """One image of the runtime; size in bytes."""

    id: str
    size: int
    names: tuple[str, ...] = ()
    pinned: bool = False


class Record(NamedTuple):
    """Since when an image is known, and when it was last used (0: never); seconds on one clock."""

    first_seen: float
    last_used: float = 0.0


class Limits(NamedTuple):
    """Percent of the disk, and seconds; no maximum age where it is 0."""

    high: int
    low: int
    minimum_age: float
    maximum_age: float = 0.0


def track(records: Mapping[str, Record], images: Iterable[Image], used: Collection[str], now: float) -> dict[str, Record]:
    """The records after a look: `used` are the ids of images in use."""
    out = {}
    for image in images:
        record = records.get(image.id, Record(now))
        out[image.id] = record._replace(last_used=now) if image.id in used else record
    return out


def candidates(images: Iterable[Image], records: Mapping[str, Record], used: Collection[str]) -> list[Image]:
    """What may go at all, the first to go first."""
    free = [image for image in images if image.id not in used and not image.pinned]
    return sorted(free, key=lambda image: (records[image.id].last_used, records[image.id].first_seen))


def amount_to_free(available: int, capacity: int, limits: Limits) -> int:
    """Bytes to free so that the disk is at its low threshold; 0 while it is below the high one."""
    if capacity <= 0 or used_percent(available, capacity) < limits.high:
        return 0
    return max(0, capacity * (100 - limits.low) // 100 - min(available, capacity))


def used_percent(available: int, capacity: int) -> int:
    """How full the disk is."""
    return 100 - min(available, capacity) * 100 // capacity


def outdated(sorted_images: Iterable[Image], records: Mapping[str, Record], limits: Limits, since: float, now: float) -> list[Image]:
    """What was not used for longer than the maximum age; nothing before the agent itself, which began at `since`, is that old."""
    if not limits.maximum_age or now - since <= limits.maximum_age:
        return []
    return [image for image in sorted_images if now - records[image.id].last_used > limits.maximum_age]


def choose(sorted_images: Sequence[Image], records: Mapping[str, Record], amount: int | None, limits: Limits, now: float) -> list[Image]:
    """What goes to free so many bytes (None: as much as there is)."""
    chosen: list[Image] = []
    for image in sorted_images:
        if amount is not None and sum(i.size for i in chosen) >= amount:
            break
        if now - records[image.id].first_seen >= limits.minimum_age:
            chosen.append(image)
    return chosen


def shortfall_message(available: int, capacity: int, freed: int) -> str:
    """What the event says when images alone could not free enough."""
    return (
        f"Insufficient free disk space on the node's image filesystem ({used_percent(available, capacity)}% of {_size(capacity)} used). "
        f"Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


def _size(amount: int) -> str:
    size = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{amount} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
