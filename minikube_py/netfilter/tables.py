"""The mechanism: reads tables with iptables-save, commits changes with iptables-restore, looks for drift.

Owners (the service proxy, network policies) hand in their whole `Rules`; what reaches the kernel is the difference to what was applied
last. Nothing else in the process runs iptables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from minikube_py.netfilter.table import NOTHING, Rules, Saved, adopted, drifted, parse_save, restore_input
from minikube_py.netfilter.variant import Family, Variant, program

log = logging.getLogger(__name__)

OWNED_PREFIXES = ("KUBE-", "MKPY-")


class NetfilterError(Exception):
    """iptables refused; nothing of that table was changed. The message is iptables' own."""


class Netfilter:
    """The tables of one address family in this network namespace."""

    def __init__(self, family: Family, variant: Variant) -> None:
        self.family, self._variant = family, variant
        self._wanted: dict[str, Rules] = {}
        self._applied: Rules | None = None
        self._lock = asyncio.Lock()

    async def apply(self, owner: str, rules: Rules) -> None:
        """Make the tables hold what this owner wants. Raises NetfilterError; then the next call tries everything again."""
        async with self._lock:
            self._wanted[owner] = rules
            await self._commit()

    async def check(self) -> bool:
        """Look whether somebody else changed what is ours, and put it right. True where something had to be put right."""
        async with self._lock:
            if self._applied is None or not drifted(await self.read(), self._applied):
                return False
            log.warning("iptables rules were changed by somebody else, restoring them", extra={"family": self.family.name})
            self._applied = None
            await self._commit()
            return True

    async def remove(self, prefixes: Sequence[str] = OWNED_PREFIXES) -> None:
        """Take away every chain whose name starts so, ours where nothing is said, and the jumps to them."""
        async with self._lock:
            self._wanted.clear()
            self._applied = adopted(await self.read(), NOTHING, prefixes)
            await self._commit()

    async def _commit(self) -> None:
        wanted = _merge(self._wanted)
        if self._applied is None:
            # a first commit takes over what an earlier process left, in the same transaction: traffic never meets half a table
            self._applied = adopted(await self.read(), wanted, OWNED_PREFIXES)
        text = restore_input(self._applied, wanted)
        if text:
            try:
                await self._run("restore", text, "--noflush")
            except NetfilterError:
                self._applied = None
                raise
        self._applied = wanted

    async def read(self) -> Saved:
        """The tables as they stand in the kernel."""
        return parse_save(await self._run("save"))

    async def _run(self, action: str, stdin: str = "", *arguments: str) -> str:
        name = program(self.family, self._variant, action)
        # the legacy programs take a lock file; wait for others rather than fail
        wait = ("-w", "10") if action == "restore" and self._variant is Variant.LEGACY else ()
        process = await asyncio.create_subprocess_exec(
            name,
            *wait,
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode() or None)
        if process.returncode != 0:
            raise NetfilterError(f"{name}: {err.decode(errors='replace').strip()}")
        return out.decode()


def _merge(wanted: Mapping[str, Rules]) -> Rules:
    if not wanted:
        return NOTHING
    if len(wanted) == 1:
        return next(iter(wanted.values()))
    chains = {chain: rules for each in wanted.values() for chain, rules in each.chains.items()}
    return Rules(chains, tuple(jump for each in wanted.values() for jump in each.jumps))
