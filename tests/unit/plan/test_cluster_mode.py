"""Decisions about a cluster as a whole, one question each; whole stories are in tests/properties."""

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
    SlotMigration,
)
from cachekeep.domain.slots import Slots, divided, parse_slots
from cachekeep.domain.steps import AddSlots, CancelMigrations, Forget, Meet, MigrateSlots, MoveSlots, Step
from cachekeep.plan.cluster_mode import ClusterShard, plan_cluster_mode
from cachekeep.plan.member import Member

REGION = "us-east-1"
FIRST, SECOND = divided(2)
DEAD = NOTHING_SEEN
SILENT = ObservedNode(process=Process(9, "9"))


def _address(number: int) -> Address:
    return Address(f"10.0.0.{number}", 6379)


def _peer(number: int, slots: Slots = (), **more: object) -> Peer:
    return Peer(f"id{number}", _address(number), Role.PRIMARY, slots=slots, **more)  # type: ignore[arg-type]


def _facts(number: int, slots: Slots = (), *peers: Peer, role: Role = Role.PRIMARY, **more: object) -> ObservedNode:
    cluster = ClusterFacts(f"id{number}", True, number, slots, peers, **more)  # type: ignore[arg-type]
    return ObservedNode(
        process=Process(number, str(number)), facts=NodeFacts("9.1.2", role=role, offset=100, keys=5, cluster=cluster)
    )


def _member(number: int, seen: ObservedNode, version: str = "9.1") -> Member:
    key = NodeKey(REGION, f"n{number}")
    return Member(NodeSpec(key, Engine.VALKEY, EngineVersion.parse(version), _address(number)), seen)


def _shard(shard_id: str, wanted: Slots, *members: Member, leaving: bool = False) -> ClusterShard:
    return ClusterShard(shard_id, members, members[0].key, wanted, leaving)


def _steps(*shards: ClusterShard) -> list[Step]:
    return [step for _, step in plan_cluster_mode(shards).steps]


def test_new_nodes_get_their_slots_and_are_introduced() -> None:
    one, two = _member(1, _facts(1)), _member(2, _facts(2))
    steps = _steps(_shard("0001", FIRST, one), _shard("0002", SECOND, two))
    assert AddSlots(one.key, _address(1), FIRST, 1) in steps
    assert AddSlots(two.key, _address(2), SECOND, 2) in steps
    assert Meet(one.key, _address(1), _address(2)) in steps


def test_slots_are_not_given_away_while_a_primary_that_may_own_them_is_missing() -> None:
    """A new shard knows nobody yet; the owner of its slots has just died and its heir is not recorded."""
    heir = _member(2, _facts(2, FIRST + SECOND))
    old = _shard("0001", FIRST, _member(1, DEAD), heir)
    assert not [s for s in _steps(old, _shard("0002", SECOND, _member(3, _facts(3)))) if isinstance(s, AddSlots)]
    hung = _shard("0001", FIRST, _member(1, SILENT))
    assert not [s for s in _steps(hung, _shard("0002", SECOND, _member(3, _facts(3)))) if isinstance(s, AddSlots)]


def test_slots_are_not_given_away_while_a_silent_member_may_own_them() -> None:
    shard = _shard("0001", FIRST + SECOND, _member(1, _facts(1)), _member(2, SILENT))
    assert _steps(shard) == []


def test_slots_that_gossip_just_gave_to_a_replica_are_not_given_to_the_primary_of_record() -> None:
    elected = _member(2, _facts(2, FIRST + SECOND))
    steps = _steps(_shard("0001", FIRST + SECOND, _member(1, _facts(1)), elected))
    assert not [s for s in steps if isinstance(s, AddSlots)]


def test_who_forgot_a_node_that_came_back_is_introduced_to_it_again() -> None:
    one = _member(1, _facts(1, FIRST))
    two = _member(2, _facts(2, SECOND, _peer(1, FIRST)))
    steps = _steps(_shard("0001", FIRST, one), _shard("0002", SECOND, two))
    assert steps == [Meet(one.key, _address(1), _address(2))]


def test_a_dead_owner_is_forgotten_with_what_only_few_knew_it_to_own_once_it_is_succeeded() -> None:
    """It had just been given a slot when it died; its heir had not heard of that."""
    rest, last = parse_slots("100-16382"), parse_slots("16383")
    one = _member(1, _facts(1, parse_slots("0-99"), _peer(3, rest), _peer(9, last)))
    heir = _member(3, _facts(3, rest, _peer(1, parse_slots("0-99"))))
    steps = _steps(_shard("0001", parse_slots("0-99"), one), _shard("0002", rest + last, heir, _member(9, DEAD)))
    assert steps == [Forget(one.key, _address(1), "id9")]


def test_a_dead_owner_is_not_forgotten_while_its_heir_lives() -> None:
    peer = _peer(9, SECOND, failed=True)
    one = _member(1, _facts(1, FIRST, peer, _peer(3)))
    heir = _member(3, _facts(3, (), peer, _peer(1, FIRST), role=Role.REPLICA))
    dead = _member(9, DEAD)
    assert _steps(_shard("0001", FIRST, one), _shard("0002", SECOND, dead, heir)) == []


def test_a_node_that_is_gone_and_owns_nothing_is_forgotten_by_all() -> None:
    gone = _peer(9)
    one = _member(1, _facts(1, FIRST, gone, _peer(2, SECOND)))
    two = _member(2, _facts(2, SECOND, gone, _peer(1, FIRST)))
    steps = _steps(_shard("0001", FIRST, one), _shard("0002", SECOND, two))
    assert steps == [Forget(one.key, _address(1), "id9"), Forget(two.key, _address(2), "id9")]


def test_slots_move_atomically_where_both_ends_can_and_key_by_key_elsewhere() -> None:
    half = parse_slots("0-99")
    for version, kind in (("9.1", MigrateSlots), ("8.1", MoveSlots)):
        one = _member(1, _facts(1, divided(1)[0], _peer(2)), version)
        two = _member(2, _facts(2, (), _peer(1, divided(1)[0])), version)
        steps = _steps(_shard("0001", parse_slots("100-16383"), one), _shard("0002", half, two))
        assert [type(s) for s in steps] == [kind]
        assert isinstance(steps[0], (MigrateSlots, MoveSlots))
        assert steps[0].slots == half


def test_what_is_on_its_way_is_not_sent_again_and_given_up_when_its_target_is_gone() -> None:
    half = parse_slots("0-99")
    running = (SlotMigration("m", half, True, "id2", "replicating"),)
    one = _member(1, _facts(1, divided(1)[0], _peer(2), migrations=running))
    two = _member(2, _facts(2, (), _peer(1, divided(1)[0])))
    shards = (_shard("0001", parse_slots("100-16383"), one), _shard("0002", half, two))
    assert _steps(*shards) == []
    silent = replace(shards[1], members=(_member(2, SILENT),))
    assert _steps(shards[0], silent) == [CancelMigrations(one.key, _address(1))]


def test_of_two_owners_in_one_shard_the_primary_of_record_gets_all() -> None:
    """Gossip elected a replica while the primary was silent; slots were moved to the primary when it woke up."""
    first, rest = parse_slots("0-99"), parse_slots("100-16383")
    one = _member(1, _facts(1, first, _peer(2, rest)))
    two = _member(2, _facts(2, rest, _peer(1, first)))
    plan = plan_cluster_mode([_shard("0001", divided(1)[0], one, two)])
    assert [step for _, step in plan.steps] == [MigrateSlots(two.key, _address(2), rest, "id1")]
    assert plan.to_move == 16284


def test_settled_is_only_a_cluster_in_which_all_know_all() -> None:
    one = _member(1, _facts(1, FIRST, _peer(2, SECOND)))
    two = _member(2, _facts(2, SECOND, _peer(1, FIRST)))
    shards = (_shard("0001", FIRST, one), _shard("0002", SECOND, two))
    assert plan_cluster_mode(shards).settled
    shy = _member(2, _facts(2, SECOND, Peer("?", _address(1), Role.PRIMARY, handshake=True)))
    assert not plan_cluster_mode((shards[0], replace(shards[1], members=(shy,)))).settled
