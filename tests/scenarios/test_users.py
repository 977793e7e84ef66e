"""Users, user groups and tokens, on a real service and real engines. Roles are checked on the engines themselves.

TLS is not what this is about: the service runs with the setting that does without it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError

from cachekeep import credentials

from .conftest import Service, create_cluster, create_group, group_status, messages, wait_for

PASSWORDS = ("first-password-of-ann", "second-password-of-ann")
_numbers = count(1)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    last = list(loopback_range.subnets(new_prefix=26))[-1]
    it = Service(tmp_path_factory.mktemp("guarded") / "state", last, CACHEKEEP_AUTH_WITHOUT_TLS="yes")
    yield it.start()
    it.dispose()


@pytest.fixture
def ec(guarded: Service) -> Any:
    return guarded.client()


class Made:
    """Makes users and groups with names of their own, and clients to nodes."""

    def __init__(self, ec: Any, stack: ExitStack) -> None:
        self.ec, self.stack = ec, stack

    def user(self, text: str = "on ~* +@all", *passwords: str, name: str = "", engine: str = "redis") -> str:
        user_id = f"u{next(_numbers)}"
        self.ec.create_user(
            UserId=user_id,
            UserName=name or user_id,
            Engine=engine,
            AccessString=text,
            **({"Passwords": list(passwords)} if passwords else {"Passwords": [PASSWORDS[0]]}),
        )
        return user_id

    def user_group(self, *user_ids: str, engine: str = "valkey") -> str:
        group_id = f"ug{next(_numbers)}"
        self.ec.create_user_group(UserGroupId=group_id, Engine=engine, UserIds=list(user_ids))
        self.settled(group_id)
        return group_id

    def settled(self, group_id: str) -> None:
        wait_for(lambda: self.user_group_shape(group_id)["Status"] == "active")

    def user_settled(self, user_id: str) -> None:
        wait_for(lambda: self.ec.describe_users(UserId=user_id)["Users"][0]["Status"] == "active")

    def user_group_shape(self, group_id: str) -> dict[str, Any]:
        return dict(self.ec.describe_user_groups(UserGroupId=group_id)["UserGroups"][0])

    def client(self, endpoint: dict[str, Any], name: str | None = None, password: str | None = None) -> Any:
        made = valkey.Valkey(
            host=endpoint["Address"],
            port=endpoint["Port"],
            username=name,
            password=password,
            socket_timeout=10,
            decode_responses=True,
        )
        return self.stack.enter_context(made)


@pytest.fixture
def made(ec: Any) -> Iterator[Made]:
    with ExitStack() as stack:
        yield Made(ec, stack)


def nodes_of(ec: Any, group: str) -> list[dict[str, Any]]:
    shape = ec.describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]
    clusters = [ec.describe_cache_clusters(CacheClusterId=m, ShowCacheNodeInfo=True) for m in shape["MemberClusters"]]
    return [c["CacheClusters"][0]["CacheNodes"][0]["Endpoint"] for c in clusters]


def gets_in(made: Made, endpoint: dict[str, Any], name: str | None = None, password: str | None = None) -> bool:
    try:
        return bool(made.client(endpoint, name, password).execute_command("ACL", "WHOAMI") == (name or "default"))
    except (valkey.AuthenticationError, valkey.ResponseError):
        return False


def code_of(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


def test_users_of_a_group_are_enforced_on_every_node(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    """On both members, on a third that comes later, after a node died, and after the service was killed."""
    ann, bob = made.user("on ~* +@all", *PASSWORDS), made.user("on ~bob:* -@all +@read +@connection +acl|whoami")
    users = made.user_group(ann, bob)
    create_group(ec, created, name, UserGroupIds=[users], AutomaticFailoverEnabled=True)
    assert made.user_group_shape(users)["ReplicationGroups"] == [name]

    def check(endpoint: dict[str, Any]) -> None:
        assert not gets_in(made, endpoint), "nobody comes in without a name"
        assert not gets_in(made, endpoint, ann, "wrong" * 5)
        assert all(gets_in(made, endpoint, ann, one) for one in PASSWORDS)
        link = made.client(endpoint, bob, PASSWORDS[0])
        assert link.get("bob:1") is None
        with pytest.raises(valkey.exceptions.NoPermissionError):
            link.get("other")

    for endpoint in nodes_of(ec, name):
        check(endpoint)
    primary = made.client(nodes_of(ec, name)[0], ann, PASSWORDS[0])
    assert primary.set("k", "v")
    assert primary.wait(1, 10_000) == 1
    ec.increase_replica_count(ReplicationGroupId=name, NewReplicaCount=2, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available", 60)
    guarded.kill()
    guarded.start()
    (victim,) = [pid for pid, folder in guarded.engines().items() if f"/{name}-001/" in folder]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: "Finished recovery" in str(messages(ec, "cache-cluster", f"{name}-001")), 60)
    for endpoint in nodes_of(ec, name):
        check(endpoint)
        assert made.client(endpoint, ann, PASSWORDS[1]).get("k") == "v"


def test_a_changed_user_is_cut_off_on_every_node(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    ann = made.user("on ~* +@all", *PASSWORDS)
    users = made.user_group(ann)
    create_group(ec, created, name, UserGroupIds=[users])
    pools = [made.client(endpoint, ann, PASSWORDS[0]).connection_pool for endpoint in nodes_of(ec, name)]
    links = [pool.get_connection("kept") for pool in pools]
    changed = ec.modify_user(UserId=ann, Passwords=[PASSWORDS[1]])
    assert changed["Status"] == "modifying"
    made.user_settled(ann)
    for endpoint, link in zip(nodes_of(ec, name), links, strict=True):
        assert not gets_in(made, endpoint, ann, PASSWORDS[0])
        assert gets_in(made, endpoint, ann, PASSWORDS[1])
        assert _is_cut(link), "a connection that came in by a password that went"
    ec.modify_user(UserId=ann, AccessString="off")
    made.user_settled(ann)
    assert not any(gets_in(made, endpoint, ann, PASSWORDS[1]) for endpoint in nodes_of(ec, name))
    assert messages(ec, "user", ann) == [f"User {ann} created", *[f"User {ann} modified"] * 2]


def _is_cut(link: Any) -> bool:
    try:
        link.send_command("PING")
        link.read_response()
    except valkey.ConnectionError:
        return True
    return False


def test_a_deleted_user_is_gone_everywhere(ec: Any, created: list[tuple[str, str]], name: str, made: Made) -> None:
    ann, bob = made.user(), made.user()
    users = made.user_group(ann, bob)
    create_group(ec, created, name, UserGroupIds=[users], NumCacheClusters=1)
    (endpoint,) = nodes_of(ec, name)
    assert gets_in(made, endpoint, bob, PASSWORDS[0])
    assert ec.delete_user(UserId=bob)["Status"] == "deleting"
    wait_for(lambda: _is_missing(ec, bob))
    assert not gets_in(made, endpoint, bob, PASSWORDS[0])
    assert gets_in(made, endpoint, ann, PASSWORDS[0])
    made.settled(users)
    assert made.user_group_shape(users)["UserIds"] == [ann]


def _is_missing(ec: Any, user_id: str) -> bool:
    try:
        ec.describe_users(UserId=user_id)
    except ec.exceptions.UserNotFoundFault:
        return True
    return False


def test_users_are_described_and_filtered(ec: Any, made: Made) -> None:
    ann = made.user("on ~a:* +@read", *PASSWORDS)
    bob = made.user("on (~b:* +@all) %R~c:*", engine="valkey")
    users = made.user_group(ann, bob)
    (shape,) = ec.describe_users(UserId=ann.upper())["Users"]
    assert shape["Authentication"] == {"Type": "password", "PasswordCount": 2}
    assert (shape["AccessString"], shape["UserGroupIds"], shape["Status"]) == ("on ~a:* +@read", [users], "active")
    assert (shape["MinimumEngineVersion"], shape["ARN"].split(":")[-2:]) == ("6.0", ["user", ann])
    everybody = {user["UserId"]: user for user in ec.describe_users()["Users"]}
    assert everybody["default"]["Authentication"] == {"Type": "no-password"}
    assert everybody[bob]["MinimumEngineVersion"] == "7.2"

    def found(name: str, *values: str) -> set[str]:
        return {u["UserId"] for u in ec.describe_users(Filters=[{"Name": name, "Values": list(values)}])["Users"]}

    assert found("user-id", ann, bob) == {ann, bob} == found("user-group", users)
    assert bob not in {user["UserId"] for user in ec.describe_users(Engine="redis")["Users"]}
    ec.add_tags_to_resource(ResourceName=shape["ARN"], Tags=[{"Key": "team", "Value": "a"}])
    assert ec.list_tags_for_resource(ResourceName=shape["ARN"])["TagList"] == [{"Key": "team", "Value": "a"}]


def test_a_user_group_of_many_caches_changes_under_load(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    """Writers of a user who stays never notice that others come and go, on every cache of the group."""
    ann, bob = made.user(), made.user()
    users = made.user_group(ann)
    names = [f"{name}-{n}" for n in range(3)]
    for one in names:
        create_group(ec, created, one, UserGroupIds=[users], NumCacheClusters=1)
    endpoints = [nodes_of(ec, one)[0] for one in names]
    ended, errors = threading.Event(), list[Exception]()
    written = [0] * len(endpoints)

    def write(at: int) -> None:
        link = made.client(endpoints[at], ann, PASSWORDS[0]).connection_pool.get_connection("writer")
        try:
            while not ended.is_set():
                link.send_command("INCR", "n")
                written[at] = link.read_response()
        except (valkey.ValkeyError, OSError) as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(at,)) for at in range(len(endpoints))]
    for writer in writers:
        writer.start()
    for change in ("UserIdsToAdd", "UserIdsToRemove") * 5:
        pending = ec.modify_user_group(UserGroupId=users, **{change: [bob]})["PendingChanges"]
        assert pending == {"UserIdsToAdd": [], "UserIdsToRemove": [], change: [bob]}
        made.settled(users)
        inside = change == "UserIdsToAdd"
        assert [gets_in(made, endpoint, bob, PASSWORDS[0]) for endpoint in endpoints] == [inside] * len(endpoints)
    ended.set()
    for writer in writers:
        writer.join(20)
    assert errors == []
    assert [int(made.client(e, ann, PASSWORDS[0]).get("n")) for e in endpoints] == written


def test_a_user_group_in_use_is_kept(ec: Any, created: list[tuple[str, str]], name: str, made: Made) -> None:
    users = made.user_group(made.user())
    create_group(ec, created, name, UserGroupIds=[users], NumCacheClusters=1)
    assert code_of(ec.delete_user_group, UserGroupId=users) == "InvalidUserGroupState"
    (endpoint,) = nodes_of(ec, name)
    assert not gets_in(made, endpoint)
    shape = ec.modify_replication_group(ReplicationGroupId=name, RemoveUserGroups=True, ApplyImmediately=True)
    pending = shape["ReplicationGroup"]["PendingModifiedValues"]["UserGroups"]
    assert pending == {"UserGroupIdsToAdd": [], "UserGroupIdsToRemove": [users]}
    wait_for(lambda: group_status(ec, name) == "available")
    # What nothing guards any more is open, as it was asked for.
    assert made.client(endpoint).execute_command("ACL", "WHOAMI") == "default"
    ec.delete_user_group(UserGroupId=users)
    wait_for(lambda: users not in {g["UserGroupId"] for g in ec.describe_user_groups()["UserGroups"]})


def test_a_token_is_set_rotated_and_exchanged_for_users(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    old, new, last = ("token-number-" + word * 3 for word in ("one", "two", "six"))
    group = create_group(ec, created, name, AuthToken=old)
    assert group["AuthTokenEnabled"]
    assert group["AuthTokenLastModifiedDate"]

    def modify(**how: Any) -> dict[str, Any]:
        shape = ec.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True, **how)["ReplicationGroup"]
        wait_for(lambda: group_status(ec, name) == "available")
        return dict(shape["PendingModifiedValues"])

    def who() -> list[bool]:
        ends = nodes_of(ec, name)
        answers = {tuple(gets_in(made, end, "default", one) for one in (old, new, last)) for end in ends}
        assert len(answers) == 1, "all nodes say the same"
        assert not any(gets_in(made, end) for end in ends)
        return list(answers.pop())

    assert who() == [True, False, False]
    assert ec.describe_cache_clusters(CacheClusterId=f"{name}-001")["CacheClusters"][0]["AuthTokenEnabled"]
    assert modify(AuthToken=new)["AuthTokenStatus"] == "ROTATING"
    assert who() == [True, True, False]
    modify(AuthToken=last, AuthTokenUpdateStrategy="ROTATE")
    assert who() == [False, True, True]
    set_ = {"ReplicationGroupId": name, "ApplyImmediately": True, "AuthTokenUpdateStrategy": "SET"}
    assert code_of(ec.modify_replication_group, AuthToken=new, **set_) == "InvalidParameterCombination"
    assert modify(AuthToken=last, AuthTokenUpdateStrategy="SET")["AuthTokenStatus"] == "SETTING"
    assert who() == [False, False, True]
    ann = made.user()
    users = made.user_group(ann)
    modify(AuthTokenUpdateStrategy="DELETE", UserGroupIdsToAdd=[users])
    assert who() == [False, False, False]
    assert all(gets_in(made, end, ann, PASSWORDS[0]) for end in nodes_of(ec, name))
    assert not ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["AuthTokenEnabled"]


def test_a_cluster_of_its_own_takes_its_token_into_a_group_and_out_again(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    token = "token-of-a-single-cluster"
    cluster = create_cluster(ec, created, name, AuthToken=token)
    assert cluster["AuthTokenEnabled"]
    endpoint = cluster["CacheNodes"][0]["Endpoint"]
    assert [gets_in(made, endpoint), gets_in(made, endpoint, "default", token)] == [False, True]
    made.client(endpoint, "default", token).set("k", "v")
    create_group(ec, created, f"{name}-g", PrimaryClusterId=name, NumCacheClusters=2)
    created.pop()
    wait_for(lambda: group_status(ec, f"{name}-g") == "available", 60)
    for end in nodes_of(ec, f"{name}-g"):
        assert not gets_in(made, end)
        wait_for(lambda end=end: made.client(end, "default", token).get("k") == "v")
    ec.delete_replication_group(ReplicationGroupId=f"{name}-g", RetainPrimaryCluster=True)
    wait_for(lambda: f"{name}-g" not in str(ec.describe_replication_groups()["ReplicationGroups"]), 60)
    assert [gets_in(made, endpoint), gets_in(made, endpoint, "default", token)] == [False, True]


def test_nothing_secret_is_told(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    token, password = "the-token-that-nobody-sees", "the-password-that-nobody-sees"
    ann = made.user("on ~* +@all", password)
    users = made.user_group(ann)
    create_group(ec, created, name, UserGroupIds=[users], NumCacheClusters=1)
    create_group(ec, created, f"{name}-t", AuthToken=token, NumCacheClusters=1)
    with suppress(ClientError):  # refused, with a text that must not repeat it
        ec.modify_replication_group(
            ReplicationGroupId=f"{name}-t", AuthToken=token + "/", AuthTokenUpdateStrategy="ROTATE"
        )
    own = credentials.load_engine_password(guarded.state_dir)
    secrets = [token, password, own]
    told = json.dumps(
        [
            ec.describe_users(),
            ec.describe_user_groups(),
            ec.describe_replication_groups(),
            ec.describe_cache_clusters(ShowCacheNodeInfo=True),
            ec.describe_events(Duration=60),
        ],
        default=str,
    )
    command = [sys.executable, "-m", "cachekeep", "journal", name]
    journal = subprocess.run(command, env=guarded.environment, capture_output=True, text=True, check=True)
    told += journal.stdout + guarded.log.read_text()
    for pid, folder in guarded.engines().items():
        files = [Path(f"/proc/{pid}/{file}") for file in ("cmdline", "environ")]
        files += [Path(folder) / file for file in ("node.json", "engine.log", "engine.conf")]
        told += "".join(path.read_bytes().decode("utf-8", "replace") for path in files)
    for path in guarded.state_dir.glob("store.sqlite*"):
        told += path.read_bytes().decode("utf-8", "replace")
    assert [secret for secret in secrets if secret in told] == []
    assert ann in told


def test_rules_of_users(ec: Any, made: Made) -> None:
    ann = made.user(name="same")
    base = {"UserId": "fresh", "UserName": "fresh", "Engine": "redis", "AccessString": "on ~* +@all"}
    free = {"NoPasswordRequired": True}
    create = ec.create_user
    assert code_of(create, **(base | free | {"UserId": ann})) == "UserAlreadyExists"
    assert code_of(create, **base) == "InvalidParameterCombination"
    assert code_of(create, **base, Passwords=["short"]) == "InvalidParameterValue"
    assert code_of(create, **base, Passwords=["x" * 16, "y" * 16, "z" * 16]) == "InvalidParameterValue"
    assert code_of(create, **base, **free, Passwords=["x" * 16]) == "InvalidParameterCombination"
    assert code_of(create, **(base | free | {"UserName": "cachekeep"})) == "InvalidParameterValue"
    assert code_of(create, **base, AuthenticationMode={"Type": "iam", "Passwords": ["x" * 16]}) == (
        "InvalidParameterCombination"
    )
    for text in ("on >pw ~* +@all", "on nopass", "reset", "on ~* +nosuch", "on ~* +@nosuch", "on ~* +config", "(on ~*"):
        assert code_of(create, **(base | free | {"AccessString": text})) == "InvalidParameterValue", text
    assert code_of(ec.modify_user, UserId="default", AccessString="off") == "InvalidParameterValue"
    assert code_of(ec.modify_user, UserId="nobody", AccessString="off") == "UserNotFound"
    grown = ec.modify_user(UserId=ann, AppendAccessString="-flushall")
    assert grown["AccessString"] == "on ~* +@all -flushall"
    made.user_settled(ann)


def test_rules_of_user_groups(ec: Any, made: Made) -> None:
    ann, bob = made.user(name="same"), made.user(name="same")
    mine = made.user(name="default")
    create = ec.create_user_group
    wrong = {"UserGroupId": "fresh", "Engine": "redis"}
    assert code_of(create, **wrong, UserIds=[ann]) == "DefaultUserRequired"
    assert code_of(create, **wrong, UserIds=["default", ann, bob]) == "DuplicateUserName"
    assert code_of(create, **wrong, UserIds=["default", mine]) == "DuplicateUserName"
    assert code_of(create, **wrong, UserIds=["nobody"]) == "UserNotFound"
    assert code_of(create, **(wrong | {"Engine": "valkey"}), UserIds=["default"]) == "InvalidParameterValue"
    users = made.user_group("default", ann, engine="redis")
    modify = ec.modify_user_group
    assert code_of(modify, UserGroupId=users, UserIdsToRemove=["default"]) == "DefaultUserRequired"
    assert code_of(modify, UserGroupId=users) == "InvalidParameterCombination"
    assert code_of(ec.delete_user, UserId="default") == "DefaultUserAssociatedToUserGroup"
    # The built-in one makes room for one's own.
    modify(UserGroupId=users, UserIdsToRemove=["default"], UserIdsToAdd=[mine])
    made.settled(users)
    assert code_of(ec.delete_user, UserId=mine) == "DefaultUserAssociatedToUserGroup"


def test_guards_without_tls_are_refused_unless_the_setting_allows_them(service: Service, name: str) -> None:
    plain = service.client()
    base = {"ReplicationGroupId": name, "ReplicationGroupDescription": "d", "NumCacheClusters": 1}
    assert code_of(plain.create_replication_group, **base, AuthToken="x" * 16) == "InvalidParameterCombination"
    assert code_of(plain.create_replication_group, **base, UserGroupIds=["a"]) == "InvalidParameterCombination"
    assert code_of(plain.create_replication_group, **base, AuthToken="x" * 16, UserGroupIds=["a"]) == (
        "InvalidParameterCombination"
    )
