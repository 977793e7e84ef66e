"""Roles in a shard in cluster mode; those without it are told in tests/scripts/shard."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import (
    NOTHING_SEEN,
    Address,
    ClusterFacts,
    NodeFacts,
    NodeKey,
    NodeSpec,
    ObservedNode,
    Peer,
    Process,
    Role,
)
from cachekeep.domain.slots import Slots, divided
from cachekeep.domain.steps import ClusterSwitchOver, Replicate, SetUsers, Start, Stop, TakeOver
from cachekeep.plan.member import Member, Shard
from cachekeep.plan.shard import plan_shard

ALL = divided(1)[0]
DEAD = replace(NOTHING_SEEN, folder=True)
STRANGER = Address("10.9.9.9", 6379)


def _address(number: int) -> Address:
    return Address(f"10.0.0.{number}", 6379)


def _seen(
    number: int, *, of: Address | None = None, slots: Slots = (), offset: int = 100, link_up: bool = True
) -> ObservedNode:
    peers = tuple(Peer(f"id{n}", _address(n), Role.PRIMARY) for n in (1, 2, 3) if n != number)
    facts = NodeFacts(
        "9.1.2",
        role=Role.REPLICA if of else Role.PRIMARY,
        primary=of,
        link_up=link_up,
        offset=offset,
        keys=min(offset, 5),
        binds=(_address(number).host,),
        cluster=ClusterFacts(f"id{number}", True, 1, slots, peers),
    )
    return ObservedNode(process=Process(number, str(number)), facts=facts, folder=True)


def _shard(*seen: ObservedNode, vote: bool = True, hand_over_to: int | None = None) -> Shard:
    members = tuple(
        Member(NodeSpec(NodeKey("r", f"n{at}"), Engine.VALKEY, EngineVersion.parse("9.1"), _address(at)), each)
        for at, each in enumerate(seen, 1)
    )
    successor = members[hand_over_to - 1].key if hand_over_to else None
    return Shard(members, members[0].key, clustered=True, vote=vote, hand_over_to=successor)


def _key(number: int) -> NodeKey:
    return NodeKey("r", f"n{number}")


def test_the_best_replica_of_a_dead_primary_takes_its_slots() -> None:
    dead = _shard(DEAD, _seen(2, of=_address(1), offset=90), _seen(3, of=_address(1), offset=95))
    assert [s for _, s in plan_shard(dead).steps] == [TakeOver(_key(3), _address(3), True)]
    alone = replace(dead, vote=False)
    assert [s for _, s in plan_shard(alone).steps] == [TakeOver(_key(3), _address(3), False)]


def test_whoever_gossip_elected_is_the_primary() -> None:
    """Also with less data than another: it has taken writes since."""
    plan = plan_shard(_shard(DEAD, _seen(2, slots=ALL, offset=90), _seen(3, of=_address(1), offset=95)))
    assert plan.primary == _key(2)
    assert Replicate(_key(3), _address(3), "id2") in [s for _, s in plan.steps]


def test_a_primary_of_record_that_lost_its_slots_to_its_replica_is_one_no_more() -> None:
    plan = plan_shard(_shard(_seen(1, of=_address(2)), _seen(2, slots=ALL)))
    assert plan.primary == _key(2)
    idle = plan_shard(_shard(_seen(1, of=_address(2), offset=0), _seen(2, slots=ALL, offset=0)))
    assert idle.primary == _key(2), "also in a cluster that holds nothing yet"


def test_a_demoted_primary_is_not_ended_when_its_successor_dies_unrecorded() -> None:
    """It is the only one that has the data."""
    plan = plan_shard(_shard(_seen(1, of=_address(2), link_up=False), DEAD))
    assert [s for _, s in plan.steps] == [TakeOver(_key(1), _address(1), True)]
    assert plan.primary == _key(2)


def test_who_follows_a_replica_of_this_shard_waits_for_it_to_sort_itself_out() -> None:
    silent = ObservedNode(process=Process(3, "3"))
    plan = plan_shard(_shard(_seen(1, of=_address(2)), _seen(2, of=_address(3)), silent))
    assert plan.steps == ()


def test_a_node_that_joined_another_shard_is_started_anew() -> None:
    plan = plan_shard(_shard(_seen(1, of=STRANGER)))
    assert [s for _, s in plan.steps] == [Stop(_key(1), _address(1))]


def test_a_role_is_handed_over_by_the_engines_own_means() -> None:
    plan = plan_shard(_shard(_seen(1, slots=ALL), _seen(2, of=_address(1)), hand_over_to=2))
    assert [s for _, s in plan.steps] == [ClusterSwitchOver(_key(2), _address(2))]


def test_a_replica_is_started_without_a_primary_and_told_whom_to_follow_once_they_know_each_other() -> None:
    plan = plan_shard(_shard(_seen(1, slots=ALL), DEAD))
    starts = [s for _, s in plan.steps if isinstance(s, Start)]
    assert [s.spec.follow for s in starts] == [None]
    stranger = _seen(2, offset=0)
    assert stranger.facts is not None
    assert stranger.facts.cluster is not None
    alone = replace(stranger.facts.cluster, peers=())
    shy = replace(stranger, facts=replace(stranger.facts, cluster=alone))
    assert plan_shard(_shard(_seen(1, slots=ALL), shy)).steps == ()
    assert [s for _, s in plan_shard(_shard(_seen(1, slots=ALL), stranger)).steps] == [
        Replicate(_key(2), _address(2), "id1")
    ]


def test_whoever_was_elected_is_the_primary_although_it_was_to_leave() -> None:
    """Votes know nothing of what is wanted here. It stays until it owns nothing."""
    shard = _shard(_seen(1, slots=ALL), _seen(2, slots=ALL))
    both = replace(shard, members=(shard.members[0], replace(shard.members[1], leaving=True)))
    assert not [s for _, s in plan_shard(both).steps if isinstance(s, Stop)]
    shard = _shard(DEAD, _seen(2, slots=ALL), _seen(3, of=_address(2), offset=200))
    for elected in (replace(shard.members[1], leaving=True), replace(shard.members[1], standby=True)):
        plan = plan_shard(replace(shard, members=(shard.members[0], elected, shard.members[2])))
        assert plan.primary == _key(2)


def test_a_role_is_not_handed_over_before_the_slots_are_there() -> None:
    plan = plan_shard(_shard(_seen(1), _seen(2, of=_address(1)), hand_over_to=2))
    assert not [s for _, s in plan.steps if isinstance(s, ClusterSwitchOver)]


def test_a_primary_with_keys_and_without_slots_is_started_anew_to_become_a_replica() -> None:
    plan = plan_shard(_shard(_seen(1, slots=ALL), _seen(2)))
    assert [s for _, s in plan.steps] == [Stop(_key(2), _address(2))]


def test_a_replica_of_a_former_identity_of_its_primary_is_told_of_the_new_one() -> None:
    """It follows the right address, by the wrong name."""
    head = _seen(1, slots=ALL)
    assert head.facts is not None
    assert head.facts.cluster is not None
    peer = Peer("id2", _address(2), Role.REPLICA, primary_id="gone")
    told = replace(head, facts=replace(head.facts, cluster=replace(head.facts.cluster, peers=(peer,))))
    plan = plan_shard(_shard(told, _seen(2, of=_address(1))))
    assert [s for _, s in plan.steps] == [Replicate(_key(2), _address(2), "id1")]


def test_a_shard_whose_users_are_to_be_set_is_not_settled() -> None:
    """Its group would be told available while those who lost a right still have it."""
    shard = _shard(_seen(1, slots=ALL), _seen(2, of=_address(1)))
    told = replace(shard, members=tuple(_with_acl(m, m.spec.acl) for m in shard.members))
    assert plan_shard(told).settled
    untold = replace(told, members=(_with_acl(told.members[0], "another"), told.members[1]))
    plan = plan_shard(untold)
    assert [type(step) for _, step in plan.steps] == [SetUsers]
    assert not plan.settled


def _with_acl(member: Member, acl: str) -> Member:
    assert member.seen.facts is not None
    return replace(member, seen=replace(member.seen, facts=replace(member.seen.facts, acl=acl)))


def test_a_shard_that_hangs_as_a_whole_is_fenced_when_its_role_is_to_leave_the_group() -> None:
    """Else whatever wakes up first may have the data. All of it, or a replica is voted in when it wakes up."""
    hanging = [ObservedNode(process=Process(n, str(n)), folder=True, silent_s=6.0) for n in (1, 2)]
    assert plan_shard(_shard(*hanging)).steps == ()
    leaving = replace(_shard(*hanging), yields=True)
    assert [s for _, s in plan_shard(leaving).steps] == [Stop(_key(n), _address(n), fence=True) for n in (1, 2)]
    primary_gone = replace(_shard(DEAD, hanging[1]), yields=True)
    assert Stop(_key(2), _address(2), fence=True) in [s for _, s in plan_shard(primary_gone).steps]
