"""IAM users of groups: tokens as AWS's clients make them, real engines, policies of keys, kills of the service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError
from valkey.exceptions import AuthenticationError, ResponseError

from cachekeep import credentials
from cachekeep.access.trail_file import read_trail
from cachekeep.credentials import AccessKey
from tests.iam_tokens import make_token

from .conftest import Service, connect, create_group, group_status, wait_for

PASSWORD = "password-of-the-other-user"
ARN = "arn:aws:elasticache:us-east-1:000000000000:"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    range_ = list(loopback_range.subnets(new_prefix=26))[-2]
    it = Service(tmp_path_factory.mktemp("tokens") / "state", range_, CACHEKEEP_AUTH_WITHOUT_TLS="yes")
    yield it.start()
    it.dispose()


@pytest.fixture
def ec(guarded: Service) -> Any:
    return guarded.client()


def iam_user(ec: Any, name: str) -> None:
    ec.create_user(UserId=name, UserName=name, Engine="valkey", AccessString="on ~* +@all -@dangerous",
                   AuthenticationMode={"Type": "iam"})  # fmt: skip


def user_group(ec: Any, name: str, *users: str) -> None:
    ec.create_user_group(UserGroupId=name, Engine="valkey", UserIds=list(users))
    settled(ec, name)


def settled(ec: Any, name: str) -> None:
    wait_for(lambda: ec.describe_user_groups(UserGroupId=name)["UserGroups"][0]["Status"] == "active")


def enter(endpoint: dict[str, Any], user: str, password: str) -> str:
    """Who it is then. Raises what the client raises."""
    with valkey.Valkey(
        host=endpoint["Address"], port=endpoint["Port"], username=user, password=password, socket_timeout=20,
        decode_responses=True,
    ) as made:  # fmt: skip
        made.get("key")
        return str(made.acl_whoami())


def endpoints(shape: dict[str, Any]) -> list[dict[str, Any]]:
    (shard,) = shape["NodeGroups"]
    return [shard["PrimaryEndpoint"], *(member["ReadEndpoint"] for member in shard["NodeGroupMembers"])]


def refused(endpoint: dict[str, Any], user: str, password: str) -> bool:
    with pytest.raises(AuthenticationError, match="invalid username-password"):
        enter(endpoint, user, password)
    return True


def policy_key(service: Service, folder: Path, name: str, *resources: str) -> AccessKey:
    path = folder / "policy.json"
    statement = {"Effect": "Allow", "Action": "elasticache:Connect", "Resource": list(resources)}
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    made = subprocess.run(
        [sys.executable, "-m", "cachekeep", "keys", "add", name, "--policy", str(path), "--json"],
        env=service.environment, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    page = json.loads(made.stdout)
    return AccessKey(page["key"], page["secret"])


def test_a_token_opens_its_group_for_its_user_and_nothing_else(
    guarded: Service, ec: Any, created: list[tuple[str, str]], tmp_path: Path
) -> None:
    iam_user(ec, "alice")
    ec.create_user(UserId="bob", UserName="bob", Engine="valkey", AccessString="on ~* +@all", Passwords=[PASSWORD])
    user_group(ec, "staff", "alice", "bob")
    group = create_group(ec, created, "orders", Engine="valkey", UserGroupIds=["staff"])
    root = credentials.load(guarded.state_dir)

    def token(cache: str = "orders", user: str = "alice", key: AccessKey = root, **more: Any) -> str:
        return make_token(cache, user, key.id, key.secret, **more)

    good = token()
    for endpoint in endpoints(group):
        assert wait_for(lambda e=endpoint: enter(e, "alice", good)) == "alice"
        assert enter(endpoint, "alice", good) == "alice"  # as often as it is sent
        assert enter(endpoint, "bob", PASSWORD) == "bob"
        for user, password in (
            ("alice", PASSWORD),
            ("alice", token("others")),
            ("alice", token(user="bob")),
            ("bob", token(user="bob")),
            ("cachekeep", token(user="cachekeep")),
            ("default", good),
            ("alice", token(region="eu-west-1")),
            ("alice", good.replace("User=alice", "User=bob")),
        ):
            assert refused(endpoint, user, password), (user, password.partition("&X-Amz")[0])

    primary = endpoints(group)[0]
    keys = [
        policy_key(guarded, tmp_path, name, *resources)
        for name, resources in (
            ("may", (ARN + "replicationgroup:orders", ARN + "user:alice")),
            ("may-not", (ARN + "replicationgroup:orders", ARN + "user:carol")),
        )
    ]
    assert enter(primary, "alice", token(key=keys[0])) == "alice"
    assert refused(primary, "alice", token(key=keys[1]))
    told = [page for page in read_trail(guarded.state_dir) if page["action"] == "elasticache:Connect"]
    assert [(page["user"], page["outcome"]) for page in told] == [("may-not", "AccessDenied")]

    # Killed, the service lets nobody in; started again, it goes on with the engines that run.
    guarded.kill()
    with pytest.raises(ResponseError, match="not available now"):
        enter(primary, "alice", good)
    assert enter(primary, "bob", PASSWORD) == "bob"
    guarded.start()
    assert wait_for(lambda: enter(primary, "alice", good)) == "alice"
    _nothing_told(guarded, good, keys[0].secret)

    # A user that goes by password from now on, or is gone, has no token any more.
    ec.modify_user(UserId="alice", AuthenticationMode={"Type": "password", "Passwords": [PASSWORD]})
    wait_for(lambda: ec.describe_users(UserId="alice")["Users"][0]["Status"] == "active")
    assert refused(primary, "alice", good)
    assert enter(primary, "alice", PASSWORD) == "alice"


def _nothing_told(service: Service, token: str, secret: str) -> None:
    """Neither token nor secret in the log, the audit log, or a node's folder."""
    signature = token.rpartition("=")[2]
    texts = [service.log, *service.state_dir.glob("audit*"), *service.nodes_root.rglob("*.log"),
             *service.nodes_root.rglob("*.conf"), *service.nodes_root.rglob("*.json")]  # fmt: skip
    assert service.state_dir / "audit.log" in texts
    for path in texts:
        text = path.read_text("utf-8", "replace")
        assert signature not in text, path
        assert secret not in text, path


def test_new_nodes_and_new_primaries_take_tokens(guarded: Service, ec: Any, created: list[tuple[str, str]]) -> None:
    iam_user(ec, "dora")
    user_group(ec, "crew", "dora")
    create_group(ec, created, "grown", Engine="valkey", UserGroupIds=["crew"], AutomaticFailoverEnabled=True)
    key = credentials.load(guarded.state_dir)
    token = make_token("grown", "dora", key.id, key.secret)
    ec.increase_replica_count(ReplicationGroupId="grown", NewReplicaCount=2, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, "grown") == "available", 60.0)
    ec.test_failover(ReplicationGroupId="grown", NodeGroupId="0001")
    wait_for(lambda: group_status(ec, "grown") == "available", 60.0)
    (group,) = ec.describe_replication_groups(ReplicationGroupId="grown")["ReplicationGroups"]
    assert len(endpoints(group)) == 4
    for endpoint in endpoints(group):
        assert enter(endpoint, "dora", token) == "dora"


@pytest.mark.slow
def test_where_no_engine_takes_tokens_iam_is_refused_with_the_reason(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    empty = tmp_path / "no-compiler"
    empty.mkdir()
    service = new_service(PATH=str(empty), CACHEKEEP_AUTH_WITHOUT_TLS="yes").start()
    ec = service.client()
    with pytest.raises(ClientError, match="IAM authentication is not available here: no C compiler") as caught:
        iam_user(ec, "alice")
    assert caught.value.response["Error"]["Code"] == "InvalidParameterCombination"
    assert [user["UserId"] for user in ec.describe_users()["Users"]] == ["default"]


@pytest.mark.slow
def test_groups_that_could_never_let_an_iam_user_in_refuse_it(
    new_service: Callable[..., Service], created: list[tuple[str, str]]
) -> None:
    service = new_service(CACHEKEEP_AUTH_WITHOUT_TLS="yes").start()
    ec = service.client()
    ec.create_user(UserId="bob", UserName="bob", Engine="redis", AccessString="on ~* +@all", Passwords=[PASSWORD])
    ec.create_user(UserId="d", UserName="default", Engine="redis", AccessString="on ~* +@all", Passwords=[PASSWORD])
    ec.create_user_group(UserGroupId="olds", Engine="redis", UserIds=["bob", "d"])
    user_group(ec, "staff", "bob")
    settled(ec, "olds")
    create_group(ec, created, "early", Engine="valkey", NumCacheClusters=1, UserGroupIds=["staff"])
    create_group(ec, created, "redis", Engine="redis", EngineVersion="6.2", NumCacheClusters=1, UserGroupIds=["olds"])
    ec.create_user(UserId="alice", UserName="alice", Engine="redis", AccessString="on ~* +@all",
                   AuthenticationMode={"Type": "iam"})  # fmt: skip
    with pytest.raises(ClientError, match=r"needs Valkey 8\.0 or newer"):
        ec.modify_user_group(UserGroupId="olds", UserIdsToAdd=["alice"])
    with pytest.raises(ClientError, match="reboot it"):
        ec.modify_user_group(UserGroupId="staff", UserIdsToAdd=["alice"])
    with pytest.raises(ClientError, match=r"reboot it|needs Valkey 8\.0"):
        ec.modify_user(UserId="bob", AuthenticationMode={"Type": "iam"})
    ec.reboot_cache_cluster(CacheClusterId="early-001", CacheNodeIdsToReboot=["0001"])
    wait_for(lambda: _added(ec), 60.0)
    settled(ec, "staff")
    key = credentials.load(service.state_dir)
    (group,) = ec.describe_replication_groups(ReplicationGroupId="early")["ReplicationGroups"]
    token = make_token("early", "alice", key.id, key.secret)
    assert wait_for(lambda: enter(endpoints(group)[0], "alice", token)) == "alice"
    with pytest.raises(valkey.AuthenticationError):
        connect(endpoints(group)[0]).ping()


def _added(ec: Any) -> bool:
    """False while the node is not up again."""
    with suppress(ec.exceptions.InvalidParameterCombinationException):
        ec.modify_user_group(UserGroupId="staff", UserIdsToAdd=["alice"])
        return True
    return False
