"""Following a source from a thread, moments of which the truth is known, and restores of them. Not a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from churn import Churn
from truth import EXACT, Differences, Listening, Measure, Truth, compare, now_ms, record

from cachekeep.backup.catalog import Repository
from cachekeep.backup.contents import open_generation
from cachekeep.backup.moments import coverage_of
from cachekeep.backup.restore import RestoreOptions, restore
from cachekeep.backup.survey import survey
from cachekeep.blob.local import LocalBlobs
from cachekeep.follow.follow import follow
from cachekeep.follow.types import FollowOptions, FollowReport, FollowStatus
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket

WITHIN_S = 60.0
SLACK_MS = 20


@dataclass(frozen=True)
class Moment:
    """Nothing was written from some ms before it to some ms after it."""

    at_ms: int
    truth: Truth


class Following:
    """A capture that runs while the block does. recorded: whom the truth is asked; it may be changed on the way."""

    def __init__(self, url: str, folder: Path, recorded: Sequence[Listening], **options: Any) -> None:
        self._recorded, self.moments = recorded, list[Moment]()
        self.repository = Repository.open_or_create(LocalBlobs(folder))
        self.scratch = LocalScratch(MachineCatalogue(), open_socket)
        self._url, self._access = url, {name: options.pop(name) for name in ("user", "password") if name in options}
        self._options = FollowOptions(**({"patience_s": WITHIN_S, "reconcile_s": 0.0} | options))
        self.statuses: list[FollowStatus] = []
        self.said: list[str] = []
        self._report: FollowReport | None = None
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following")

    def _run(self) -> None:
        try:
            remote = open_remote(self._url, **self._access)
            self._report = follow(
                remote,
                survey(remote),
                self.repository,
                self._options,
                scratch=self.scratch,
                on_status=self.statuses.append,
                on_news=self.said.append,
                stop=self._stop,
            )
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self.failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None and exc[0] is None:
            raise self.failure

    def stop(self) -> FollowReport:
        self._stop.set()
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), f"it did not stop: {self.last}"
        if self.failure is not None:
            raise self.failure
        assert self._report is not None
        return self._report

    @property
    def last(self) -> FollowStatus | None:
        return self.statuses[-1] if self.statuses else None

    def until(self, condition: Callable[[FollowStatus], bool], what: str) -> FollowStatus:
        deadline = time.monotonic() + WITHIN_S
        while self.last is None or not condition(self.last):
            if self.failure is not None:
                raise self.failure
            assert self._thread.is_alive(), f"it ended before {what}; {self._report}"
            assert time.monotonic() < deadline, f"not within {WITHIN_S:g} s: {what}; {self.last}; {self.said[-5:]}"
            time.sleep(0.01)
        return self.last

    def covered(self, moment_ms: int) -> FollowStatus:
        """Return when every change up to the moment is captured."""
        return self.until(lambda seen: (seen.covered_until_ms or 0) >= moment_ms, f"covered until {moment_ms}")

    def moment(self, churn: Churn) -> Moment:
        """The truth of a moment at which the churn rests."""
        churn.pause()
        found = self._polled() if self._is_polled() else self._followed()
        self.moments.append(found)
        churn.resume()
        return found

    def _is_polled(self) -> bool:
        return self.until(lambda seen: True, "a first status").method == "poll"

    def _followed(self) -> Moment:
        """What changed just before the rest may be read, and so known, a little into it."""
        self.covered(self._now_ms())
        at_ms = self._now_ms() + SLACK_MS
        self.covered(at_ms + SLACK_MS)
        return Moment(at_ms, record(self._recorded))

    def _polled(self) -> Moment:
        """The end of a pass that began after another one had ended in the rest."""
        at_ms = self.covered(self._now_ms() + 1).covered_until_ms or 0
        at_ms = self.covered(at_ms + 1).covered_until_ms or 0
        return Moment(at_ms, record(self._recorded))

    def _now_ms(self) -> int:
        """Of whichever of them answers."""
        said: list[str] = []
        for server in self._recorded:
            try:
                return now_ms(server)
            except Exception as error:  # noqa: BLE001
                said.append(str(error))
        raise AssertionError(f"nobody tells the time: {said}")

    def restored(self, at_ms: int, target: Any) -> Truth:
        """What an emptied server has after a restore of that moment. Fails when the backup does not cover it."""
        target.ask("FLUSHALL")
        if target.version not in ("6.2",):
            target.ask("FUNCTION", "FLUSH")
        remote = open_remote(target.url)
        name = self.generation_of(at_ms)
        with open_generation(self.repository, name, self.scratch, at_ms=at_ms) as contents:
            report = restore(contents, remote, survey(remote), RestoreOptions())
            refused = {(db, key): why for db, key, why in report.refused}
            told = [
                f"{place} ({why}): {record}"
                for records in (contents.batches() if refused else ())
                for record in records
                if (why := refused.get(place := (record.db, record.key)))
            ]
        assert report.complete, f"{told} {report}"
        return record(target)

    def covers(self, at_ms: int) -> bool:
        covered = [coverage_of(self.repository, one) for one in self.repository.generations()]
        return any(at_ms in stretch for one in covered for stretch in one.stretches)

    def generation_of(self, at_ms: int) -> str:
        covered = [coverage_of(self.repository, one) for one in self.repository.generations()]
        for one in reversed(covered):
            if any(at_ms in stretch for stretch in one.stretches):
                return one.generation.name
        told = [(one.generation.name, one.stretches, one.gaps) for one in covered]
        raise AssertionError(f"no generation covers {at_ms}: {told}")

    def differences(self, moment: Moment, target: Any, measure: Measure = EXACT) -> Differences:
        return compare(moment.truth, self.restored(moment.at_ms, target), measure)

    def check(self, target: Any, measure: Measure = EXACT) -> None:
        """Every recorded moment, the last one first."""
        wrong: list[str] = []
        for number in reversed(range(len(self.moments))):
            found = self.differences(self.moments[number], target, measure)
            assert found.compared > 0, "nothing was compared"
            if found:
                wrong.append(f"moment {number + 1} of {len(self.moments)}: {found}")
        assert not wrong, "\n".join(wrong)
