"""What the lanes of one capture see of the whole, and of each other. Protocols only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.pacing import Halt
from cachekeep.backup.survey_types import Survey
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Refusal, Remote
from cachekeep.follow.keeping import Keeping
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.signals import Changed
from cachekeep.follow.sweeps import Sweeps
from cachekeep.follow.types import FollowMethod, FollowOptions


class Member(Protocol):
    """A lane. name: as entries have it; label: for sentences."""

    sweeps: Sweeps

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def connected(self) -> bool: ...

    def now_ms(self) -> int:
        """By the source's clock."""
        ...

    def had(self, key: bytes) -> bool:
        """Whether the key is of a slot that the node has, or had a moment ago."""
        ...

    def refused(self, db: int, refused: Iterable[tuple[bytes, Refusal]]) -> None:
        """Keys that could not be read: handed to whoever has them now, or skipped and noted. Raises RemoteError."""
        ...

    def missed(self, keys: int) -> None:
        """A proof found so many changes that were never announced. Nothing is covered until they are written."""
        ...

    def hear(self, keys: dict[Changed, float]) -> bool:
        """Take keys over from another lane; False when this one is not connected."""
        ...

    def hold(self, other: Member) -> None:
        """Until the other lane has read what it took over just now, nothing more is covered."""
        ...

    def has_passed(self, moment_ms: int) -> bool:
        """Whether everything that it had taken over by then was read."""
        ...


class Crew(Protocol):
    """All are safe to call from lanes."""

    remote: Remote
    survey: Survey
    options: FollowOptions
    monitor: Monitor
    halt: Halt
    method: FollowMethod
    patterns: tuple[str, ...]

    def volumes(self) -> Sequence[Keeping]: ...

    def came_back(self, lane: Member, lost_ms: int | None, reason: str) -> None:
        """The lane is connected, and hears from now on. lost_ms: since when it was gone; None for the first time."""
        ...

    def doubt(self, lane: Member, since_ms: int | None, reason: str) -> None:
        """Something may have been missed since then (None: since the last covered moment): all keys are read again."""
        ...

    def fell_behind(self, lane: Member, seconds: float) -> None:
        """A round took so long that its values may be of any moment within it."""
        ...

    def missed(self, lane: Member, keys: int) -> None:
        """A proof found changes that were never announced; they are written now."""
        ...

    def elsewhere(self, lane: Member, keys: dict[Changed, float]) -> None:
        """The node sent us elsewhere for these keys."""
        ...

    def has_passed(self, moment_ms: int) -> bool:
        """Whether all that was announced until then, to any lane, was handed over."""
        ...

    def is_gone(self, lane: Member) -> bool:
        """The node has left, and is not to be waited for."""
        ...

    def store_failed(self, error: BlobError | CatalogError) -> None:
        """Returns when the store works again. Raises Halted, and the error when it does not pass."""
        ...

    def skip(self, db: int, key: bytes, reason: str) -> None: ...
