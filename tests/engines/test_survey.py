"""What is found out about real endpoints, also where commands are taken away as ElastiCache does."""

from __future__ import annotations

from typing import Any

import pytest

from cachekeep.backup.abilities import denial
from cachekeep.backup.survey import survey
from cachekeep.backup.survey_types import Ability, DatabaseSize, Node
from cachekeep.codec.dump import Target
from cachekeep.codec.slots import slot_of
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Refusal, RemoteError, RemoteFault
from cachekeep.remote.open import open_remote

VERSIONS = ("9.1", "8.1", "7.0", "6.2")
# What a version has not got at all.
ABSENT = {
    "9.1": set(),
    "8.1": set(),
    "7.0": {Ability.NO_TOUCH},
    "6.2": {Ability.NO_TOUCH, Ability.NO_EVICT, Ability.PEXPIRETIME, Ability.FUNCTIONS},
}
# ElastiCache, node-based: blocked commands as an ACL has them.
BLOCKED = "-psync -sync -config -debug -replicaof -slaveof -bgsave -bgrewriteaof -save -shutdown -migrate"
USERS = f"""user default on nopass ~* &* +@all
user aws on >pw ~* &* +@all {BLOCKED}
user mute on >pw ~* resetchannels +@all -psync -sync
user free on >pw ~* resetchannels +@all
user few on >pw ~* &* -@all +info
user none on >pw ~* &* -@all +ping
user keys on >pw ~app:* &* +@all
user part on >pw ~* &* +@all -@scripting -dump -restore -watch -object -memory -time -psync
"""
NEWER_USERS = USERS + "user sub on >pw ~* &* +@all -client|no-touch -client|no-evict -function|dump -object|encoding\n"


def url_of(server: Any, user: str) -> str:
    return f"redis://{user}:pw@{server.host}"


def unharmed(server: Any) -> bool:
    """No synchronisation began, nothing was written, and no connection was left behind."""
    info = server.ask("INFO", "all")
    return b"sync_full:0\r" in info and b"connected_slaves:0" in info and not server.ask("DBSIZE")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_endpoint_says_what_it_is_and_holds(start_server: Any, install_of: Any, version: str) -> None:
    server, install = (
        start_server(version, "--databases", "20", "--maxmemory-policy", "allkeys-lru"),
        install_of(version),
    )
    server.ask("MSET", "a", 1, "b", 2)
    server.ask("SET", "c", 1, "EX", 1000, db=19)
    seen = survey(open_remote(server.url))
    assert seen.target == Target(install.engine, install.version)
    assert seen.server == f"{install.engine.label} {install.version}"
    assert (seen.name, seen.mode, seen.role) == (f"{server.url}", "standalone", "primary")
    assert seen.databases == {0: DatabaseSize(2, 0), 19: DatabaseSize(1, 1)}
    assert (seen.keys, seen.database_limit, seen.eviction) == (3, 20, "allkeys-lru")
    assert seen.used_bytes > 100_000
    assert abs(seen.clock_ahead_ms) < 1000
    (node,) = seen.nodes
    assert (node.host, node.port, node.slots, node.lane) == ("", 6379, (), "only")
    assert f"run_id:{node.run_id}".encode() in server.ask("INFO", "server")
    assert len(node.run_id) == 40
    assert seen.modules == ()
    assert set(seen.denied) == ABSENT[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_looking_changes_nothing_and_starts_no_synchronisation(start_server: Any, version: str) -> None:
    server, renamed = (
        start_server(version, users=USERS),
        start_server(version, "--rename-command", "PSYNC", "", "--rename-command", "DUMP", ""),
    )
    expected = {
        "aws": {Ability.PSYNC},
        # No channel may be subscribed to: from 7.0 a dry run tells, before it nothing does.
        "mute": set() if version == "6.2" else {Ability.PSYNC},
        "free": set(),
        # Neither SUBSCRIBE nor ACL: what cannot be known counts as allowed.
        "few": set(Ability) - ABSENT[version] - {Ability.PSYNC},
        "keys": set(),
        "part": {
            Ability.DUMP,
            Ability.RESTORE,
            Ability.SCRIPTS,
            Ability.WATCH,
            Ability.OBJECT,
            Ability.MEMORY,
            Ability.TIME,
            Ability.PSYNC,
        },
    }
    for user, denied in expected.items():
        seen = survey(open_remote(url_of(server, user)))
        # Functions are scripts: the right to them may come and go with those.
        beside = {Ability.FUNCTIONS} if user == "part" else set()
        assert set(seen.denied) - ABSENT[version] - beside == denied, user
        if user == "few":
            assert (seen.database_limit, seen.clock_ahead_ms) == (None, 0)
        for reason in seen.denied.values():
            assert "cachekeep:probe" not in reason
    taken_away = survey(open_remote(renamed.url)).denied
    assert set(taken_away) - ABSENT[version] == {Ability.PSYNC, Ability.DUMP}
    assert "its operator took it away" in taken_away[Ability.PSYNC]
    assert unharmed(server)
    assert unharmed(renamed)


@pytest.mark.parametrize("version", ["9.1", "7.0"])
def test_subcommands_that_an_acl_takes_away_are_denied_one_by_one(start_server: Any, version: str) -> None:
    users = NEWER_USERS if version == "9.1" else NEWER_USERS.replace(" -client|no-touch", "")
    denied = survey(open_remote(url_of(start_server(version, users=users), "sub"))).denied
    assert set(denied) == {Ability.NO_TOUCH, Ability.NO_EVICT, Ability.FUNCTIONS, Ability.OBJECT}
    assert "this user may not run CLIENT NO-EVICT" in denied[Ability.NO_EVICT]


@pytest.mark.parametrize("version", VERSIONS)
def test_without_info_nothing_is_known_and_the_least_needed_is_named(start_server: Any, version: str) -> None:
    with pytest.raises(RemoteError) as told:
        survey(open_remote(url_of(start_server(version, users=USERS), "none")))
    assert told.value.fault is RemoteFault.DENIED
    assert "allow at least INFO" in told.value.advice


def test_a_replica_is_a_source_that_takes_no_writes(start_server: Any, wait_until: Any) -> None:
    primary, replica = start_server("8.1"), start_server("8.1", "--repl-diskless-sync-delay", "0")
    primary.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    primary.ask("SET", "a", 1)
    replica.ask("REPLICAOF", primary.host, 6379)
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "linked")
    seen = survey(open_remote(replica.url))
    assert (seen.role, seen.keys) == ("replica", 1)
    assert set(seen.denied) == {Ability.RESTORE}
    assert "takes no writes" in seen.denied[Ability.RESTORE]


def test_a_full_memory_denies_nothing(start_server: Any) -> None:
    assert survey(open_remote(start_server("9.1", "--maxmemory", "1").url)).denied == {}


@pytest.mark.parametrize(("version", "databases"), [("9.1", 3), ("6.2", 1)])
def test_a_cluster_is_the_sum_of_its_primaries(start_cluster: Any, version: str, databases: int) -> None:
    arguments = ("--cluster-databases", "3") if databases == 3 else ()
    nodes = start_cluster(version, arguments=arguments)
    for number in range(30):
        owner = nodes[next(i for i in range(3) if slot_of(b"%d" % number) < (i + 1) * 16384 // 3)]
        owner.ask("SET", number, number)
    for asked in (nodes[0], nodes[2]):
        seen = survey(open_remote(asked.url))
        assert (seen.mode, seen.role, seen.database_limit) == ("cluster", "primary", databases)
        assert [(node.host, node.port) for node in seen.nodes] == [(node.host, 6379) for node in nodes]
        assert [node.slots for node in seen.nodes] == [((0, 5460),), ((5461, 10921),), ((10922, 16383),)]
        assert len({node.run_id for node in seen.nodes}) == 3
        assert seen.databases == {0: DatabaseSize(30, 0)}
        assert set(seen.denied) == ABSENT[version]
    assert seen.nodes[1].lane == f"{nodes[1].host}:6379"
    nodes[1].stop()
    with pytest.raises(RemoteError, match=nodes[1].host) as told:
        survey(open_remote(nodes[0].url))
    assert told.value.fault is RemoteFault.UNREACHABLE


def test_a_lone_node_of_a_cluster_is_named_by_the_address_it_was_asked_at(start_cluster: Any) -> None:
    # It has met nobody who could have told it its own address.
    node = start_cluster("7.0", 1)[0]
    node.ask("CONFIG", "SET", "cluster-announce-ip", "")
    seen = survey(open_remote(node.url))
    assert seen.nodes == (Node(node.host, 6379, seen.nodes[0].run_id, ((0, 16383),)),)


def test_a_cluster_without_slots_is_not_there_yet(start_server: Any) -> None:
    with pytest.raises(RemoteError, match="no node of it has slots"):
        survey(open_remote(start_server("9.1", "--cluster-enabled", "yes").url))


@pytest.mark.parametrize(
    ("reply", "denied"),
    [
        (b"OK", False),
        (None, False),
        (Refusal("MOVED 1 a:1"), False),
        (Refusal("NOPERM No permissions to access a key"), False),
        (Refusal("NOPERM this user has no permissions to access one of the keys used as arguments"), False),
        (Refusal("OOM command not allowed when used memory > 'maxmemory'."), False),
        (Refusal("ERR DUMP payload version or checksum are wrong"), False),
        (Refusal("NOPERM this user has no permissions to run the 'dump' command or its subcommand"), True),
        (Refusal("NOPERM User keys has no permissions to run the 'dump' command"), True),
        (Refusal("ERR unknown command 'DUMP', with args beginning with: 'x'"), True),
        (Refusal("ERR This command is disabled"), True),
        (Refusal("READONLY You can't write against a read only replica."), True),
    ],
)
def test_only_a_refusal_of_the_command_itself_denies_it(reply: Any, denied: bool) -> None:
    assert (denial(Ability.DUMP, reply) is not None) is denied


def test_other_engines_count_as_the_redis_they_claim_to_be() -> None:
    from cachekeep.backup.survey import _target

    keydb = {"redis_version": "6.3.4", "executable": "/keydb"}
    assert _target(keydb, "a:1") == Target(Engine.REDIS, EngineVersion((6, 3, 4)))
    release_candidate = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0-rc1"}
    assert _target(release_candidate, "a:1") == Target(Engine.VALKEY, EngineVersion((9, 0, 0)))
    with pytest.raises(RemoteError, match="no version"):
        _target({}, "a:1")
