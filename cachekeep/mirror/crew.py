"""What both kinds of living copies are to their lanes, where they answer alike (follow.crew.Crew)."""

from __future__ import annotations

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.pacing import Halt
from cachekeep.domain.blobs import BlobError
from cachekeep.follow.crew import Member
from cachekeep.follow.keeping import Keeping
from cachekeep.follow.types import FollowOptions
from cachekeep.mirror.target import Target

_FOR_EVER_S = 1e9
# So that a copy leaves the service, in whose process it runs, time for everything else.
_KEYS_PER_S = 20_000
_OPTIONS = FollowOptions(reconcile_s=0.0, patience_s=_FOR_EVER_S, max_keys_per_s=_KEYS_PER_S)
# How long lanes may take for their last round, and to end.
LAST_ROUND_S, CLOSE_S = 30.0, 5.0


class CopyCrew:
    """Whatever is doubtful is read again; no pass is a proof, and nothing is stored but in the target."""

    def __init__(self, target: Target) -> None:
        self.target, self.options, self.halt = target, _OPTIONS, Halt()

    def volumes(self) -> list[Keeping]:
        return [self.target]

    def doubt(self, lane: Member, since_ms: int | None, reason: str) -> None:
        lane.sweeps.want(self.target, "gap")

    def fell_behind(self, lane: Member, seconds: float) -> None:
        """Values may be of any moment within the round: they are read and written all the same."""

    def missed(self, lane: Member, keys: int) -> None:
        """No pass here is a proof."""

    def store_failed(self, error: BlobError | CatalogError) -> None:
        raise error

    def skip(self, db: int, key: bytes, reason: str) -> None:
        self.target.refused[db, key] = reason
