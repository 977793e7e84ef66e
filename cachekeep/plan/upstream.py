"""Whom a member of a global datastore follows, and to whom it hands over: from what is wanted and from what is seen of
the primaries of the groups. Pure; called by control, which looks at them.

While a failover is under way, who takes writes is read from the engines and not from the store, so that it does not
matter where a service that hands over was killed. The order of a hand-over (engine.switch_over): the old primary gives
up its endpoint, the new one is promoted, the old one is made to follow it. So:

| the old one | the new one | who is right |
|---|---|---|
| follows the new one | whatever it is | the new one: this comes last |
| a primary without its endpoint | a primary | the new one: it is half done, and ends by following it |
| else | whatever it is | the old one: not begun, or taken back |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.domain.global_group import GlobalGroup, GlobalMember
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, Role


@dataclass(frozen=True)
class Head:
    """The primary of a group as stored and as seen. facts: None when it was not seen to answer. endpoint: where users
    find it, if the group has one."""

    key: NodeKey
    address: Address
    facts: NodeFacts | None = None
    endpoint: Address | None = None
    own: tuple[Address, ...] = ()
    """Every address at which a node of the group may be, this one's among them."""

    @property
    def is_primary(self) -> bool:
        return self.facts is not None and not self.facts.loading and self.facts.role is Role.PRIMARY


@dataclass(frozen=True)
class HandOut:
    """Another group's primary, which follows this one's and is to take over from it. binds: what it listens on."""

    key: NodeKey
    address: Address
    binds: tuple[str, ...]


@dataclass(frozen=True)
class Upstream:
    """source: whom the group's primary follows; None when it takes writes. hand_out: to whom it hands over.
    refuge: a secondary that has the data, should every node of this group have lost it. failing_over: another
    group is to take writes, or this one. In cluster mode only the last is told, and of the primary alone."""

    source: Address | None = None
    hand_out: HandOut | None = None
    refuge: Address | None = None
    failing_over: bool = False


def upstream_of(me: GlobalMember, group: GlobalGroup, heads: Mapping[GlobalMember, Head]) -> Upstream:
    """heads: of all members of the datastore that there are; looked at only while a failover is under way."""
    old, new = heads.get(group.primary), heads.get(group.failing_over_to) if group.failing_over_to else None
    going = group.failing_over_to is not None
    if new is not None and old is not None and has_taken_over(old, new):
        return Upstream(None if me == group.failing_over_to else new.address, failing_over=going)
    if me != group.primary:
        return Upstream(old.address if old is not None else None, failing_over=going)
    return Upstream(None, _hand_out(old, new), _refuge(group, heads), failing_over=going)


def has_taken_over(old: Head, new: Head) -> bool:
    """See the table above."""
    if old.facts is not None and old.facts.role is Role.REPLICA and old.facts.primary in (new.address, *new.own):
        return True
    return new.is_primary and old.is_primary and old.facts is not None and _gave_up(old, old.facts)


def _gave_up(old: Head, facts: NodeFacts) -> bool:
    return old.endpoint is not None and old.endpoint.host not in facts.binds


def _hand_out(old: Head | None, new: Head | None) -> HandOut | None:
    """Only once the successor is in sync with this very primary."""
    if old is None or new is None or new.facts is None:
        return None
    if new.facts.primary != old.address or not new.facts.link_up:
        return None
    return HandOut(new.key, new.address, new.facts.binds)


def _refuge(group: GlobalGroup, heads: Mapping[GlobalMember, Head]) -> Address | None:
    """The secondary that has most of the data, as far as it was seen."""
    found = [heads[m] for m in group.secondaries if m in heads]
    having = [(h.facts.offset, h.address) for h in found if h.facts is not None and h.facts.keys > 0]
    return max(having)[1] if having else None
