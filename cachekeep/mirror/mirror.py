"""One source outside, copied into one group and followed key by key. Called by mirror.service; lanes are threads.

Implements follow.crew.Crew. Anything that makes it doubtful what the group has ends it (TargetLost), and it is begun
anew by a whole pass. A source that went away is waited for by its lane; what is there afterwards is looked at before
anything of it is written, so that one that lost its data does not take the group's along (plan.latch).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cachekeep.backup.pacing import Halted
from cachekeep.backup.survey import survey
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.info import count_keys, parse_info
from cachekeep.domain.migration import Migration, SourceFacts
from cachekeep.domain.remote import Connection, Refusal, Remote, RemoteError, RemoteFault
from cachekeep.follow.choose import Rung, ladder
from cachekeep.follow.crew import Member
from cachekeep.follow.lane import Lane
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.signals import Changed
from cachekeep.follow.types import FollowMethod
from cachekeep.mirror.crew import CLOSE_S, LAST_ROUND_S, CopyCrew
from cachekeep.mirror.target import Target, TargetLost
from cachekeep.plan.latch import has_its_data


@dataclass(frozen=True)
class Mark:
    """A moment by the source's clock: what had been acknowledged by then is to arrive. passes: that had ended."""

    moment_ms: int
    passes: int


class Mirror(CopyCrew):
    """run_id: of the process of the source that is copied; "" before it was ever asked. held: why it is not copied from
    again, in words; "" while it is.
    """

    def __init__(self, source: Remote, own: Remote, migration: Migration) -> None:
        super().__init__(Target(own, self._still_same, self._pass_again))
        self.remote, self._migration = source, migration
        self.run_id, self.held = migration.run_id, ""
        self.method: FollowMethod = "poll"
        self.patterns: tuple[str, ...] = ()
        self.monitor = Monitor(self.method)
        self._lane: Lane | None = None
        self._guard: Connection | None = None

    def begin(self) -> None:
        """Look at the source and the group; nothing is changed yet. Raises RemoteError: of the source; TargetLost."""
        self.survey: Survey = survey(self.remote)
        self._refuse_impossible(self.survey)
        rung = self._method(self.survey)
        self.method, self.patterns = rung.method, rung.patterns
        self.monitor = Monitor(rung.method)
        self.target.open()
        if not self._migration.clear and self.target.count():
            what = f"the cache has {self.target.count()} keys, and only ClearTargetCacheData deletes them"
            raise RemoteError(RemoteFault.DENIED, what, "start it with that")

    def start(self) -> None:
        """Begin to copy."""
        self._lane = Lane(self.survey.nodes[0], self)
        self._lane.start()

    def close(self) -> None:
        """End its threads and connections; the group keeps what it has."""
        self.halt.set()
        if self._lane is not None:
            self._lane.join(CLOSE_S)
        self.target.close()
        if self._guard is not None:
            self._guard.close()

    @property
    def trouble(self) -> str:
        """Why the source is not followed just now; "" while it is."""
        lane = self._lane
        return "" if lane is None or lane.connected else lane.trouble or "it is not connected yet"

    def in_sync(self) -> bool:
        """The group has every key, and all that changes is heard of. Raises what ended a lane."""
        return self.is_followed() and not self.target.refused

    def is_followed(self) -> bool:
        """Every key was read once, whether or not it could be written. Raises what ended a lane."""
        lane = self._lane
        if lane is None:
            return False
        if lane.error is not None and not isinstance(lane.error, Halted):
            raise lane.error
        mark = lane.watermark_ms
        if not lane.connected or mark is None:
            return False
        # Of polling every pass is one more; between passes it is as far as it can be.
        return self.method == "poll" or (mark >= lane.swept_ms and not lane.sweeps.owes(self.target))

    def mark(self) -> Mark:
        """Now. Where nothing is announced, another pass over all keys begins."""
        assert self._lane is not None  # noqa: S101 - begun
        mark = Mark(self._lane.now_ms(), self.monitor.status().passes)
        if self.method == "poll":
            self._lane.sweeps.want(self.target, "gap")
        return mark

    def has_all_of(self, mark: Mark) -> bool:
        """Whether the group has all that the source had acknowledged then. Raises what ended a lane."""
        assert self._lane is not None  # noqa: S101 - begun
        if not self.in_sync() or (self._lane.watermark_ms or 0) <= mark.moment_ms:
            return False
        polled = self.monitor.status().passes > mark.passes and not self._lane.sweeps.owes(self.target)
        return self.method != "poll" or polled

    def end(self) -> None:
        """Read once more what was announced, and see that the group is what it was. Raises RemoteError, TargetLost."""
        assert self._lane is not None  # noqa: S101 - begun
        connected = self._lane.connected
        self._lane.leave()
        self._lane.join(LAST_ROUND_S)
        if self._lane.error is not None:
            raise self._lane.error
        if not connected or not self._lane.done or self.target.refused:
            raise RemoteError(RemoteFault.UNREACHABLE, "the source went away at the end", "the copy begins anew")
        self.target.check()

    def why_not_whole(self) -> str:
        """Why it is not in sync, in words."""
        if self.held:
            return self.held
        if self.target.refused:
            (db, key), why = next(iter(self.target.refused.items()))
            what = "functions" if db < 0 else f"key {key[:60]!r} of database {db}"
            return f"{len(self.target.refused)} keys cannot be copied, such as {what}: {why}"
        return self.trouble or "not every key was read yet, or changes wait to be written"

    # What the lane sees

    def came_back(self, lane: Member, lost_ms: int | None, reason: str) -> None:
        self._admit()
        lane.sweeps.want(self.target, "gap")

    def elsewhere(self, lane: Member, keys: dict[Changed, float]) -> None:
        raise RemoteError(RemoteFault.FOREIGN, "the source went into cluster mode", "begin the migration anew")

    def has_passed(self, moment_ms: int) -> bool:
        return self._lane is not None and (self._lane.watermark_ms or 0) > moment_ms

    def is_gone(self, lane: Member) -> bool:
        return False

    # Inside

    def _pass_again(self) -> None:
        if self._lane is not None:
            self._lane.sweeps.want(self.target, "gap")

    def _still_same(self, lane: str) -> None:
        """After reading, before writing: the process that was looked at is there still, so that it was what was read.

        Raises RemoteError otherwise; the lane then comes back, and the source is looked at again.
        """
        if self._guard is None:
            self._admit()
            return
        try:
            self._guard.ask("PING")
        except (RemoteError, Refusal):
            self._guard.close()
            self._guard = None
            guard = self.remote.connect()  # a server with a short `timeout` cuts who has nothing to say
            if _facts(guard).run_id != self.run_id:
                guard.close()
                what = f"{self.remote.address} is another process than before"
                raise RemoteError(RemoteFault.UNREACHABLE, what, "it is looked at again") from None
            self._guard = guard

    def _admit(self) -> None:
        """Whether what is at the source's address now may be copied from; raises RemoteError when it may not.

        Asked on the connection that guards from then on: it ends with the process.
        """
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        guard = self.remote.connect()
        facts = _facts(guard)
        known = replace(self._migration, run_id=self.run_id)
        if self.run_id and not has_its_data(known, facts, self.target.count()):
            guard.close()
            self.held = (
                f"{self._migration.source} has been started anew with {facts.keys} keys, and the group has "
                f"{self.target.count()}"
            )
            raise RemoteError(RemoteFault.UNREACHABLE, self.held, "put its data back, or end by Force")
        self._guard, self.run_id, self.held = guard, facts.run_id, ""

    def _method(self, seen: Survey) -> Rung:
        """The best that names keys; polling where none does. Raises RemoteError where keys cannot be read."""
        rungs = [rung for rung in ladder(self.remote, seen, None) if rung.method != "psync"]
        for rung in rungs:
            if rung.reason is None and rung.certain:
                return rung
        why = rungs[-1].reason or "nothing tells of its changes"
        raise RemoteError(RemoteFault.DENIED, f"{seen.name} cannot be copied: {why}", "see `backup doctor`")

    @staticmethod
    def _refuse_impossible(seen: Survey) -> None:
        if seen.mode == "cluster":
            raise RemoteError(RemoteFault.DENIED, f"{seen.name} runs in cluster mode", "name one that does not")


def _facts(connection: Connection) -> SourceFacts:
    """Raises RemoteError where INFO is refused."""
    try:
        info = parse_info(connection.ask("INFO").decode("utf-8", "replace"))
    except Refusal as refusal:
        raise RemoteError(RemoteFault.DENIED, f"{connection.address} refuses INFO: {refusal}", "allow it") from refusal
    return SourceFacts(run_id=info.get("run_id", ""), keys=count_keys(info))


__all__ = ["Mark", "Mirror", "TargetLost"]
