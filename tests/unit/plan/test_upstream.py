"""Whom members of a global datastore follow: one takes writes, wherever a hand-over was broken off."""

from __future__ import annotations

from itertools import pairwise

from cachekeep.domain.global_group import GlobalGroup, GlobalMember
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, Role
from cachekeep.plan.upstream import HandOut, Head, upstream_of

A, B, C = GlobalMember("us-east-1", "a"), GlobalMember("eu-west-1", "b"), GlobalMember("ap-south-1", "c")
NODES = {A: Address("127.0.0.1", 6379), B: Address("127.0.0.2", 6379), C: Address("127.0.0.3", 6379)}
ENDPOINT = Address("127.0.1.1", 6379)
ALONE = NodeFacts("9.1.2", role=Role.PRIMARY, offset=100, keys=5, binds=("127.0.0.1", ENDPOINT.host))
WITHOUT = NodeFacts("9.1.2", role=Role.PRIMARY, offset=100, keys=5, binds=("127.0.0.1",))


def following(member: GlobalMember, *, link_up: bool = True) -> NodeFacts:
    return NodeFacts(
        "9.1.2",
        role=Role.REPLICA,
        offset=100,
        keys=5,
        primary=NODES[member],
        link_up=link_up,
        binds=("127.0.0.2", "127.0.1.2"),
    )


def head(member: GlobalMember, facts: NodeFacts | None) -> Head:
    node = NODES[member]
    return Head(NodeKey(member.region, member.group_id), node, facts, ENDPOINT if member == A else None, (node,))


def datastore(to: GlobalMember | None = None) -> GlobalGroup:
    return GlobalGroup("g", "", A, 0.0, (B, C), failing_over_to=to)


def sources(group: GlobalGroup, a: NodeFacts | None, b: NodeFacts | None) -> tuple[str, ...]:
    """Whom a, b and c follow, by name; `-` for nobody."""
    heads = {A: head(A, a), B: head(B, b), C: head(C, following(A))}
    names = {address: member.group_id for member, address in NODES.items()}
    found = (upstream_of(member, group, heads).source for member in (A, B, C))
    return tuple("-" if address is None else names[address] for address in found)


def test_secondaries_follow_the_primary_of_record() -> None:
    assert sources(datastore(), ALONE, following(A)) == ("-", "a", "a")
    # Whatever they are seen to be: nothing was asked for.
    assert sources(datastore(), following(B), ALONE) == ("-", "a", "a")


def test_one_takes_writes_wherever_a_failover_was_broken_off() -> None:
    """The states that a hand-over goes through, in order, and those of its being taken back."""
    stages = [
        (ALONE, following(A)),
        (WITHOUT, following(A)),  # the endpoint is given up
        (WITHOUT, WITHOUT),  # the successor is promoted
        (following(B), WITHOUT),  # the former one is demoted
        (following(B), None),  # the successor has died since
    ]
    told = [sources(datastore(B), a, b) for a, b in stages]
    assert told == [("-", "a", "a")] * 2 + [("b", "-", "b")] * 3
    # Never two, and never back once it has gone over.
    assert all(before.count("-") == 1 for before in told)
    assert all(not (before[0] == "b" and after[0] == "-") for before, after in pairwise(told))
    # Taken back: the endpoint first, then the successor follows again.
    assert sources(datastore(B), ALONE, WITHOUT) == ("-", "a", "a")


def test_without_endpoints_that_move_two_primaries_mean_that_it_was_not_done() -> None:
    heads = {
        A: Head(NodeKey("us-east-1", "a"), NODES[A], WITHOUT),
        B: Head(NodeKey("eu-west-1", "b"), NODES[B], WITHOUT),
    }
    assert upstream_of(A, datastore(B), heads).source is None
    assert upstream_of(B, datastore(B), heads).source == NODES[A]


def test_the_role_is_handed_only_to_who_is_in_sync() -> None:
    def handed(facts: NodeFacts | None) -> HandOut | None:
        return upstream_of(A, datastore(B), {A: head(A, ALONE), B: head(B, facts)}).hand_out

    assert handed(None) is None
    assert handed(following(A, link_up=False)) is None
    assert handed(following(C)) is None
    ready = handed(following(A))
    assert ready is not None
    assert (ready.address, ready.binds) == (NODES[B], ("127.0.0.2", "127.0.1.2"))
    assert upstream_of(A, datastore(), {A: head(A, ALONE), B: head(B, following(A))}).hand_out is None


def test_a_secondary_with_data_is_a_refuge_and_an_empty_one_is_not() -> None:
    empty = NodeFacts("9.1.2", role=Role.REPLICA, offset=500)
    assert upstream_of(A, datastore(), {A: head(A, None), B: head(B, following(A))}).refuge == NODES[B]
    assert upstream_of(A, datastore(), {A: head(A, None), B: head(B, empty)}).refuge is None


def test_a_failover_swaps_roles_once() -> None:
    done = datastore(B).swapped()
    assert (done.primary, done.secondaries, done.failing_over_to) == (B, (A, C), None)
    # One that has left meanwhile cannot become the primary.
    assert datastore(GlobalMember("x", "y")).swapped() == datastore()
