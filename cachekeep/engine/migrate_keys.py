"""Moves the keys of one slot from its owner to another node (MIGRATE), before Valkey 9. Used by engine.move_slots.

A key that both have: while a slot is MIGRATING its owner serves every key that it has, and sends clients on to the
other node for those it has not. So the owner's copy is the truth, and the other one is what a MIGRATE left that broke
off between writing there and deleting here. It is overwritten (REPLACE) only after MIGRATE refused it as there already,
and after the other node has answered since: otherwise the late request of a MIGRATE that broke off could come in
behind the new one and put an old value over it.

MIGRATE keeps the owner from serving anybody until the other node has answered, so what one takes is bounded by its
measured time; a key too big for the usual time is moved alone, with a time of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libvalkey import ReplyError

from cachekeep.domain.nodes import Address
from cachekeep.engine.line import Line, check

_KEYS_AT_ONCE = 100
_START_BYTES = 128 * 1024
_LONG_S = 0.04
_SHORT_S = 0.01
# If the target hangs, the source serves nobody for as long, times those that run at once.
_USUAL_MS = 1_000
_SLOWEST_BYTES_PER_MS = 10_000
_MOST_MS = 60_000
_ANSWER_S = 4.0


@dataclass
class Pace:
    """How many keys one MIGRATE takes; shared by all that run."""

    keys: int

    @classmethod
    def of(cls, used_bytes: int, keys: int) -> Pace:
        """By the average size of the source's keys."""
        average = max(1, used_bytes // max(1, keys))
        return cls(min(_KEYS_AT_ONCE, max(1, _START_BYTES // average)))

    def took(self, seconds: float) -> None:
        if seconds > _LONG_S:
            self.keys = max(1, self.keys // 2)
        elif seconds < _SHORT_S:
            self.keys = min(_KEYS_AT_ONCE, self.keys * 2)


async def migrate_keys(
    source: Line, target: Line, address: Address, slot: int, pace: Pace, deadline: float, first: Sequence[bytes] | None
) -> bool:
    """Move the slot's keys; True when none is left at the source, False when the deadline (loop time) came first.

    address: the target's. first: keys of the slot if some are known. Raises WorldError.
    """
    loop = asyncio.get_running_loop()
    keys = await _keys_in(source, slot, pace) if first is None else first
    replace = False
    while keys:
        if loop.time() >= deadline:
            return False
        begun = loop.time()
        sent = source.send(_migrate(target, address, keys, _USUAL_MS, replace=replace), _keys_command(slot, pace))
        moved, left = await source.answer(sent, _ANSWER_S)
        pace.took(loop.time() - begun)
        if isinstance(moved, ReplyError):
            # Before anything is overwritten: two answers, so that whatever it was sent earlier is behind it.
            for _ in range(2):
                await target.must(("PING",), timeout_s=1.0)
            if str(moved).startswith("IOERR"):
                await _one_by_one(source, target, address, keys)
            elif "BUSYKEY" not in str(moved) or replace:
                check(source.address, ("MIGRATE", str(address)), moved)
            replace = True
            left = await _keys_in(source, slot, pace)
        else:
            check(source.address, _keys_command(slot, pace), left)
        keys = left
    return True


async def _one_by_one(source: Line, target: Line, address: Address, keys: Sequence[bytes]) -> None:
    """For keys that were not moved in the usual time by a target that lives: each alone, with a time by its size."""
    for key in keys:
        size = (await source.must(("MEMORY", "USAGE", key), timeout_s=_ANSWER_S))[0]
        if size is None:
            continue
        limit_ms = min(_MOST_MS, _USUAL_MS + int(size) // _SLOWEST_BYTES_PER_MS)
        command = _migrate(target, address, [key], limit_ms, replace=True)
        reply = (await source.ask(command, timeout_s=limit_ms / 1000 + _ANSWER_S))[0]
        # Not the command itself: it holds the service's password.
        check(source.address, ("MIGRATE", str(address)), reply)


def _migrate(target: Line, address: Address, keys: Sequence[bytes], limit_ms: int, *, replace: bool) -> tuple[Any, ...]:
    option = ("REPLACE",) if replace else ()
    # As whom we are there ourselves. Engines keep it out of SLOWLOG and MONITOR.
    login = ("AUTH2", *target.access.words[1:]) if target.logged_in else ()
    return ("MIGRATE", address.host, address.port, "", 0, limit_ms, *option, *login, "KEYS", *keys)


def _keys_command(slot: int, pace: Pace) -> tuple[Any, ...]:
    return ("CLUSTER", "GETKEYSINSLOT", slot, pace.keys)


async def _keys_in(source: Line, slot: int, pace: Pace) -> list[bytes]:
    found: list[bytes] = (await source.must(_keys_command(slot, pace), timeout_s=_ANSWER_S))[0]
    return found


async def first_keys(source: Line, slots: Sequence[int], pace: Pace) -> list[list[bytes]]:
    """Keys of each slot, in one exchange. Raises WorldError."""
    return await source.must(*(_keys_command(slot, pace) for slot in slots), timeout_s=_ANSWER_S)
