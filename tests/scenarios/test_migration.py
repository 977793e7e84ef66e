"""Migration in: a replication group takes the place of a living server that Cachekeep did not make."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import valkey

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.engine.facts import LATCHED
from cachekeep.host.installs import MachineCatalogue

from .conftest import connect, create_group, group_status, messages, wait_for

Created = list[tuple[str, str]]
Outside = Callable[..., Address]


@pytest.fixture
def outside(catalogue: MachineCatalogue, fresh_address: Callable[..., Address]) -> Iterator[Outside]:
    """`outside(*arguments, engine=, version=)` starts a server of somebody else's and returns where it listens.

    again_at: where one listened that has ended.
    """
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="cachekeep-outside-", ignore_cleanup_errors=True) as folder:

        def start(
            *arguments: str,
            engine: Engine = Engine.VALKEY,
            version: str | None = None,
            again_at: Address | None = None,
        ) -> Address:
            install = catalogue.best(engine, None if version is None else EngineVersion.parse(version))
            if install is None:
                pytest.skip(f"needs {engine.label} {version}")
            at, own = again_at or fresh_address(), Path(folder) / str(len(running))
            own.mkdir()
            command = [install.program, "--bind", at.host, "--port", str(at.port), "--dir", str(own), "--save", ""]
            command += ["--protected-mode", "no", "--repl-diskless-sync-delay", "0", *arguments]
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for(lambda: _answers(at))
            return at

        yield start
        for process in running:
            process.kill()
            process.wait()


def _answers(at: Address) -> bool:
    try:
        with valkey.Valkey(at.host, at.port, socket_timeout=5) as made:
            made.ping()
    except valkey.AuthenticationError:
        return True
    except (valkey.ValkeyError, OSError):
        return False
    return True


def client_of(at: Address) -> valkey.Valkey[Any]:
    return valkey.Valkey(at.host, at.port, socket_timeout=10, decode_responses=True)


def target(ec: Any, created: Created, name: str, **more: Any) -> dict[str, Any]:
    """A group that may be migrated to."""
    more = {"NumCacheClusters": 2, "AutomaticFailoverEnabled": True, "MultiAZEnabled": True, **more}
    return create_group(ec, created, name, **more)


def endpoint_list(at: Address) -> list[dict[str, Any]]:
    return [{"Address": at.host, "Port": at.port}]


def primary_of(group: dict[str, Any]) -> valkey.Valkey[Any]:
    return connect(group["NodeGroups"][0]["PrimaryEndpoint"])


class Writer(threading.Thread):
    """INCR after INCR of one key, until it is told to stop; acknowledged: the last answer."""

    def __init__(self, made: valkey.Valkey[Any], key: str) -> None:
        super().__init__(daemon=True)
        self._made, self._key = made, key
        self.acknowledged = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            self.acknowledged = int(self._made.incr(self._key))

    def stop(self) -> int:
        self.stopping.set()
        self.join(30)
        return self.acknowledged


def test_a_living_server_moves_in_without_a_lost_write(ec: Any, created: Created, name: str, outside: Outside) -> None:
    at = outside()
    source = client_of(at)
    source.mset({f"key:{n}": n for n in range(2000)})
    group = target(ec, created, name, NumCacheClusters=3)
    primary = primary_of(group)
    primary.set("old", "is replaced")
    answer = ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    assert answer["ReplicationGroup"]["Status"] == "migrating"
    with pytest.raises(ec.exceptions.ReplicationGroupAlreadyUnderMigrationFault):
        ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    writers = [Writer(client_of(at), f"count:{n}") for n in range(2)]
    for writer in writers:
        writer.start()
    wait_for(lambda: _is_linked(group), 60)
    with pytest.raises(valkey.ReadOnlyError):
        primary_of(group).set("a", "b")
    with pytest.raises(ec.exceptions.InvalidReplicationGroupStateFault):
        ec.modify_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="later")
    counts = [writer.stop() for writer in writers]
    assert min(counts) > 0
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert f"Complete Migration successful for {name}" in messages(ec, "replication-group", name)
    primary = primary_of(group)
    assert primary.info("replication")["role"] == "master"
    assert [int(primary.get(f"count:{n}") or 0) for n in range(2)] == counts
    assert (primary.get("key:1999"), primary.get("old")) == ("1999", None)
    assert primary.set("mine", "now")
    wait_for(lambda: primary.wait(2, 1000) == 2)
    assert client_of(at).get("mine") is None
    with pytest.raises(ec.exceptions.ReplicationGroupNotUnderMigrationFault):
        ec.complete_migration(ReplicationGroupId=name)


def _is_linked(group: dict[str, Any]) -> bool:
    try:
        return bool(primary_of(group).info("replication").get("master_link_status") == "up")
    except valkey.ConnectionError:  # clients are cut when it becomes a replica
        return False


def _completes(ec: Any, name: str) -> bool:
    """Refused until the service has seen that the link is up."""
    try:
        ec.complete_migration(ReplicationGroupId=name)
    except (ec.exceptions.MigrationHealthFault, ec.exceptions.InvalidReplicationGroupStateFault):
        return False
    return True


def test_a_source_is_really_tested(ec: Any, created: Created, name: str, outside: Outside) -> None:
    group = target(ec, created, name)
    at = outside()

    def tried(where: Address) -> str:
        """The event that tells the result; the group is available again."""
        before = len(messages(ec, "replication-group", name))
        ec.test_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(where))
        wait_for(lambda: group_status(ec, name) == "available", 30)
        new = messages(ec, "replication-group", name)[before:]
        return next(text for text in new if "igration" in text)

    assert tried(at) == f"Test migration successful for {name}"
    assert client_of(at).info("replication")["connected_slaves"] == 0
    nobody = Address(at.host, 1)
    assert tried(nobody).startswith(f"Test migration failed for {name} from {nobody}: cannot connect to")
    assert "asks for a password" in tried(outside("--requirepass", "secret"))
    assert "cluster mode" in tried(outside("--cluster-enabled", "yes"))
    assert "databases" in tried(outside("--databases", "64"))
    told = tried(outside("--rename-command", "PSYNC", ""))
    assert told.startswith(f"Test migration successful for {name}: ")
    assert "no PSYNC command" in told
    # A name for one of its own nodes that no list of addresses has.
    own = group["NodeGroups"][0]["PrimaryEndpoint"]
    with pytest.raises(ec.exceptions.InvalidParameterValueException):
        ec.test_migration(
            ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(Address(own["Address"], 6379))
        )
    plain = f"::ffff:{own['Address']}"
    assert "is a node of" in tried(Address(plain, own["Port"]))


def test_a_source_that_cannot_be_followed_leaves_the_group_as_it_was(
    ec: Any, created: Created, name: str, outside: Outside
) -> None:
    group = target(ec, created, name, Engine="redis", EngineVersion="6.2")
    primary_of(group).set("mine", "kept")
    newer = outside()
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(newer))
    wait_for(lambda: group_status(ec, name) == "available", 30)
    assert any("cannot replicate from Valkey" in text for text in messages(ec, "replication-group", name))
    assert primary_of(group).get("mine") == "kept"
    assert primary_of(group).set("mine", "still writable")


def test_a_member_that_dies_while_it_migrates_is_replaced(
    ec: Any, created: Created, name: str, outside: Outside, service: Any
) -> None:
    at = outside()
    client_of(at).set("a", "1")
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: _is_linked(group), 60)
    primary_of(group).execute_command("CONFIG", "SET", "timeout", "0")
    dying = int(primary_of(group).info("server")["process_id"])
    os.kill(dying, signal.SIGKILL)
    client_of(at).set("b", "2")
    wait_for(lambda: _follows(group, at, dying), 60)
    wait_for(lambda: primary_of(group).get("b") == "2", 30)
    wait_for(lambda: primary_of(group).info("replication")["connected_slaves"] == 1, 60)
    assert group_status(ec, name) == "migrating"
    # Given up: it goes on with what it has.
    ec.complete_migration(ReplicationGroupId=name, Force=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert primary_of(group).set("c", "3")
    assert primary_of(group).get("a") == "1"


def test_a_source_that_comes_back_empty_takes_nothing_along(
    ec: Any, created: Created, name: str, outside: Outside
) -> None:
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(1000)})
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: _latched(group), 60)
    # A link that breaks is made again: the source is what it was.
    client_of(at).execute_command("CLIENT", "KILL", "TYPE", "replica")
    client_of(at).set("later", "1")
    wait_for(lambda: _has(group, "later", "1"), 60)
    wait_for(lambda: _latched(group), 60)

    client_of(at).shutdown(nosave=True)
    outside(again_at=at)
    client_of(at).set("new", "1")
    # With one key or with none: it may be looked at before it is given the new one.
    wait_for(lambda: any("has been started anew with" in text for text in messages(ec, "replication-group", name)), 60)
    assert primary_of(group).dbsize() == 1001
    assert client_of(at).info("replication")["connected_slaves"] == 0
    with pytest.raises(ec.exceptions.MigrationHealthFault):
        ec.complete_migration(ReplicationGroupId=name)
    # Its data are put back: it is followed again.
    client_of(at).mset({f"key:{n}": n + 1 for n in range(1000)})
    wait_for(lambda: _has(group, "key:999", "1000"), 60)
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    primary = primary_of(group)
    assert primary.set("mine", "now")
    wait_for(lambda: primary.wait(1, 1000) == 1)
    wait_for(lambda: _unlatched(group))


def _latched(group: dict[str, Any]) -> bool:
    try:
        return bool(primary_of(group).config_get("masteruser")["masteruser"] == LATCHED)
    except valkey.ConnectionError:  # while a primary synchronises, it may be being replaced, or load
        return False


def _unlatched(group: dict[str, Any]) -> bool:
    """Seen to be so: a node that does not answer is neither."""
    try:
        return bool(primary_of(group).config_get("masteruser")["masteruser"] != LATCHED)
    except valkey.ConnectionError:
        return False


def _has(group: dict[str, Any], key: str, value: str) -> bool:
    try:
        return bool(primary_of(group).get(key) == value)
    except valkey.ConnectionError:
        return False


@pytest.mark.slow
def test_what_a_lost_source_left_is_kept_by_force_whatever_dies(
    ec: Any, created: Created, name: str, outside: Outside, service: Any
) -> None:
    """The primary dies while its source is empty: its replica does not follow either, and has the data."""
    at = outside()
    client_of(at).mset({f"key:{n}": n for n in range(1000)})
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    wait_for(lambda: _latched(group), 60)
    wait_for(lambda: primary_of(group).info("replication").get("slave0", {}).get("state") == "online", 60)
    client_of(at).shutdown(nosave=True)
    outside(again_at=at)
    os.kill(int(primary_of(group).info("server")["process_id"]), signal.SIGKILL)
    service.kill()
    service.start()
    wait_for(lambda: any("started anew with 0 keys" in text for text in messages(ec, "replication-group", name)), 60)
    ec.complete_migration(ReplicationGroupId=name, Force=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    primary = primary_of(group)
    assert primary.dbsize() == 1000
    assert primary.set("mine", "now")
    wait_for(lambda: primary.wait(1, 1000) == 1, 60)


def _follows(group: dict[str, Any], at: Address, dead: int) -> bool:
    try:
        info = primary_of(group).info()
    except valkey.ConnectionError:
        return False
    return info["process_id"] != dead and (info.get("master_host"), info.get("master_link_status")) == (at.host, "up")


def test_requests_that_cannot_be(ec: Any, created: Created, name: str, outside: Outside) -> None:
    somewhere = [{"Address": "127.0.0.1", "Port": 1}]
    faults = ec.exceptions
    with pytest.raises(faults.ReplicationGroupNotFoundFault):
        ec.start_migration(ReplicationGroupId="no-such-group", CustomerNodeEndpointList=somewhere)
    with pytest.raises(faults.ReplicationGroupNotFoundFault):
        ec.complete_migration(ReplicationGroupId="no-such-group")
    with pytest.raises(faults.ServerlessCacheNotFoundFault):
        ec.start_migration(ServerlessCacheName="no-such-cache")
    create_group(ec, created, name)
    with pytest.raises(faults.InvalidParameterCombinationException, match="Multi-AZ"):
        ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=somewhere)
    for wrong in (
        [],
        somewhere * 2,
        [{"Address": "a b", "Port": 1}],
        [{"Address": "a", "Port": 0}],
        [{"Address": "a"}],
    ):
        with pytest.raises(faults.InvalidParameterValueException):
            ec.test_migration(ReplicationGroupId=name, CustomerNodeEndpointList=wrong)
    with pytest.raises(faults.ReplicationGroupNotUnderMigrationFault):
        ec.complete_migration(ReplicationGroupId=name)


def test_serverless_caches(ec: Any, name: str) -> None:
    """What is refused of them, and when."""
    somewhere = [{"Address": "127.0.0.1", "Port": 1}]
    faults = ec.exceptions
    for operation in (ec.prepare_migration, ec.stop_migration):
        more = {"CustomerNodeEndpointList": somewhere} if operation == ec.prepare_migration else {}
        with pytest.raises(faults.ServerlessCacheNotFoundFault):
            operation(ServerlessCacheName="no-such-cache", **more)
    ec.create_serverless_cache(ServerlessCacheName=name, Engine="valkey")
    try:
        secret = {"SecretManagerConfig": {"SecretArn": "arn:aws:secretsmanager:us-east-1:0:secret:x"}}
        for more in (
            {"CustomerNodeEndpointList": []},
            {"CustomerNodeEndpointList": somewhere, "SourceAuthenticationConfiguration": secret},
            {"CustomerNodeEndpointList": somewhere, "SourceTlsConfiguration": {"SourceTlsMode": "verify-ca"}},
        ):
            with pytest.raises(faults.InvalidParameterValueException):
                ec.prepare_migration(ServerlessCacheName=name, **more)
        for operation in (ec.stop_migration, ec.start_migration, ec.complete_migration):
            with pytest.raises(faults.ServerlessCacheNotUnderMigrationFault):
                operation(ServerlessCacheName=name)
    finally:
        wait_for(lambda: _deletes(ec, name), 60)


def _deletes(ec: Any, name: str) -> bool:
    try:
        ec.delete_serverless_cache(ServerlessCacheName=name)
    except ec.exceptions.InvalidServerlessCacheStateFault:
        return False
    return True


@pytest.mark.slow
def test_a_source_that_lets_the_service_in_and_no_node_is_told(
    ec: Any, created: Created, name: str, outside: Outside
) -> None:
    """In protected mode a server answers 127.0.0.1 alone, where the service comes from and nodes do not."""
    at = outside("--protected-mode", "yes", engine=Engine.REDIS, version="7.0")
    client_of(at).set("a", "1")
    group = target(ec, created, name)
    ec.start_migration(ReplicationGroupId=name, CustomerNodeEndpointList=endpoint_list(at))
    told = wait_for(lambda: [m for m in messages(ec, "replication-group", name) if "has no link to" in m], 60)
    assert "protected mode" in told[0]
    client_of(at).config_set("protected-mode", "no")
    wait_for(lambda: _is_linked(group), 60)
    wait_for(lambda: _completes(ec, name), 60)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    assert primary_of(group).get("a") == "1"
