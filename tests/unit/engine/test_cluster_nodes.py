import pytest

from cachekeep.codec.cluster_nodes import parse_cluster, parse_migrations
from cachekeep.domain.nodes import Address, Role
from cachekeep.domain.slots import slots_text

A, B, C = "9e890ab48245eae86b1f27d6bd99a3f20ff82c0c", "609256de8969b7cd64ca388f90772157e906d21a", "c" * 40

# Each as its engine wrote it; the announced host name is a setting of 7.0 and newer.
VALKEY_9 = f"""\
{B} 127.201.1.2:6379@16379 master - 0 1795418057616 1 connected 8192-16383
fa77479e5c0d039e4acdda24118b978ba00488df 127.201.250.250:6379@16379 handshake - 0 0 0 disconnected
{A} 127.201.1.1:6379@16379,host-1.example myself,master - 0 0 0 connected 0-10 12 14-8191 [100->-{B}]
"""
VALKEY_8 = f"""\
{B} 127.201.1.4:6379@16379 master,fail? - 1795418063422 1795418062418 0 disconnected 8192-16383
{C} 127.201.1.5:6379@16379 slave {A} 0 1795418062418 1 connected
{A} 127.201.1.3:6379@16379,host-1.example myself,master - 0 0 1 connected 0-8191 [100-<-{B}] [101-<-{B}]
"""
REDIS_7 = f"""\
{A} 127.201.1.5:6379@16379,host-1.example master,fail - 0 1795418067839 0 connected 0-8191
{B} 127.201.1.6:6379@16379 myself,slave {A} 0 1795418067000 1 connected
"""
REDIS_6 = f"""\
{A} :6379@16379 myself,master - 0 0 0 connected 0-8191
{B} :0@0 slave,noaddr {A} 1795418067000 1795418067000 1 disconnected
{C} fd00::7:6379@16379 master - 0 1795418072363 0 connected
"""


def test_own_slots_and_those_that_are_moved() -> None:
    facts = parse_cluster(VALKEY_9, "cluster_state:fail\r\ncluster_current_epoch:3\r\ncluster_my_epoch:2\r\n")
    assert (facts.id, facts.ok, facts.epoch) == (A, False, 2)
    assert slots_text(facts.slots) == "0-10,12,14-8191"
    assert (facts.exporting, facts.importing) == (((100, B),), ())
    whole = parse_cluster(VALKEY_8, "cluster_state:ok\r\ncluster_my_epoch:1\r\n")
    assert (whole.ok, whole.epoch) == (True, 1)
    assert (whole.exporting, whole.importing) == ((), ((100, B), (101, B)))


def test_peers() -> None:
    other, stranger = parse_cluster(VALKEY_9, "").peers
    assert (other.id, other.address, other.role) == (B, Address("127.201.1.2", 6379), Role.PRIMARY)
    assert (slots_text(other.slots), other.failed, other.linked, other.handshake) == ("8192-16383", False, True, False)
    assert (stranger.handshake, stranger.linked, stranger.slots) == (True, False, ())
    suspected, replica = parse_cluster(VALKEY_8, "").peers
    assert (suspected.failed, suspected.linked) == (True, False)
    assert (replica.role, replica.primary_id, replica.failed) == (Role.REPLICA, A, False)
    replica_view = parse_cluster(REDIS_7, "")
    assert (replica_view.id, replica_view.slots) == (B, ())
    assert replica_view.peers[0].failed
    assert replica_view.peers[0].address == Address("127.201.1.5", 6379)


def test_addresses_that_are_none_and_those_of_ipv6() -> None:
    unknown, six = parse_cluster(REDIS_6, "").peers
    assert unknown.address is None
    assert six.address == Address("fd00::7", 6379)


def test_answer_without_the_node_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="no line of the node itself"):
        parse_cluster("garbage\n\n", "")


def test_no_more_lines_than_a_cluster_can_have_are_read() -> None:
    line = f"{C} 127.0.0.1:6379@16379 handshake - 0 0 0 disconnected\n"
    assert len(parse_cluster(VALKEY_9 + line * 5000, "").peers) < 3000


def entry(name: str, state: str, operation: str = "EXPORT") -> list[object]:
    return [
        *("name", name, "operation", operation, "slot_ranges", "0-10 20-30", "target_node", B, "source_node", A),
        *("create_time", 1795418057, "state", state, "message", "Connection lost", "cow_size", 0),
    ]


def test_migrations_that_run_come_before_those_that_ended() -> None:
    ended = [entry(f"old{number}", "success") for number in range(80)]
    found = parse_migrations([entry("failed", "failed"), *ended, entry("new", "waiting-to-snapshot", "IMPORT")])
    assert (found[0].name, found[0].running, found[0].exports) == ("new", True, False)
    assert (found[1].name, found[1].message, found[1].target_id) == ("failed", "Connection lost", B)
    assert slots_text(found[1].slots) == "0-10,20-30"
    assert len(found) == 51
    assert parse_migrations(None) == parse_migrations(["x"]) == ()
