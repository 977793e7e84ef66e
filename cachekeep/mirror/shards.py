"""One group in cluster mode copied into another, shard by shard, and followed key by key. Called by mirror.regional.

Implements follow.crew.Crew for a lane to each primary of the source, as its slots and primaries change
(follow.cluster). As with mirror.mirror whatever makes it doubtful what the target has ends it (TargetLost); a shard of
the source that came back without its data is not copied from.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from cachekeep.backup.pacing import Halted
from cachekeep.backup.survey import survey
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.info import count_keys, parse_info
from cachekeep.codec.slots import slot_of
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault
from cachekeep.domain.slots import SLOTS
from cachekeep.follow.cluster import Cluster
from cachekeep.follow.crew import Member
from cachekeep.follow.homeless import Homeless
from cachekeep.follow.lane import Lane, slots_of
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.signals import Changed
from cachekeep.follow.types import FollowMethod
from cachekeep.mirror.crew import CLOSE_S, LAST_ROUND_S, CopyCrew
from cachekeep.mirror.target import Target


@dataclass(frozen=True)
class _Guard:
    """A connection that ends with the process of the source's node which it was made to."""

    connection: Connection
    run_id: str


class ShardMirror(CopyCrew):
    """run_ids: processes of the source that are, or were, copied from. held: lane -> why it is not copied from."""

    def __init__(self, source: Remote, own: Remote, run_ids: tuple[str, ...]) -> None:
        super().__init__(Target(own, self._still_same, self._pass_again))
        self.remote, self.run_ids = source, frozenset(run_ids)
        self.held: dict[str, str] = {}
        self.method: FollowMethod = "tracking"
        self.patterns: tuple[str, ...] = ()
        self.monitor = Monitor(self.method)
        self._cluster: Cluster | None = None
        self._lanes: dict[str, Lane] = {}
        self._left: list[Lane] = []
        self._homeless = Homeless(self._owner_of)
        self._guards: dict[str, _Guard] = {}
        # Lanes whose node came to slots that no other followed one gave: it may have been started anew without keys.
        self._doubted: set[str] = set()
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Look at both, and begin to copy. Raises RemoteError: of the source; TargetLost."""
        self.survey: Survey = survey(self.remote)
        self.target.open()
        self._cluster = Cluster(self.remote, self.survey, self.halt)
        for node in self._cluster.nodes():
            self._add(Lane(node, self))

    def close(self) -> None:
        """End its threads and connections; the target keeps what it has."""
        self.halt.set()
        with self._lock:
            lanes = [*self._lanes.values(), *self._left]
        for lane in lanes:
            lane.join(CLOSE_S)
        if self._cluster is not None:
            self._cluster.join()
        self.target.close()
        for guard in self._guards.values():
            guard.connection.close()

    def tick(self) -> None:
        """Follow the source's primaries and slots; to be called some times a second. Raises what ended a lane."""
        for lane in self._all():
            if lane.error is not None and not isinstance(lane.error, Halted):
                raise lane.error
        assert self._cluster is not None  # noqa: S101 - begun
        moves = self._cluster.moves(self._all())
        if moves is not None:
            held = {lane.name: slots_of(lane.node) for lane in self._all() if lane.connected}
            for lane in moves.left:
                with self._lock:
                    self._left.append(self._lanes.pop(lane.name))
                    self.held.pop(lane.name, None)
                lane.leave()
            for node in moves.joined:
                self._add(Lane(node, self))
            for lane, node in moves.changed:
                given = frozenset[int]().union(*(slots for name, slots in held.items() if name != lane.name))
                with self._lock:
                    if not slots_of(node) - slots_of(lane.node) <= given:
                        self._doubted.add(lane.name)
                    gained = lane.now_is(node)
                if gained:
                    lane.sweeps.want(self.target, "gap")
        self._homeless.bring_home()

    def why_not_whole(self) -> str:
        """Why it is not in sync, in words."""
        if self.held:
            return next(iter(self.held.values()))
        if self.target.refused:
            (db, key), why = next(iter(self.target.refused.items()))
            what = "functions" if db < 0 else f"key {key[:60]!r}"
            return f"{len(self.target.refused)} keys cannot be copied, such as {what}: {why}"
        troubles = [lane.trouble for lane in self._all() if not lane.connected]
        return next(filter(None, troubles), "") or "not every key was read yet, or changes wait to be written"

    def in_sync(self, without: frozenset[str] = frozenset(), *, whole: bool = True) -> bool:
        """Every key has arrived, and all that changes is heard of. without: lanes that are given up. whole: somebody
        has every slot."""
        lanes = [lane for lane in self._all() if lane.name not in without]
        return (
            (self.is_covered() or not whole)
            and not self.target.refused
            and not self._homeless
            and all(self._is_followed(lane) for lane in lanes)
        )

    def behind_s(self) -> float | None:
        """Seconds since the moment of which everything has arrived; None where it is not in sync."""
        if not self.in_sync():
            return None
        return max(0.0, max((lane.now_ms() - (lane.watermark_ms or 0) for lane in self._all()), default=0) / 1000)

    def is_covered(self) -> bool:
        """Somebody has every slot."""
        return sum(last - first + 1 for lane in self._all() for first, last in lane.node.slots) == SLOTS

    def mark(self) -> int:
        """This moment, by the clock that all lanes share."""
        return time.time_ns() // 1_000_000 + self.survey.clock_ahead_ms

    def away(self) -> frozenset[str]:
        """Lanes whose node does not answer, or is not copied from."""
        return frozenset(lane.name for lane in self._all() if not lane.connected)

    def has_all_of(self, mark: int, without: frozenset[str] = frozenset(), *, whole: bool = True) -> bool:
        """Whether the target has all that the source had acknowledged then. without: lanes that are given up."""
        assert self._cluster is not None  # noqa: S101 - begun
        lanes = [lane for lane in self._all() if lane.name not in without]
        passed = all((lane.watermark_ms or 0) > mark for lane in lanes)
        return passed and (self._cluster.looked_ms > mark or not whole) and self.in_sync(without, whole=whole)

    def end(self, without: frozenset[str] = frozenset()) -> None:
        """Read once more what was announced, and see that the target is what it was. Raises RemoteError, TargetLost."""
        lanes = [lane for lane in self._all() if lane.name not in without]
        connected = all(lane.connected for lane in lanes)
        for lane in lanes:
            lane.leave()
        for lane in lanes:
            lane.join(LAST_ROUND_S)
            if lane.error is not None:
                raise lane.error
        if not connected or not all(lane.done for lane in lanes) or self.target.refused or self._homeless:
            raise RemoteError(RemoteFault.UNREACHABLE, "the source went away at the end", "the copy begins anew")
        self.target.check()

    # What lanes see

    def came_back(self, lane: Member, lost_ms: int | None, reason: str) -> None:
        self._admit(lane.name)
        lane.sweeps.want(self.target, "gap")

    def elsewhere(self, lane: Member, keys: dict[Changed, float]) -> None:
        """To the lane that has their slots now; until it has read them nothing more has arrived."""
        assert self._cluster is not None  # noqa: S101 - begun
        self._cluster.look_soon()
        self._homeless.hand_on(lane, keys)

    def has_passed(self, moment_ms: int) -> bool:
        return not self._homeless and all((lane.watermark_ms or 0) > moment_ms for lane in self._all())

    def is_gone(self, lane: Member) -> bool:
        with self._lock:
            return self._lanes.get(lane.name) is not lane

    # Inside

    def _all(self) -> list[Lane]:
        with self._lock:
            return list(self._lanes.values())

    def _add(self, lane: Lane) -> None:
        with self._lock:
            self._lanes[lane.name] = lane
        lane.was_connected = True  # one that cannot be reached at first is waited for, too: it holds up no other
        lane.start()

    def _is_followed(self, lane: Lane) -> bool:
        mark = lane.watermark_ms
        return lane.connected and mark is not None and mark >= lane.swept_ms and not lane.sweeps.owes(self.target)

    def _owner_of(self, changed: Changed) -> Lane | None:
        assert self._cluster is not None  # noqa: S101 - begun
        name = self._cluster.owner_of(slot_of(changed[1]))
        with self._lock:
            return self._lanes.get(name or "")

    def _pass_again(self) -> None:
        for lane in self._all():
            lane.sweeps.want(self.target, "gap")

    def _still_same(self, name: str) -> None:
        """After reading, before writing: the process that was looked at is there still. Raises RemoteError otherwise;
        the lane then comes back, and the node is looked at again."""
        guard = self._guards.get(name)
        if guard is None or name in self._doubted:
            self._admit(name)
            return
        try:
            guard.connection.ask("PING")
        except (RemoteError, Refusal) as error:
            self._drop(name)
            raise RemoteError(RemoteFault.UNREACHABLE, f"{name} went away", "it is looked at again") from error

    def _drop(self, name: str) -> None:
        guard = self._guards.pop(name, None)
        if guard is not None:
            guard.connection.close()

    def _admit(self, name: str) -> None:
        """Whether the process that is at the node's address now may be copied from; raises RemoteError otherwise.

        One that was started anew may be asked before it is given its slots: it is told by them, so it is doubted again
        then, and known only once it has some.
        """
        with self._lock:
            lane = self._lanes.get(name)
            slots = lane.node.slots if lane is not None else ()
            doubted = name in self._doubted
            self._doubted.discard(name)
        if lane is None:
            raise RemoteError(RemoteFault.UNREACHABLE, f"{name} has left the group", "it is not asked again")
        try:
            self._admit_with(lane, slots, doubted=doubted)
        except RemoteError:
            if doubted:
                self._doubted.add(name)
            raise

    def _admit_with(self, lane: Lane, slots: tuple[tuple[int, int], ...], *, doubted: bool) -> None:
        name = lane.name
        self._drop(name)
        connection = self.remote.at(lane.node.host, lane.node.port).connect()
        try:
            info = parse_info(connection.ask("INFO").decode("utf-8", "replace"))
        except Refusal as refusal:
            connection.close()
            raise RemoteError(RemoteFault.UNREACHABLE, f"{name} refuses INFO: {refusal}", "") from refusal
        run_id, keys = info.get("run_id", ""), count_keys(info)
        mine = self.target.index.count_in(slots)
        if (doubted or run_id not in self.run_ids) and mine and keys * 2 < mine:
            connection.close()
            self.held[name] = f"{name} has been started anew with {keys} keys, and {mine} of its slots are here"
            raise RemoteError(RemoteFault.UNREACHABLE, self.held[name], "fail over to the copy, or disassociate it")
        self.held.pop(name, None)
        self._guards[name] = _Guard(connection, run_id)
        if slots:
            self.run_ids |= {run_id}
