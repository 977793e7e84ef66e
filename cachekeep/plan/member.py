"""What the planners of a shard share: its members as wanted and as seen, and the plan that comes out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, ObservedNode, Role
from cachekeep.domain.steps import Step
from cachekeep.plan.upstream import HandOut


class Phase(IntEnum):
    """The order in which the steps of one round are done; those of one phase side by side, for all shards at once."""

    FENCE = 0
    ROLE = 1
    GIVE_UP = 2
    TAKE = 3
    TAKE_READER = 4
    SLOTS = 5
    JOIN = 6
    FOLLOW = 7
    USERS = 8
    MOVE = 9
    CONFIGURE = 10
    RESTART = 11
    LEAVE = 12
    REMOVE = 13


Stages = tuple[tuple[Step, ...], ...]
PhasedSteps = tuple[tuple[Phase, Step], ...]


def phased(phase: Phase, steps: Iterable[Step]) -> PhasedSteps:
    return tuple((phase, step) for step in steps)


def in_stages(steps: Sequence[tuple[Phase, Step]]) -> Stages:
    """The steps in the order of their phases; a phase without steps is no stage."""
    return tuple(stage for phase in Phase if (stage := tuple(step for its_phase, step in steps if its_phase is phase)))


@dataclass(frozen=True)
class Member:
    """One node of the shard. reboot: restart the process that runs now. configure: values to set at run time.

    hold_s: seconds to wait before it may be started; switch_hold_s: before the role may be handed to it again, after a
    try that failed. standby: a second instance of a member (a spare): it takes over
    only if nobody else has the data, and never holds the reader endpoint. published: a further address of its own;
    extra_hosts: more of them.
    outdated: it runs another version, or in another cluster mode, than it should.
    """

    spec: NodeSpec
    seen: ObservedNode
    leaving: bool = False
    reboot: bool = False
    configure: tuple[tuple[str, str], ...] = ()
    hold_s: float = 0.0
    switch_hold_s: float = 0.0
    standby: bool = False
    published: str | None = None
    extra_hosts: tuple[str, ...] = ()
    outdated: bool = False
    source: Address | None = None
    """Of the shard; set by it."""

    @property
    def key(self) -> NodeKey:
        return self.spec.key

    @property
    def alive(self) -> bool:
        return self.seen.process is not None

    @property
    def users_differ(self) -> bool:
        """Its users are not those that it should have."""
        facts = self.seen.facts
        if not self.seen.serving or facts is None or facts.acl is None:
            return False
        return facts.acl != self.spec.acl

    @property
    def has_data(self) -> bool:
        """It holds something that a newly started engine would not.

        A replica says offset 1 before its first synchronisation; an idle pair says 0 after it.
        """
        facts = self.seen.facts
        return self.seen.serving and facts is not None and (facts.offset > 1 or facts.keys > 0)

    @property
    def is_primary(self) -> bool:
        return self.seen.serving and self.facts.role is Role.PRIMARY

    @property
    def owns_slots(self) -> bool:
        facts = self.seen.facts
        return facts is not None and facts.cluster is not None and bool(facts.cluster.slots)

    @property
    def facts(self) -> NodeFacts:
        """Raises ValueError when the node was not seen to answer."""
        if self.seen.facts is None:
            raise ValueError(f"{self.key} was not seen to answer")
        return self.seen.facts


@dataclass(frozen=True)
class Shard:
    """primary_hosts: the addresses that the primary holds beside its own: the primary endpoint's, the configuration
    endpoint's; none when the shard has none. reader_host: the reader endpoint's, or None.

    forming: the shard was never complete yet, so the reader endpoint waits for a replica.
    hand_over_to: the member that is to be primary, as soon as it is in sync; None: whoever is.
    clustered: the engines run in cluster mode. vote: enough primaries live to vote for a new one.
    busy_hosts: addresses that members of other shards hold, as last seen.
    fence_after_s: silence after which a living process counts as hung. automatic: a hung primary may be replaced.
    """

    members: tuple[Member, ...]
    primary: NodeKey
    primary_hosts: tuple[str, ...] = ()
    reader_host: str | None = None
    forming: bool = False
    hand_over_to: NodeKey | None = None
    clustered: bool = False
    vote: bool = False
    busy_hosts: frozenset[str] = frozenset()
    fence_after_s: float = 5.0
    automatic: bool = True
    source: Address | None = None
    """A primary outside the shard: the shard's own follows it, and takes no writes."""
    source_ready: bool = True
    """A node may synchronise with the source now; until then none is told to, nor started as its replica."""
    hand_out: HandOut | None = None
    """The primary of another group of the global datastore, which takes over from this shard's."""
    refuge: Address | None = None
    """A server outside that has the shard's data, should no member have it any more."""
    yields: bool = False
    """The role is to leave the group: a primary that hangs is fenced even without an heir."""

    def member(self, key: NodeKey | None) -> Member | None:
        return next((m for m in self.members if m.key == key), None)

    @property
    def staying(self) -> list[Member]:
        return [m for m in self.members if not m.leaving]

    def hung(self, member: Member) -> bool:
        """Its process lives and has not answered for so long that it is given up."""
        return member.alive and not member.seen.serving and member.seen.silent_s >= self.fence_after_s


@dataclass(frozen=True)
class ShardPlan:
    """primary: the member that is the primary as seen now. settled: everything is as it should be.

    removed: members that were leaving and of which nothing is left. sentence: what is being waited for or done.
    lost: nobody has the data any more, the shard starts empty. behind: how many bytes of the replication stream, as
    last seen, the member that takes over does not have. refuge: who outside has the data that all members have lost.
    """

    primary: NodeKey
    steps: PhasedSteps = ()
    removed: tuple[NodeKey, ...] = ()
    settled: bool = False
    sentence: str = ""
    lost: bool = False
    behind: int = 0
    refuge: Address | None = None

    @property
    def stages(self) -> Stages:
        return in_stages(self.steps)

    def also(self, steps: PhasedSteps, sentence: str = "") -> ShardPlan:
        """With more steps; not settled if there are any."""
        if not steps:
            return self
        return replace(self, steps=self.steps + steps, settled=False, sentence=sentence or self.sentence)


@dataclass
class Collected:
    """Steps, gathered phase by phase."""

    steps: list[tuple[Phase, Step]] = field(default_factory=list)

    def add(self, phase: Phase, *steps: Step) -> None:
        self.steps += ((phase, step) for step in steps)


def follows_source(member: Member, source: Address | None) -> bool:
    """It is a replica of that server outside, whether or not the link is up; nobody is where there is none."""
    facts = member.seen.facts
    return source is not None and facts is not None and facts.role is Role.REPLICA and facts.primary == source


def in_role(member: Member, primary: Member) -> bool:
    """Seen as the primary, or as a replica whose link to it is up and whose first synchronisation is over. A primary
    that has a source outside is in its role when it follows that; what is behind the link is not ours to wait for.
    """
    if not member.seen.serving:
        return False
    facts = member.facts
    if member.key == primary.key:
        return facts.role is Role.PRIMARY if primary.source is None else follows_source(primary, primary.source)
    return facts.role is Role.REPLICA and facts.primary == primary.spec.address and facts.link_up
