"""Migration in: a group whose primary follows a server outside until it takes over; and what that server says. Pure.

Source: ElastiCache guide, "Online migration to ElastiCache".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cachekeep.domain.nodes import Address, Role


class MigrationPhase(StrEnum):
    """testing: the source is looked at, and nothing else. starting: the same, and the migration goes on if all is well.
    following: what changes at the source changes in the group. completing: that is to end, once it has everything.

    Of serverless caches only: preparing: as testing, and the migration is open then, prepared. stopped: it is open, and
    may be started again.
    """

    TESTING = "testing"
    STARTING = "starting"
    FOLLOWING = "following"
    COMPLETING = "completing"
    PREPARING = "preparing"
    PREPARED = "prepared"
    STOPPED = "stopped"


class Way(StrEnum):
    """replication: the group's primary is a replica of the source. capture: what changes at the source is read and
    written into the group, key by key, where an engine cannot follow."""

    REPLICATION = "replication"
    CAPTURE = "capture"


@dataclass(frozen=True)
class Migration:
    """since: when this phase began, seconds since 1970. force: promote without being in sync.

    run_id: of the process of the source that the primary was in sync with last; "" before it ever was. held: the source
    has lost its data since, and is not followed again; an event said so. in_sync: of a capture, that every key has
    arrived, and every change is heard of. clear: of a capture, that the keys that the group has may go. started: when
    it was asked for, which tells one copy from the next.
    """

    source: Address
    phase: MigrationPhase
    since: float
    force: bool = False
    run_id: str = ""
    held: bool = False
    way: Way = Way.REPLICATION
    in_sync: bool = False
    clear: bool = True
    started: float = 0.0
    no_link: bool = False
    """An event has told that the primary gets no link to the source."""

    @property
    def told(self) -> str:
        """Its status in a word."""
        return "in-sync" if self.phase is MigrationPhase.FOLLOWING and self.in_sync else self.phase.value

    @property
    def rests(self) -> bool:
        """It is open, and nothing is done for it."""
        return self.phase in (MigrationPhase.PREPARED, MigrationPhase.STOPPED)

    @property
    def goes_on(self) -> bool:
        """What changes at the source is to change in the group."""
        return self.phase in (MigrationPhase.FOLLOWING, MigrationPhase.COMPLETING)

    @property
    def follows(self) -> bool:
        """The group's primary is to be a replica of the source."""
        return self.goes_on and self.way is Way.REPLICATION

    @property
    def is_captured(self) -> bool:
        """What changes at the source is to be written into the group."""
        return self.goes_on and self.way is Way.CAPTURE


@dataclass(frozen=True)
class SourceFacts:
    """What a server outside says of itself. refusal: why it could not be asked, in words; the rest says nothing then.

    valkey: it calls itself Valkey. databases: how many it has; where it does not tell, one more than the highest that
    holds keys. serves_replicas: PSYNC may be used there; no_replicas: why not, in words. used: the highest database
    that holds keys. unreadable: why its keys cannot be read one by one, in words.
    """

    refusal: str = ""
    valkey: bool = False
    version: str = ""
    run_id: str = ""
    role: Role = Role.PRIMARY
    offset: int = 0
    clustered: bool = False
    databases: int = 1
    serves_replicas: bool = True
    keys: int = 0
    no_replicas: str = ""
    used: int = 0
    unreadable: str = ""
