"""Hands the primary's role to a replica in cluster mode without losing a write. Used by engine.admin.

CLUSTER FAILOVER first. It needs the votes of a majority of primaries, and engines before Valkey 8 refuse theirs for
two node timeouts after they voted about the same primary; until it is given up the old primary takes no writes. So
where it has not come through within a quarter of a second it is done without votes: writes paused at the old one,
offsets equal, TAKEOVER, and writes go on there once it knows that it is a replica.
"""

from __future__ import annotations

import asyncio

from cachekeep.domain.nodes import Address
from cachekeep.domain.world import WorldError
from cachekeep.engine.cluster import is_primary
from cachekeep.engine.line import Line
from cachekeep.engine.resp import must
from cachekeep.engine.switch_over import UNPAUSE, Side, pause_until_equal, tell
from cachekeep.engine.wire import Wire

_VOTED_S = 0.25
# An engine gives up a manual failover after five seconds.
_GIVEN_UP_S = 5.5
_LEARNT_S = 4.0
_ANSWER_S = 1.0
_POLL_S = 0.001


async def cluster_switch_over(wire: Wire) -> None:
    """See EngineAdmin.cluster_switch_over. wire: to the replica. Takes at most about ten seconds."""
    if await is_primary(wire, 0):
        return
    loop = asyncio.get_running_loop()
    given_up = loop.time() + _GIVEN_UP_S
    await must(wire, ("CLUSTER", "FAILOVER"))
    if await is_primary(wire, _VOTED_S):
        return
    try:
        await _without_votes(wire)
    except WorldError as error:
        # Only now is it sure that it does not become one after all.
        if not await is_primary(wire, given_up - loop.time()):
            raise WorldError(f"{wire.address} was not handed the primary's role: {error}") from error


async def _without_votes(wire: Wire) -> None:
    """Raises WorldError; before TAKEOVER with the roles as they were."""
    role = (await must(wire, ("ROLE",)))[0]
    if role[0] == "master":
        return
    old = new = None
    try:
        old = Side(await Line.connect(Address(role[1], int(role[2])), _ANSWER_S, wire.access))
        new = Side(await Line.connect(wire.address, _ANSWER_S, wire.access))
        try:
            await pause_until_equal(old, new)
        except BaseException:
            await tell(old, UNPAUSE)
            raise
        await _take_over(old, new)
    finally:
        for side in (old, new):
            if side is not None:
                side.line.close()


async def _take_over(old: Side, new: Side) -> None:
    """The votes may have come in just now: then it refuses, as a primary. Whoever does not know who is the primary
    stays paused, until the pause ends by itself."""
    taken, role = await new.line.ask(("CLUSTER", "FAILOVER", "TAKEOVER"), ("ROLE",), timeout_s=_ANSWER_S)
    if role[0] != b"master":
        await tell(old, UNPAUSE)
        raise WorldError(f"{new.address} did not take over: {taken}")
    await _learns(old)
    await tell(old, UNPAUSE)


async def _learns(old: Side) -> None:
    """Wait until the old primary knows that it is a replica now: the new one has told it on the bus."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LEARNT_S
    while (await old.line.must(("ROLE",), timeout_s=_ANSWER_S))[0][0] == b"master":
        if loop.time() >= deadline:
            raise WorldError(f"{old.address} does not learn who is the primary now; is its cluster bus cut off?")
        await asyncio.sleep(_POLL_S)
