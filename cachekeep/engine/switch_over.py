"""Hands the primary's role to a replica without losing a write (cluster mode disabled). Used by engine.admin.

Writes wait at the old primary (CLIENT PAUSE ... WRITE: nothing is written, expired or evicted there) until the
successor has applied everything up to the offset read after that. The old one gives up its addresses, and the clients
that came in by them are cut, so that none is left who could write there once the pause is over, whatever happens to
this process. The successor is promoted and takes the addresses, and the old one follows it. Clients connect anew.

At every moment at most one of the two takes writes: the successor's are paused before it is promoted, and go on only
when the old one has been demoted or is gone. Hence what is left when the service dies in between:

| last done | left behind | right way on |
|---|---|---|
| pause | as before; writes go on by themselves after ten seconds | nothing |
| addresses given up | one primary, without them | bind them there again |
| successor promoted | two primaries of equal data, neither with the addresses | demote either |
| addresses taken | two primaries, the successor with the addresses | demote the old one |
| old one demoted | as it shall be; writes go on by themselves | nothing |

So of two primaries the one that listens on the endpoint is right.

No replica is told to synchronise before the addresses have moved. While an engine forks for that, its child holds the
listening sockets for a moment; a CONFIG SET bind that comes just then fails, and so does the engine's attempt to listen
where it did: 6.2 dies of it, newer ones are deaf until they are told again on a connection that they have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass

from libvalkey import ReplyError

from cachekeep.codec.info import parse_info
from cachekeep.domain.nodes import Address
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access
from cachekeep.engine.line import Line, LineError, Words, check, endpoints_of

# The pause outlasts all that may come before it is lifted. After _LATE_S nothing is begun that must end before that.
_PAUSE_MS = 10_000
_LATE_S = 4.0
_READY_S = 3.0
_CATCH_UP_S = 3.0
_DEMOTE_S = 2.0
_UNDO_S = 1.0
_ANSWER_S = 1.0
_BIND_S = 0.5
_POLL_S = 0.0002
# So far behind, a successor would be waited for while nobody can write.
_CLOSE_BYTES = 256 * 1024
# A paused primary adds only PINGs and requests for acknowledgement to its stream.
_IDLE_BYTES = 4096
_PAUSE: Words = ("CLIENT", "PAUSE", _PAUSE_MS, "WRITE")
UNPAUSE: Words = ("CLIENT", "UNPAUSE")
_ROLE: Words = ("ROLE",)


@dataclass
class Side:
    """One of the two: its connection, what it listened on before, what it is to listen on, and what it does now."""

    line: Line
    bound: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    now: tuple[str, ...] = ()

    @property
    def address(self) -> Address:
        return self.line.address

    @property
    def follow(self) -> Words:
        """The command that makes the other one follow this one."""
        return ("REPLICAOF", self.address.host, self.address.port)


async def switch_over(
    address: Address,
    successor: Address,
    binds: Sequence[str],
    successor_binds: Sequence[str],
    given_up: Collection[str],
    access: Access = OPEN,
) -> None:
    """See EngineAdmin.switch_over. Takes a few milliseconds, at most about eight seconds.

    When it raises, the roles are as they were; those of an engine that does not answer will be when it wakes up.
    """
    old = new = None
    try:
        old = await _side(address, binds, access)
        new = await _side(successor, successor_binds, access)
        await _until_close(old, new)
        late = asyncio.get_running_loop().time() + _LATE_S
        try:
            await pause_until_equal(old, new)
            await _check_faithful(new)
        except BaseException:
            # Also when there was no answer: it is carried out behind the pause, whenever that is.
            await _to_its_end(tell(old, UNPAUSE))
            raise
        await _to_its_end(_hand_over(old, new, given_up, late))
    finally:
        for side in (old, new):
            if side is not None:
                side.line.close()


async def _side(address: Address, binds: Sequence[str], access: Access) -> Side:
    line = await Line.connect(address, _ANSWER_S, access)
    try:
        pair = (await line.must(("CONFIG", "GET", "bind"), timeout_s=_ANSWER_S))[0]
    except BaseException:
        line.close()
        raise
    bound = tuple(pair[1].decode().split())
    return Side(line, bound, tuple(binds), bound)


async def _until_close(old: Side, new: Side) -> None:
    """Check that they are primary and replica of one history, and wait until the replica is nearly there.

    It must have applied what was written when it was first asked, too: before Valkey 8 a primary sends nothing to a
    replica that has just synchronised until it acknowledges, up to a second later, and that is no time for a pause.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_S
    since: int | None = None
    while True:
        reason, written, applied = await _compared(old, new)
        since = written if since is None else since
        if reason is None and applied < since:
            reason = f"it has not applied anything of the last {since - applied:,} bytes yet"
        if reason is None:
            return
        if loop.time() > deadline:
            raise WorldError(f"{new.address} is not ready to take over from {old.address}: {reason}")
        await asyncio.sleep(0.01)


async def _compared(old: Side, new: Side) -> tuple[str | None, int, int]:
    """Why it is not ready, in words (None when it is), what is written here, and what is applied there.

    Raises WorldError when waiting would not help.
    """
    mine, its = await asyncio.gather(
        *(side.line.must(("INFO", "replication"), timeout_s=_ANSWER_S) for side in (old, new))
    )
    primary, replica = parse_info(mine[0].decode()), parse_info(its[0].decode())
    if primary.get("role") != "master":
        raise WorldError(f"{old.address} is not a primary and has nothing to hand over")
    if replica.get("role") != "slave":
        raise WorldError(f"{new.address} is not a replica and cannot take over from {old.address}")
    written, applied = int(primary.get("master_repl_offset", "0")), int(replica.get("slave_repl_offset", "0"))
    reason = None
    if replica.get("master_link_status") != "up" or replica.get("master_sync_in_progress") == "1":
        reason = "it is not linked to its primary"
    elif replica.get("master_replid") != primary.get("master_replid"):
        reason = "it follows another history"
    elif written - applied > _CLOSE_BYTES:
        reason = f"it is {written - applied:,} bytes behind"
    return reason, written, applied


async def pause_until_equal(old: Side, new: Side) -> None:
    """Pause writes at the old one and wait until the successor has applied what is written there.

    Raises WorldError; the caller lifts the pause.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CATCH_UP_S
    _, role = await old.line.must(_PAUSE, _ROLE, timeout_s=_ANSWER_S)
    frozen = wanted = _offset(old, role, b"master")
    while True:
        left_s = deadline - loop.time()
        ours = old.line.send(_ROLE)
        applied = _offset(new, (await new.line.ask(_ROLE, timeout_s=left_s))[0], b"slave")
        wanted = _offset(old, (await old.line.answer(ours, left_s))[0], b"master")
        if wanted > frozen + _IDLE_BYTES:
            raise WorldError(f"{old.address} takes writes although they are paused; did somebody else lift the pause?")
        if applied >= wanted:
            return
        if left_s <= 0:
            raise WorldError(
                f"{new.address} did not catch up with {old.address} within {_CATCH_UP_S:g} s: "
                f"{wanted - applied:,} bytes are missing; {old.address} stays the primary"
            )
        await asyncio.sleep(_POLL_S)


async def _check_faithful(new: Side) -> None:
    """Offsets count commands that the successor did not know, too: an older engine may be equal and yet no copy."""
    info = parse_info((await new.line.must(("INFO", "stats"), timeout_s=_ANSWER_S))[0].decode())
    if (failed := info.get("unexpected_error_replies", "0")) != "0":
        raise WorldError(f"{new.address} could not carry out {failed} of the commands it received: it is no copy")


def _offset(side: Side, reply: object, role: bytes) -> int:
    """The offset in ROLE's answer: written by a primary, applied by a replica. Raises WorldError in another role."""
    check(side.address, _ROLE, reply)
    if not isinstance(reply, list) or reply[0] != role or (role == b"slave" and reply[3] != b"connected"):
        raise WorldError(f"{side.address} changed its role meanwhile: {reply!r}"[:200])
    return int(reply[1] if role == b"master" else reply[4])


async def _hand_over(old: Side, new: Side, given_up: Collection[str], late: float) -> None:
    """Everything once they are equal. Either it goes through or it is undone."""
    kept = tuple(host for host in old.binds if host in old.bound) or old.binds
    try:
        await _listen(old, kept)
        if kills := _kills(old, given_up):
            # Now, not in the end: whatever happens to this process from here on, nobody is left who could write there.
            await old.line.must(*kills, timeout_s=_ANSWER_S)
        if asyncio.get_running_loop().time() > late:
            raise WorldError(f"{old.address} took too long to hand over to {new.address}; it stays the primary")
        await new.line.must(_PAUSE, ("REPLICAOF", "NO", "ONE"), timeout_s=_ANSWER_S)
        await _listen(new, new.binds)
        gone = await _demote(old, new)
        await tell(new, UNPAUSE)
        if await _is_gone(new):
            raise WorldError(f"{new.address} ended when it had just taken over from {old.address}")
    except WorldError:
        await _undo(old, new)
        raise
    if not gone:
        await tell(old, UNPAUSE)
        await _listen(old, old.binds)  # what the successor held until now
    if lost := [host for host in new.bound if host not in new.binds]:
        await tell(new, *_kills(new, lost))


async def _demote(old: Side, new: Side) -> bool:
    """Make the old primary follow the successor. True when it is gone instead.

    Raises WorldError when it refuses, or does not answer while its pause lasts: it may take writes again then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _DEMOTE_S
    while True:
        try:
            await old.line.must(new.follow, timeout_s=deadline - loop.time())
        except LineError:
            if loop.time() >= deadline:
                raise
        else:
            return False
        if await _is_gone(old):
            return True
        await asyncio.sleep(_POLL_S)


async def _undo(old: Side, new: Side) -> None:
    """All as it was: addresses first, then the successor, which wrote nothing, and only then the old one takes writes.

    One that does not answer does it when it wakes up: it stands behind the other commands of its connection.
    """
    for side in (new, old):
        with contextlib.suppress(WorldError):
            if not await _is_gone(side):
                await _listen(side, side.bound)
    await tell(new, old.follow, UNPAUSE)
    await tell(old, ("REPLICAOF", "NO", "ONE"), UNPAUSE)


async def _listen(side: Side, hosts: tuple[str, ...]) -> None:
    """CONFIG SET bind where it is not so; again for a moment while somebody holds an address. Raises WorldError."""
    if hosts == side.now:
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _BIND_S
    command = ("CONFIG", "SET", "bind", " ".join(hosts))
    side.now = ()
    while isinstance(reply := (await side.line.ask(command, timeout_s=_ANSWER_S))[0], ReplyError):
        if "Failed to bind" not in str(reply) or loop.time() > deadline:
            break
        await asyncio.sleep(_POLL_S)
    check(side.address, command, reply)
    side.now = hosts


def _kills(side: Side, hosts: Collection[str]) -> list[Words]:
    """The connections that came in by these; such an address may be listened on elsewhere now."""
    return [("CLIENT", "KILL", "LADDR", at) for at in endpoints_of(hosts, side.address.port)]


async def tell(side: Side, *commands: Words) -> None:
    """Send, and wait for the answers a moment; whatever they are, the next look shows what came of it."""
    if await _is_gone(side):
        return
    with contextlib.suppress(LineError):
        await side.line.ask(*commands, timeout_s=_UNDO_S)


async def _is_gone(side: Side) -> bool:
    """Nobody listens at its address any more. Connects anew where the connection was dropped."""
    if not side.line.lost:
        return False
    try:
        side.line = await Line.connect(side.address, _UNDO_S, side.line.access)
    except LineError as error:
        return isinstance(error.__cause__, ConnectionRefusedError)
    return False


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Await work even when cancelled meanwhile; it ends by itself within seconds. Raises CancelledError then."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
