"""Moves slots between primaries key by key, before Valkey 9. Used by engine.admin; keys by engine.migrate_keys.

Of each slot: IMPORTING at the target, MIGRATING at the source, its keys, then NODE at the target, at the source, and at
the others. In this order a key can be found at every moment by who asks at the source, and broken off anywhere the
slots are as they were, half moved, or moved: called again, those half moved come first. The flags of a node that
became a primary meanwhile may be lost (before Valkey 8 replicas do not know them); they are set again.

Many slots are on their way at once: from Valkey 8 on SETSLOT waits for the replicas, milliseconds each, and holds up
its connection only. So there are many connections. Who owns a slot the target tells all others itself (PONG to all);
older engines, where it costs nothing, are told besides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from libvalkey import ReplyError

from cachekeep.codec.cluster_nodes import parse_cluster
from cachekeep.codec.info import count_keys, parse_info
from cachekeep.domain.nodes import Address, ClusterFacts, Role
from cachekeep.domain.slots import Slots, numbers_of, ranges_of, slots_text
from cachekeep.domain.world import WorldError
from cachekeep.engine.access import OPEN, Access
from cachekeep.engine.line import Line, LineError, Words
from cachekeep.engine.migrate_keys import Pace, first_keys, migrate_keys

_BUDGET_S = 1.0
_BATCH = 64
# SETSLOTs at once where each waits for replicas, and MIGRATEs at once.
_LANES = 64
_FEW_LANES = 2
_WORKERS = 2
_CONNECT_S = 1.0
_ANSWER_S = 3.0


@dataclass
class Move:
    """The two ends and their connections. lanes: as many at each end; the first is for questions."""

    source_id: str
    target_id: str
    source: list[Line]
    target: list[Line]
    pace: Pace
    waits: bool
    """SETSLOT waits for replicas."""
    others: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """What is to be done with each slot. ended: the target owns it, the source does not know. elsewhere: neither
    owns it, or it is half moved to a third node."""

    ended: tuple[int, ...]
    to_move: tuple[int, ...]
    elsewhere: tuple[int, ...]


async def move_slots(
    address: Address,
    slots: Slots,
    source_id: str,
    target: Address,
    target_id: str,
    others: Sequence[Address],
    access: Access = OPEN,
) -> None:
    """See EngineAdmin.move_slots. Raises WorldError when an end refuses or does not answer, and for slots that the
    source does not own, once the others are moved."""
    deadline = asyncio.get_running_loop().time() + _BUDGET_S
    async with contextlib.AsyncExitStack() as stack:
        source_lines, target_lines = [await _open(stack, address, access)], [await _open(stack, target, access)]
        source_facts, target_facts = await asyncio.gather(
            _facts(source_lines[0], source_id), _facts(target_lines[0], target_id)
        )
        work = divide(numbers_of(slots), source_facts, target_facts)
        move = await _move(source_lines, target_lines, source_id, target_id)
        lanes = _LANES if move.waits else _FEW_LANES
        for lines in (source_lines, target_lines):
            more = min(lanes, max(_WORKERS, len(work.to_move))) - len(lines)
            lines += await asyncio.gather(*(_open(stack, lines[0].address, access) for _ in range(more)))
        if not move.waits:
            move.others = [line async for line in _reachable(stack, others, access)]
        await _end(move, work.ended, source_facts, target_facts)
        await _tell_owner(move, work.to_move, target_facts)
        for at in range(0, len(work.to_move), _BATCH):
            if asyncio.get_running_loop().time() >= deadline:
                break
            await _move_batch(move, work.to_move[at : at + _BATCH], target, deadline)
    if work.elsewhere:
        named = slots_text(ranges_of(work.elsewhere))[:100]
        raise WorldError(f"{address} does not own slots {named}, or they are half moved to a third node")


def divide(slots: frozenset[int], source: ClusterFacts, target: ClusterFacts) -> Work:
    """What is left to be done, by what the two ends say of themselves. Half moved ones first. Pure.

    A slot that is on its way to a third node is not touched while that node lives: some of its keys are there.
    """
    owned, there = numbers_of(source.slots), numbers_of(target.slots)
    exporting, importing = dict(source.exporting), dict(target.importing)
    living = {
        peer.id for peer in source.peers if peer.role is Role.PRIMARY and not peer.failed and not peer.handshake
    } - {target.id}
    ended = [slot for slot in slots & there if slot in owned or slot in exporting or slot in importing]
    mine = [slot for slot in (slots & owned) - there if exporting.get(slot) not in living]
    mine.sort(key=lambda slot: (slot not in exporting and slot not in importing, slot))
    return Work(tuple(sorted(ended)), tuple(mine), tuple(sorted(slots - there - set(mine))))


async def _open(stack: contextlib.AsyncExitStack, address: Address, access: Access) -> Line:
    line = await Line.connect(address, _CONNECT_S, access)
    stack.callback(line.close)
    return line


async def _reachable(
    stack: contextlib.AsyncExitStack, addresses: Sequence[Address], access: Access
) -> AsyncIterator[Line]:
    for address in addresses:
        with contextlib.suppress(LineError):  # gossip will tell it
            yield await _open(stack, address, access)


async def _facts(line: Line, node_id: str) -> ClusterFacts:
    nodes, info = await line.must(("CLUSTER", "NODES"), ("CLUSTER", "INFO"), timeout_s=_ANSWER_S)
    try:
        facts = parse_cluster(nodes.decode(), info.decode())
    except ValueError as error:
        raise WorldError(f"{line.address}: {error}") from error
    if facts.id != node_id:
        raise WorldError(f"{line.address} is the node {facts.id} and not {node_id}")
    return facts


async def _move(source: list[Line], target: list[Line], source_id: str, target_id: str) -> Move:
    info = parse_info((await source[0].must(("INFO",), timeout_s=_ANSWER_S))[0].decode("utf-8", "replace"))
    pace = Pace.of(int(info.get("used_memory_dataset", "0")), count_keys(info))
    return Move(source_id, target_id, source, target, pace, waits="valkey_version" in info)


async def _end(move: Move, slots: Sequence[int], source: ClusterFacts, target: ClusterFacts) -> None:
    """The target owns them: end what is left of moving them. A source that still holds keys of one refuses; it drops
    them when gossip tells it."""
    owned, importing, exporting = numbers_of(source.slots), dict(target.importing), dict(source.exporting)
    await _set(move.target, [(slot, ("STABLE",)) for slot in slots if slot in importing])
    await _set(move.source, [(slot, ("NODE", move.target_id)) for slot in slots if slot in owned])
    await _set(move.source, [(slot, ("STABLE",)) for slot in slots if slot in exporting and slot not in owned])


async def _tell_owner(move: Move, slots: Sequence[int], target: ClusterFacts) -> None:
    """A target that takes a slot before it has heard whose that is never hears it: no gossip changes the owner of a
    slot that is IMPORTING (cluster.c, clusterUpdateSlotsConfigWith), and without one it refuses the keys, for ever."""
    known = next((numbers_of(peer.slots) for peer in target.peers if peer.id == move.source_id), frozenset())
    await _set(move.target, [(slot, ("NODE", move.source_id)) for slot in slots if slot not in known])


async def _move_batch(move: Move, slots: Sequence[int], target: Address, deadline: float) -> None:
    """Move the slots, or as much of them as the time allows. Raises WorldError with the first that was refused."""
    refused: list[WorldError] = []
    taken = await _set(move.target, [(slot, ("IMPORTING", move.source_id)) for slot in slots], refused)
    given = await _set(move.source, [(slot, ("MIGRATING", move.target_id)) for slot in taken], refused)
    empty = await _move_keys(move, given, target, deadline)
    owned = await _set(move.target, [(slot, ("NODE", move.target_id)) for slot in empty], refused)
    await _set(move.source, [(slot, ("NODE", move.target_id)) for slot in owned], refused)
    for line in move.others:
        await _set([line], [(slot, ("NODE", move.target_id)) for slot in owned])
    if refused:
        raise refused[0]


async def _set(
    lines: Sequence[Line], slots: Sequence[tuple[int, tuple[str, ...]]], refused: list[WorldError] | None = None
) -> list[int]:
    """CLUSTER SETSLOT for each, spread over the connections. Those that were done; what was refused goes to the list.

    Without a list errors do not matter, and a dropped connection neither.
    """
    sent = []
    for number, line in enumerate(lines):
        share = slots[number :: len(lines)]
        if share:
            commands: list[Words] = [("CLUSTER", "SETSLOT", slot, *how) for slot, how in share]
            sent.append((line, share, line.send(*commands)))
    done = []
    for line, share, answers in sent:
        try:
            replies = await line.answer(answers, _ANSWER_S)
        except LineError:
            if refused is None:
                continue
            raise
        for (slot, how), reply in zip(share, replies, strict=True):
            if not isinstance(reply, ReplyError):
                done.append(slot)
            elif refused is not None:
                refused.append(WorldError(f"{line.address} refused SETSLOT {slot} {how[0]}: {reply}"))
    return done


async def _move_keys(move: Move, slots: Sequence[int], target: Address, deadline: float) -> list[int]:
    """The slots of which no key is left at the source. Raises WorldError."""
    if not slots:
        return []
    waiting = list(zip(slots, await first_keys(move.source[0], slots, move.pace), strict=True))
    empty = [slot for slot, keys in waiting if not keys]
    waiting = [(slot, keys) for slot, keys in waiting if keys]

    async def work(source: Line, probe: Line) -> None:
        while waiting:
            slot, keys = waiting.pop()
            if await migrate_keys(source, probe, target, slot, move.pace, deadline, keys):
                empty.append(slot)

    pairs = list(zip(move.source, move.target, strict=False))[:_WORKERS]
    results = await asyncio.gather(*(work(*pair) for pair in pairs), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return empty
