"""A closer look at nodes that are not well: the evidence for the sentences of their verdicts.

Bounded in time as a whole; what was found until then counts. Remembers each node's command times for two minutes, so
that the next look can tell what came between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from cachekeep.domain.metric_ports import Examiner, Meter
from cachekeep.domain.metrics import Place, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.plan.causes import Evidence, Look, command_times, of_users

WITHIN_S = 3.0
KEPT_S = 120.0
# Evidence so young is not looked for again: `--watch` must not burden a node that has enough to do.
AGAIN_S = 10.0
_KEYS = 1000
_KEYS_WITHIN_S = 1.5
_COMMANDS_OVER_S = 1.0
_KEPT_FIELDS = ("run_id", "uptime_in_seconds")


@dataclass(frozen=True)
class Wish:
    """What to look at on one node."""

    subject: Subject
    place: Place
    looks: frozenset[Look]


class CloserLook:
    """meter: asked for two INFOs, on the line that it has anyway. now: seconds since 1970."""

    def __init__(self, examiner: Examiner, meter: Meter, now: Callable[[], float]) -> None:
        self._examiner, self._meter, self._now = examiner, meter, now
        self._found: dict[Subject, tuple[float, frozenset[Look], Evidence]] = {}
        self._times: dict[Subject, tuple[float, Mapping[str, str]]] = {}

    def evidence(self, subject: Subject) -> Evidence:
        """What was found in the last two minutes; empty if nobody looked."""
        found = self._found.get(subject)
        return found[2] if found is not None and 0 <= self._now() - found[0] <= KEPT_S else Evidence()

    async def take(self, wishes: Collection[Wish]) -> None:
        """Look at all of them side by side, within three seconds. Trouble is part of what is found."""
        self._forget_old()
        parts = {wish: list[Evidence]() for wish in wishes if not self._is_fresh(wish)}
        tasks = [asyncio.create_task(self._look(wish, found)) for wish, found in parts.items()]
        if tasks:
            try:
                await asyncio.wait(tasks, timeout=WITHIN_S)
            finally:  # the late ones, and all when nobody waits for them any more
                for task in tasks:
                    task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
        for wish, found in parts.items():
            whole = merged(found)
            if not found and wish.place.speaks_resp:
                whole = Evidence(trouble=f"{wish.place.address} did not answer within {WITHIN_S:g} s")
            self._found[wish.subject] = (self._now(), wish.looks, whole)

    def _is_fresh(self, wish: Wish) -> bool:
        found = self._found.get(wish.subject)
        return found is not None and wish.looks <= found[1] and 0 <= self._now() - found[0] < AGAIN_S

    def _forget_old(self) -> None:
        now = self._now()
        for kept in (self._found, self._times):
            for subject in [subject for subject, entry in kept.items() if not 0 <= now - entry[0] <= KEPT_S]:
                del kept[subject]

    async def _look(self, wish: Wish, found: list[Evidence]) -> None:
        """One look after the other: what the later ones do to the node must not show in the first one's times."""
        if not wish.place.speaks_resp:  # Memcached tells nothing of the kind
            return
        looks: dict[Look, Callable[[Wish], Awaitable[Evidence]]] = {
            Look.COMMANDS: self._commands,
            Look.CLIENTS: self._clients,
            Look.KEYS: self._keys,
        }
        for kind, look in looks.items():
            if kind in wish.looks:
                try:
                    found.append(await look(wish))
                except WorldError as error:
                    found.append(Evidence(trouble=str(error)))
        if Look.COMMANDS in wish.looks and not any(evidence.trouble for evidence in found):
            with suppress(WorldError):
                self._times[wish.subject] = (self._now(), await self._stats(wish.place))

    async def _commands(self, wish: Wish) -> Evidence:
        kept = self._times.get(wish.subject)
        if kept is None:
            kept = (self._now(), await self._stats(wish.place))
            await asyncio.sleep(_COMMANDS_OVER_S)
        (since, before), at, after = kept, self._now(), await self._stats(wish.place)
        if before.get("run_id") == after.get("run_id"):
            commands = of_users(command_times(before, after), at - since)
            if commands:
                return Evidence(commands=commands, commands_over_s=at - since)
        return Evidence(commands=of_users(command_times({}, after), _uptime_s(after), with_looks=True))

    async def _stats(self, place: Place) -> Mapping[str, str]:
        fields = await self._meter.read(place)
        return {name: value for name, value in fields.items() if name.startswith("cmdstat_") or name in _KEPT_FIELDS}

    async def _keys(self, wish: Wish) -> Evidence:
        return Evidence(keys=await self._examiner.sample_keys(wish.place, most=_KEYS, within_s=_KEYS_WITHIN_S))

    async def _clients(self, wish: Wish) -> Evidence:
        return Evidence(clients=await self._examiner.clients_by_address(wish.place))


def _uptime_s(fields: Mapping[str, str]) -> float:
    """As long as it was not told, all that may be ours is taken for ours."""
    text = fields.get("uptime_in_seconds", "")
    return float(text) if text.isdecimal() else float("inf")


def merged(parts: Collection[Evidence]) -> Evidence:
    """What several looks at one node found, as one."""
    whole = Evidence()
    for part in parts:
        whole = replace(
            whole,
            commands=part.commands or whole.commands,
            commands_over_s=part.commands_over_s if part.commands else whole.commands_over_s,
            keys=part.keys or whole.keys,
            clients=part.clients or whole.clients,
            trouble=whole.trouble or part.trouble,
        )
    return whole
