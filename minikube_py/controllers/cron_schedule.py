"""Cron schedules as Kubernetes understands them: five fields, names, `?`, @hourly and its like, @every, in a time zone.

Pure: a text and a zone in, times out. The fields are cronsim's work; where the library that upstream uses reads them differently they are
rewritten first: a stepped star is no star (so that day of month and day of week are alternatives), and the week ends on Saturday.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_RANGES = ("0-59", "0-23", "1-31", "1-12", "0-6")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class UnparseableSchedule(ValueError):
    """The text is no schedule."""


class Schedule(NamedTuple):
    """When something is due. Times are seconds since the epoch."""

    fields: str
    """Five fields as cronsim reads them; "" for a period, and for what never comes."""
    period: float
    """Seconds between two times, for @every; 0 elsewhere."""
    zone: tzinfo

    def after(self, moment: float) -> float | None:
        """The first time later than a moment; None where there is none (the 31st of February)."""
        if self.period:
            return math.floor(moment) + self.period
        return _first(self._times(moment, backwards=False))

    def latest(self, since: float, now: float) -> float | None:
        """The last time later than `since` and not later than `now`; None where there is none."""
        if self.period:
            passed = math.floor((now - math.floor(since)) / self.period)
            return math.floor(since) + passed * self.period if passed >= 1 else None
        # one second later, since only what is earlier than the start is given
        found = _first(self._times(math.floor(now) + 1, backwards=True))
        return found if found is not None and found > since else None

    def _times(self, moment: float, *, backwards: bool) -> Iterator[datetime]:
        from cronsim import CronSim

        if not self.fields:
            return iter(())
        return CronSim(self.fields, datetime.fromtimestamp(moment, UTC).astimezone(self.zone), reverse=backwards)


def _first(times: Iterator[datetime]) -> float | None:
    found = next(times, None)
    return found.timestamp() if found is not None else None


def parse(text: str, zone: tzinfo) -> Schedule:
    """A schedule. Raises UnparseableSchedule."""
    text = text.strip()
    if text.startswith("@every "):
        period = duration(text.removeprefix("@every ").strip())
        # whole seconds, at least one
        return Schedule("", float(max(1, math.floor(period))), zone)
    text = _DESCRIPTORS.get(text, text)
    parts = text.split()
    if text.startswith("@") or len(parts) != 5:
        raise UnparseableSchedule(text)
    fields = " ".join(",".join(_item(item, place) for item in part.split(",")) for place, part in enumerate(parts))
    fault = _fault(fields)
    if not fault:
        return Schedule(fields, 0.0, zone)
    minutes, hours, days, months, weekdays = fields.split()
    if _fault(f"{minutes} {hours} {days} * {weekdays}") or _fault(f"* * * {months} *"):
        raise UnparseableSchedule(fault)
    # no month has such a day: upstream's library takes it for a schedule that never comes
    return Schedule("", 0.0, zone)


def _fault(fields: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(fields, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return str(error)
    return ""


def _item(item: str, place: int) -> str:
    term, slash, step = item.partition("/")
    if term == "?":
        term = "*"
    if not slash or (step == "1" and term == "*"):
        return term
    if term == "*":
        term = _RANGES[place]
    elif "-" not in term:
        term = f"{term}-{_RANGES[place].partition('-')[2]}"
    return f"{term}/{step}"


def duration(text: str) -> float:
    """Seconds of a Go duration ("1h30m"). Raises UnparseableSchedule."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UnparseableSchedule(f"failed to parse duration {text}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def split_zone(text: str) -> tuple[str, str]:
    """(zone, schedule) of a schedule that may begin with TZ= or CRON_TZ=; the zone is "" where it does not."""
    match = re.match(r"(?:CRON_)?TZ=(\S+)\s+(.*)", text)
    return (match[1], match[2]) if match else ("", text)
