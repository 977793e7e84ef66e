"""What lanes cannot see in cluster mode: slots that were on the move while they read. Called by backup.copy.

A slot whose owner is not the one it was read from, or that was being moved, is read again from its present owner into
segments at the end, where the last record of a key wins: so nothing is lost, and nothing doubled for a reader. That
is repeated until nothing moved during a pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.copy_run import Run, in_threads, take, wanted_databases
from cachekeep.backup.copy_segments import Segments
from cachekeep.backup.interruptions import Patience, now_ms
from cachekeep.backup.scan import ScanBatch, batches_of, scan_batches
from cachekeep.backup.survey_types import Node
from cachekeep.backup.topology import Owner, Topology, slots_to_read_again, topology
from cachekeep.codec.resp import pack
from cachekeep.codec.slots import slot_of
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault

_FEW_SLOTS = 500
_FEW_KEYS = 10_000
_BETWEEN_S = 0.2
_CHECK_S = 0.5


def watched_topology(run: Run, known: Topology) -> Topology:
    """How it is now, waiting for nodes that are gone. Raises RemoteError, Halted."""
    addresses = [(owner.host, owner.port) for owner in known.owners]
    try:
        return topology(run.remote, addresses)
    except RemoteError as error:
        patience = Patience("topology", run.options.patience_s, run.halt, run.journal)
        return patience.outlast(error, lambda: topology(run.remote, addresses))


def asks_whether_left(run: Run, known: Topology) -> Callable[[Node], bool]:
    """A question for lanes: has this node no slots any more? Looked up every half second at most."""
    answers: dict[str, tuple[float, bool]] = {}

    def left(node: Node) -> bool:
        asked_at, answer = answers.get(node.lane, (float("-inf"), False))
        if time.monotonic() - asked_at > _CHECK_S:
            try:
                now = topology(run.remote, [(owner.host, owner.port) for owner in known.owners])
                answer = all(
                    (owner.host, owner.port) != (node.host, node.port) or not owner.slots for owner in now.owners
                )
            except RemoteError:
                answer = False  # nobody knows: the lane waits for its node
            answers[node.lane] = time.monotonic(), answer
        return answer

    return left


def read_moved_slots(run: Run, before: Topology) -> tuple[Topology, list[Gap]]:
    """Passes until the topology was at rest during one: that topology. A gap when that outlasts the patience."""
    start_ms, deadline = now_ms(), time.monotonic() + run.options.patience_s
    now = watched_topology(run, before)
    again = slots_to_read_again(before, now) | _taken(run.moved)
    while again:
        run.tally.phase("slots that moved")
        run.journal.event("slots-read-again", slots=ranges(again))
        _read_slots(run, now, again)
        later = watched_topology(run, now)
        again = slots_to_read_again(now, later) | _taken(run.moved)
        now = later
        if again and time.monotonic() > deadline:
            reason = (
                f"slots {ranges(again)} were on the move until the end: keys there may be missing or old; copy again"
                " when the reshard is done (CLUSTER NODES shows it)"
            )
            return now, [Gap(start_ms=start_ms, end_ms=None, reason=reason)]
        if again:
            run.halt.wait(_BETWEEN_S)
    return now, []


def ranges(slots: set[int]) -> str:
    """`0-5460, 7000`; long ones are cut."""
    spans: list[list[int]] = []
    for slot in sorted(slots):
        if spans and spans[-1][1] == slot - 1:
            spans[-1][1] = slot
        else:
            spans.append([slot, slot])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    return ", ".join(texts[:20]) + (f" and {len(texts) - 20} more ranges" if len(texts) > 20 else "")


def _taken(moved: set[int]) -> set[int]:
    found = set(moved)
    moved.difference_update(found)
    return found


def _read_slots(run: Run, now: Topology, slots: set[int]) -> None:
    """Each slot from every node that claims it: while it is on the move both may have keys of it."""
    work = []
    for owner in now.owners:
        claimed = {slot for first, last in owner.slots for slot in range(first, last + 1)} & slots
        if claimed:
            work.append(partial(_read_owner, run, owner, claimed))
    in_threads(run, work)


def _read_owner(run: Run, owner: Owner, slots: set[int]) -> None:
    node = Node(owner.host, owner.port, "")
    start_ms = now_ms()
    try:
        with run.connect(node) as connection:
            databases = wanted_databases(connection, run)
        for db in sorted(databases):
            with run.connect(node, db) as connection, Segments(run, "changes", owner.lane, db) as segments:
                for batch in _batches(run, connection, db, slots):
                    take(run, db, batch)
                    segments.add(batch.records)
                    segments.roll()
                    run.halt.check()
                segments.close(None)
    except RemoteError as error:
        if error.fault is not RemoteFault.UNREACHABLE:
            raise
        run.journal.interruption(owner.lane, start_ms, now_ms(), error.what)
        run.moved.update(slots)  # another pass: whoever has them then


def _batches(run: Run, connection: Connection, db: int, slots: set[int]) -> Iterator[ScanBatch]:
    """The keys of some slots: named by the node where they are few, else found by a scan of all."""
    options, journal = run.options, run.journal
    keys = None if options.match is not None or len(slots) > _FEW_SLOTS else _keys_of(connection, sorted(slots))
    if keys is not None:
        yield from batches_of(
            connection,
            run.survey,
            keys,
            db=db,
            count=options.count,
            before_read=run.pace.take,
            on_note=journal.note,
        )
        return
    yield from scan_batches(
        connection,
        run.survey,
        db=db,
        match=options.match,
        count=options.count,
        wanted=lambda key: slot_of(key) in slots,
        before_read=run.pace.take,
        on_note=journal.note,
    )


def _keys_of(connection: Connection, slots: list[int]) -> list[bytes] | None:
    """None when they are too many to be named, or nobody tells."""
    connection.send(b"".join(pack("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots))
    counts = connection.receive(len(slots))
    if any(isinstance(count, Refusal) for count in counts) or sum(counts) > _FEW_KEYS:
        return None
    # Twice as many as there were: some may come meanwhile, and those that come later need not be in this copy.
    asked = [(slot, 2 * count + 100) for slot, count in zip(slots, counts, strict=True)]
    connection.send(b"".join(pack("CLUSTER", "GETKEYSINSLOT", slot, count) for slot, count in asked))
    keys: list[bytes] = []
    for reply in connection.receive(len(slots)):
        if isinstance(reply, Refusal):
            return None
        keys += reply
    return keys
