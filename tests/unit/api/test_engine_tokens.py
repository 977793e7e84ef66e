"""Tokens on their way into an engine: for this group, this user, this region, by a key that may connect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from desk import REGION, Desk

from cachekeep.api.engine_tokens import TokenJudge
from cachekeep.api.gate import Gate
from cachekeep.api.token_users import token_users
from cachekeep.codec.policy_document import read_policy
from cachekeep.domain.identity import ROOT_IDENTITY, Identity, TrailEntry, Verdict
from cachekeep.domain.ports import WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.users import User
from tests.iam_tokens import make_token

ACCOUNT = "000000000000"
NODE = f"{REGION}/orders-001/0001"
ARN = f"arn:aws:elasticache:{REGION}:{ACCOUNT}:"
GROUP, USER = ARN + "replicationgroup:orders", ARN + "user:alice"


class Keys:
    def __init__(self) -> None:
        self.identities: dict[str, Identity] = {"ROOT": ROOT_IDENTITY}

    def get(self, key_id: str, /) -> str | None:
        return f"secret-of-{key_id}" if key_id in self.identities else None

    def identity(self, key_id: str) -> Identity | None:
        return self.identities.get(key_id)


class Trail:
    def __init__(self) -> None:
        self.entries: list[TrailEntry] = []

    def write(self, entry: TrailEntry) -> None:
        self.entries.append(entry)


class Door:
    def __init__(self, desk: Desk) -> None:
        self.desk, self.keys, self.trail = desk, Keys(), Trail()
        self.tags: dict[str, Mapping[str, str]] = {}
        gate = Gate(self.keys, self.trail, ACCOUNT, desk.clock.now, lambda arn: self.tags.get(arn, {}))
        self.judge = TokenJudge(gate, desk.store, desk.clock, ACCOUNT, self.user)

    @staticmethod
    def user(group: ReplicationGroup, name: str) -> str | None:
        return name if group.id == "orders" and name in ("alice", "carol") else None

    def allow(self, *statements: dict[str, Any]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.keys.identities["AKCI"] = Identity("ci", read_policy(document))

    def ask(self, node: str = NODE, user: str = "alice", key: str = "ROOT", *, cache: str = "orders",
            named: str = "alice", **more: Any) -> Verdict:  # fmt: skip
        given = {"region": REGION, "at": self.desk.clock.now()} | more
        return self.judge(node, user, make_token(cache, named, key, f"secret-of-{key}", **given))


@pytest.fixture
def door(desk: Desk) -> Door:
    for name in ("orders", "others"):
        desk.ask(
            "CreateReplicationGroup", ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=2,
            Engine="valkey", CacheNodeType="cache.t4g.micro",
        )  # fmt: skip
    return Door(desk)


def allow(*resources: str, **others: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "elasticache:Connect", "Resource": list(resources)} | others


def test_a_good_token_is_let_in_on_every_node_of_the_group(door: Door) -> None:
    assert door.ask() is Verdict.LET_IN
    assert door.ask(f"{REGION}/orders-002/0001") is Verdict.LET_IN


@pytest.mark.parametrize(
    "asked",
    [
        {"cache": "others"},
        {"named": "carol"},
        {"user": "carol"},
        {"region": "us-east-1"},
        {"key": "UNKNOWN"},
        {"service": "s3"},
        {"ResourceType": "ServerlessCache"},
        {"expires_s": 3600},
    ],
)
def test_what_is_for_something_else_is_refused(door: Door, asked: dict[str, Any]) -> None:
    assert door.ask(**asked) is Verdict.REFUSE


def test_a_serverless_cache_takes_tokens_of_its_own_name_and_kind(door: Door) -> None:
    with door.desk.store.transaction() as work:
        group = door.desk.group("orders")
        work.replace(group, replace(group, serverless="sessions"))
    kind = {"ResourceType": "ServerlessCache"}
    assert door.ask(cache="sessions", **kind) is Verdict.LET_IN
    assert door.ask(cache="sessions") is Verdict.REFUSE
    assert door.ask(cache="orders", **kind) is Verdict.REFUSE
    door.allow(allow(ARN + "serverlesscache:sessions", USER))
    assert door.ask(cache="sessions", key="CI", **kind) is Verdict.REFUSE
    assert door.ask(cache="sessions", key="AKCI", **kind) is Verdict.LET_IN
    door.allow(allow(GROUP, USER))
    assert door.ask(cache="sessions", key="AKCI", **kind) is Verdict.REFUSE


def test_who_does_not_log_in_by_token_is_the_engines_matter(door: Door) -> None:
    assert door.ask(user="bob", named="bob") is Verdict.PASS
    assert door.ask(f"{REGION}/others-001/0001", cache="others") is Verdict.PASS
    for node in ("", "/", "us-east-1/orders-001", f"{REGION}/nothing", f"{REGION}/"):
        assert door.ask(node) is Verdict.PASS


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        ([allow(GROUP, USER)], Verdict.LET_IN),
        ([allow(ARN + "*")], Verdict.LET_IN),
        ([allow(GROUP)], Verdict.REFUSE),
        ([allow(USER)], Verdict.REFUSE),
        ([allow(GROUP, ARN + "user:carol")], Verdict.REFUSE),
        ([allow("*") | {"Action": "elasticache:Describe*"}], Verdict.REFUSE),
        ([allow("*"), allow(USER) | {"Effect": "Deny"}], Verdict.REFUSE),
        ([allow("*", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})], Verdict.REFUSE),
        ([allow("*", Condition={"StringEquals": {"aws:RequestedRegion": REGION}})], Verdict.LET_IN),
        ([allow("*", Condition={"StringEquals": {"aws:ResourceTag/team": "a"}})], Verdict.REFUSE),
    ],
)
def test_the_policy_of_the_key_decides(door: Door, statements: list[dict[str, Any]], verdict: Verdict) -> None:
    door.allow(*statements)
    assert door.ask(key="AKCI") is verdict
    told = [(entry.user, entry.action, entry.outcome) for entry in door.trail.entries]
    assert told == ([("ci", "elasticache:Connect", "AccessDenied")] if verdict is Verdict.REFUSE else [])


def test_a_key_that_is_gone_lets_nobody_in(door: Door) -> None:
    door.allow(allow("*"))
    assert door.ask(key="AKCI") is Verdict.LET_IN
    del door.keys.identities["AKCI"]
    assert door.ask(key="AKCI") is Verdict.REFUSE


def test_a_token_is_good_for_a_quarter_of_an_hour_by_the_services_clock(door: Door) -> None:
    made = door.desk.clock.now()
    for moved, verdict in (
        (900, Verdict.LET_IN),
        (901, Verdict.REFUSE),
        (-900, Verdict.LET_IN),
        (-901, Verdict.REFUSE),
    ):
        door.desk.clock.time = made + moved
        assert door.ask(at=made) is verdict


class ClosedDoor:
    def prepare(self) -> None:
        raise WorldError("no C compiler is on this machine")


def test_a_user_that_no_engine_could_let_in_is_refused_and_not_made(desk: Desk) -> None:
    iam = {"AuthenticationMode": {"Type": "iam"}, "Engine": "valkey", "AccessString": "on ~* +@all"}
    desk.ask("CreateUser", UserId="early", UserName="early", **iam)
    desk.services = replace(desk.services, token_door=ClosedDoor())
    _, message = desk.refused("CreateUser", UserId="alice", UserName="alice", **iam)
    assert message == "IAM authentication is not available here: no C compiler is on this machine."
    assert desk.store.get(User, REGION, "alice") is None
    passwords = {"Passwords": ["long-enough-to-be-one"], "Engine": "valkey", "AccessString": "on ~* +@all"}
    desk.ask("CreateUser", UserId="bob", UserName="bob", **passwords)
    desk.refused("ModifyUser", UserId="bob", AuthenticationMode={"Type": "iam"})


def test_users_by_token_are_those_of_the_groups_user_groups(desk: Desk) -> None:
    iam = {"AuthenticationMode": {"Type": "iam"}, "Engine": "valkey", "AccessString": "on ~* +@all"}
    for name in ("alice", "carol"):
        desk.ask("CreateUser", UserId=name, UserName=name, **iam)
    desk.ask("CreateUser", UserId="bob", UserName="bob", Passwords=["long-enough-to-be-one"], Engine="valkey",
             AccessString="on ~* +@all")  # fmt: skip
    desk.ask("CreateUserGroup", UserGroupId="staff", Engine="valkey", UserIds=["alice", "bob"])
    find = token_users(desk.store)
    group = replace(desk.create_group("orders", NumCacheClusters=2), user_group_ids=("staff", "gone"))
    assert [find(group, name) for name in ("alice", "bob", "carol", "default", "")] == ["alice", None, None, None, None]
    assert find(replace(group, user_group_ids=()), "alice") is None
