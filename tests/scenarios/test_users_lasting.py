"""What guards a cache lasts: through more shards, failovers, upgrades; and a hundred users change at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from .conftest import Service, create_group, group_status, wait_for
from .test_users import PASSWORDS, Made, ec, gets_in, guarded, made, nodes_of

__all__ = ["ec", "guarded", "made"]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "version"), [("valkey", "9.1"), ("valkey", "8.1"), ("redis", "7.0")])
def test_slots_move_between_guarded_shards(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made, engine: str, version: str
) -> None:
    """Atomically (Valkey 9) and key by key, with nodes that log in to one another."""
    ann, default = made.user(), made.user("off ~* +@all", name="default")
    users = made.user_group(ann, default, engine="redis")
    ec.create_replication_group(
        ReplicationGroupId=name,
        ReplicationGroupDescription="test",
        Engine=engine,
        EngineVersion=version,
        UserGroupIds=[users],
        NumNodeGroups=2,
        ReplicasPerNodeGroup=1,
        CacheParameterGroupName=f"default.{engine}{version.partition('.')[0]}.cluster.on",
    )
    created.append(("group", name))
    wait_for(lambda: group_status(ec, name) == "available", 60)
    endpoint = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["ConfigurationEndpoint"]
    login = {"username": ann, "password": PASSWORDS[0]}
    with ValkeyCluster(host=endpoint["Address"], port=endpoint["Port"], decode_responses=True, **login) as cluster:
        for number in range(500):
            cluster.set(f"k{number}", str(number))
        ec.modify_replication_group_shard_configuration(
            ReplicationGroupId=name, NodeGroupCount=3, ApplyImmediately=True
        )
        wait_for(lambda: group_status(ec, name) == "available", 120)
        cluster.nodes_manager.initialize()
        assert [cluster.get(f"k{number}") for number in range(500)] == [str(number) for number in range(500)]
    for end in nodes_of(ec, name):
        assert not gets_in(made, end)
        link = made.client(end, ann, PASSWORDS[0])
        assert link.execute_command("ACL", "WHOAMI") == ann
        role = link.info("replication")
        assert role["role"] == "master" or role["master_link_status"] == "up"


@pytest.mark.slow
def test_failover_and_upgrade_keep_the_users(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    ann = made.user()
    users = made.user_group(ann)
    create_group(ec, created, name, UserGroupIds=[users], EngineVersion="8.1", AutomaticFailoverEnabled=True)
    endpoint = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["NodeGroups"][0][
        "PrimaryEndpoint"
    ]
    link = made.client(endpoint, ann, PASSWORDS[0])
    link.set("k", "v")
    wait_for(lambda: link.wait(1, 1000) == 1)
    (victim,) = [pid for pid, folder in guarded.engines().items() if f"/{name}-001/" in folder]
    os.kill(victim, signal.SIGKILL)

    def value() -> str | None:
        try:
            return str(made.client(endpoint, ann, PASSWORDS[0]).get("k"))
        except (valkey.ConnectionError, valkey.TimeoutError):
            return None

    wait_for(lambda: value() == "v", 60)

    def whole() -> bool:
        try:
            ends = nodes_of(ec, name)
            return group_status(ec, name) == "available" and all(gets_in(made, e, ann, PASSWORDS[0]) for e in ends)
        except valkey.ConnectionError:  # the dead one is not back yet
            return False

    wait_for(whole, 60)
    ec.modify_replication_group(ReplicationGroupId=name, EngineVersion="9.1", ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available", 120)
    assert made.client(endpoint, ann, PASSWORDS[0]).info("server")["valkey_version"].startswith("9.1")
    assert value() == "v"
    assert not any(gets_in(made, end) for end in (endpoint, *nodes_of(ec, name)))


@pytest.mark.slow
def test_a_hundred_users_change_on_many_nodes(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told, not asserted in seconds: `pytest -s` shows how long it took."""
    ids = [made.user() for _ in range(100)]
    users = made.user_group(*ids)
    count = 4
    for number in range(count):
        create_group(ec, created, f"{name}-{number}", UserGroupIds=[users], NumCacheClusters=2)
    ends = [end for number in range(count) for end in nodes_of(ec, f"{name}-{number}")]
    begun = time.monotonic()
    for one in ids:
        ec.modify_user(UserId=one, Passwords=[PASSWORDS[1]])
    asked = time.monotonic()
    wait_for(lambda: all(user["Status"] == "active" for user in ec.describe_users()["Users"]), 60)
    ended = time.monotonic()
    with capsys.disabled():
        print(f"\n100 ModifyUser in {asked - begun:.2f} s; {len(ends)} nodes had all {ended - asked:.2f} s later")
    for end in ends:
        assert gets_in(made, end, ids[0], PASSWORDS[1])
        assert not gets_in(made, end, ids[-1], PASSWORDS[0])


@pytest.mark.slow
def test_service_does_not_start_without_the_password_of_living_guarded_engines(
    new_service: Callable[..., Service], created: list[tuple[str, str]], name: str
) -> None:
    """A new one would lock it out of what it keeps."""
    service = new_service(CACHEKEEP_AUTH_WITHOUT_TLS="yes").start()
    create_group(service.client(), created, name, AuthToken="a-token-of-twenty", NumCacheClusters=1)
    created.pop()
    service.stop()
    path = service.state_dir / "engine-password"
    kept = path.read_text()
    path.unlink()
    with pytest.raises(AssertionError, match="engine-password is missing, and 1 engines"):
        service.start()
    assert not path.exists()
    path.write_text(kept)
    path.chmod(0o600)
    service.start()
    (end,) = nodes_of(service.client(), name)
    with valkey.Valkey(host=end["Address"], port=end["Port"], password="a-token-of-twenty") as link:
        assert link.ping()
