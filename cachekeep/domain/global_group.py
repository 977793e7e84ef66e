"""A global datastore: a replication group of one region that takes writes, and up to two of other regions that follow
it. Pure.

Source: botocore elasticache 2015-02-02 (GlobalReplicationGroup); ElastiCache guide, "Global datastores".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

EVERYWHERE = ""
"""The region under which global datastores are kept: they belong to none."""
MOST_SECONDARIES = 2


@dataclass(frozen=True, order=True)
class GlobalMember:
    """One replication group of one region."""

    region: str
    group_id: str

    def __str__(self) -> str:
        return f"{self.group_id} in {self.region}"


@dataclass(frozen=True)
class Mirrored:
    """What a secondary in cluster mode has come to. of: the member that it was copied from. run_ids: the processes of
    that one when it was last in sync with it, () for never. held: why it is not copied from; "" while it is."""

    of: GlobalMember
    in_sync: bool = False
    run_ids: tuple[str, ...] = ()
    held: str = ""


@dataclass(frozen=True)
class GlobalGroup:
    """primary: the member that takes writes. failing_over_to: the member that is to take writes, from the moment it is
    asked for until it does; failing_since: when that was, seconds since 1970.
    fenced: of a failover in cluster mode, that no node of the primary lets clients write any more.
    leaving: of cluster mode, a secondary that is to stand alone once it has everything; leaving_since: asked for then.
    deleting: it ends once its last secondary has gone.
    """

    id: str
    description: str
    primary: GlobalMember
    created_at: float
    secondaries: tuple[GlobalMember, ...] = ()
    failing_over_to: GlobalMember | None = None
    failing_since: float = 0.0
    deleting: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    region: str = EVERYWHERE
    fenced: bool = False
    leaving: GlobalMember | None = None
    leaving_since: float = 0.0

    @property
    def members(self) -> tuple[GlobalMember, ...]:
        """The primary first."""
        return (self.primary, *self.secondaries)

    def taken_back(self) -> GlobalGroup:
        """The failover is given up: the primary takes writes again."""
        return replace(self, failing_over_to=None, fenced=False)

    def writes(self, member: GlobalMember) -> bool:
        """Whether clients may write to this member in cluster mode, where engines do not follow and so do not refuse.
        During a failover to none."""
        return member not in self.members or (member == self.primary and self.failing_over_to is None)

    def swapped(self) -> GlobalGroup:
        """The failover is done: the member that was to take writes is the primary, and all others follow it."""
        new = self.failing_over_to
        if new is None or new not in self.secondaries:
            return self.taken_back()
        others = tuple(m for m in self.secondaries if m != new)
        return replace(self, primary=new, secondaries=(self.primary, *others), failing_over_to=None, fenced=False)
