"""The tagging API under boto3, in both of its protocols: what has tags, in pages, and tags set and taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError
from desk import REGION, Desk
from direct_client import direct_client

from cachekeep.api.gate import Gate
from cachekeep.api.ops.tags import tags_at
from cachekeep.api.tagging.front import Tagging
from cachekeep.codec.policy_document import read_policy
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.domain.identity import Identity, TrailEntry

ACCOUNT = "000000000000"


def arn(kind: str, name: str, region: str = REGION) -> str:
    return f"arn:aws:elasticache:{region}:{ACCOUNT}:{kind}:{name}"


def tags(**given: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given.items()]


def client_of(desk: Desk, protocol: str, gate: Gate | None = None) -> Any:
    front = Tagging(desk.services, gate)

    def send(request: HttpRequest) -> Any:
        return front.answer(request, Caller("AKID", REGION, "tagging", "20260101"), "r-1")

    return direct_client("resourcegroupstaggingapi", REGION, protocol, send)


@pytest.fixture(params=["smithy-rpc-v2-cbor", "json"])
def client(desk: Desk, request: pytest.FixtureRequest) -> Any:
    return client_of(desk, request.param)


def found(answer: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        shown["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
        for shown in answer["ResourceTagMappingList"]
    }


def furnish(desk: Desk) -> None:
    desk.ask("CreateCacheCluster", CacheClusterId="one", Engine="valkey", Tags=tags(team="a", stage="prod"))
    desk.ask("CreateCacheCluster", CacheClusterId="two", Engine="valkey", Tags=tags(team="b"))
    desk.ask("CreateCacheCluster", CacheClusterId="bare", Engine="valkey")
    desk.ask("CreateUser", UserId="u", UserName="bob", Engine="valkey", AccessString="on ~* +@all",
             Passwords=["x" * 16], Tags=tags(team="a"))  # fmt: skip
    desk.ask("CreateServerlessCache", ServerlessCacheName="sls", Engine="valkey", Tags=tags(team="c", empty=""))


def test_resources_are_found_by_their_tags(desk: Desk, client: Any) -> None:
    furnish(desk)
    everything = found(client.get_resources())
    assert everything == {
        arn("cluster", "one"): {"team": "a", "stage": "prod"},
        arn("cluster", "two"): {"team": "b"},
        arn("serverlesscache", "sls"): {"team": "c", "empty": ""},
        arn("user", "u"): {"team": "a"},
    }, "not what is behind a serverless cache, and nothing without tags"

    def asked(**wishes: Any) -> set[str]:
        return set(found(client.get_resources(**wishes)))

    filters = [{"Key": "team", "Values": ["a", "b"]}, {"Key": "stage"}]
    assert asked(TagFilters=filters) == {arn("cluster", "one")}
    assert asked(TagFilters=[{"Key": "team", "Values": []}]) == set(everything)
    assert asked(ResourceTypeFilters=["elasticache:user", "ec2"]) == {arn("user", "u")}
    assert asked(ResourceTypeFilters=["elasticache"]) == set(everything)
    assert asked(ResourceTypeFilters=["cloudwatch"]) == set()
    wanted = [arn("cluster", "TWO"), arn("cluster", "none"), "nonsense"]
    assert asked(ResourceARNList=wanted) == {arn("cluster", "two")}
    (shown,) = client.get_resources(ResourceARNList=wanted, IncludeComplianceDetails=True)["ResourceTagMappingList"]
    assert shown["ComplianceDetails"] == {"ComplianceStatus": True}
    assert asked(IncludeComplianceDetails=True, ExcludeCompliantResources=True) == set()


def test_pages_of_resources_and_of_tags(desk: Desk, client: Any) -> None:
    furnish(desk)
    seen: list[str] = []
    for page in client.get_paginator("get_resources").paginate(ResourcesPerPage=1):
        assert len(page["ResourceTagMappingList"]) == 1
        seen += found(page)
    assert seen == sorted(found(client.get_resources()))
    many = tags(**{f"k{n}": "v" for n in range(48)})
    for name in ("one", "two"):
        desk.ask("AddTagsToResource", ResourceName=arn("cluster", name), Tags=many)
    sizes = [len(page["ResourceTagMappingList"]) for page in client.get_paginator("get_resources").paginate(
        PaginationConfig={}, TagsPerPage=100)]  # fmt: skip
    assert sizes == [2, 2], "50 and 49 tags, then 2 and 1: a resource is never split"


def test_keys_and_values_in_use(desk: Desk, client: Any) -> None:
    furnish(desk)
    assert client.get_tag_keys()["TagKeys"] == ["empty", "stage", "team"]
    assert client.get_tag_values(Key="team")["TagValues"] == ["a", "b", "c"]
    assert client.get_tag_values(Key="empty")["TagValues"] == [""]
    assert client.get_tag_values(Key="none")["TagValues"] == []
    for n in range(22):
        desk.ask("CreateUser", UserId=f"many{n}", UserName=f"m{n}", Engine="valkey", AccessString="on ~* +@all",
                 Passwords=["x" * 16], Tags=tags(**{f"t{n}-{i}": "v" for i in range(50)}))  # fmt: skip
    pages = [page["TagKeys"] for page in client.get_paginator("get_tag_keys").paginate()]
    assert [len(page) for page in pages] == [1000, 103]
    keys = [key for page in pages for key in page]
    assert keys == sorted(keys)


def test_what_cannot_be_tagged_is_told_and_the_rest_is_tagged(desk: Desk, client: Any) -> None:
    furnish(desk)
    foreign, gone, odd = arn("cluster", "one", "us-west-2"), arn("cluster", "none"), "arn:aws:s3:::bucket"
    answer = client.tag_resources(
        ResourceARNList=[arn("cluster", "bare"), foreign, gone, odd], Tags={"k": "", "l": "2"}
    )
    told = {name: (info["StatusCode"], info["ErrorCode"]) for name, info in answer["FailedResourcesMap"].items()}
    assert told == {foreign: (400, "InvalidARN"), gone: (404, "CacheClusterNotFound"), odd: (400, "InvalidARN")}
    assert tags_at(desk.services, arn("cluster", "bare")) == {"k": "", "l": "2"}
    too_many = {f"k{n}": "v" for n in range(50)}
    answer = client.tag_resources(ResourceARNList=[arn("cluster", "one")], Tags=too_many)
    assert answer["FailedResourcesMap"][arn("cluster", "one")]["ErrorCode"] == "TagQuotaPerResourceExceeded"
    assert tags_at(desk.services, arn("cluster", "one")) == {"team": "a", "stage": "prod"}


def test_a_tag_that_no_answer_could_hold_is_refused(desk: Desk, client: Any) -> None:
    furnish(desk)
    bare = arn("cluster", "bare")
    for tags_of in ({"a\x01": "b"}, {"a": "b\x02"}, {"\ufffe": ""}, {"a\ufffd": "told twice alike"}):
        answer = client.tag_resources(ResourceARNList=[bare], Tags=tags_of)
        assert answer["FailedResourcesMap"][bare]["ErrorCode"] == "InvalidParameterValue"
    assert not tags_at(desk.services, bare)
    held = {"größe": "ß 📦\t&<"}
    assert not client.tag_resources(ResourceARNList=[bare], Tags=held)["FailedResourcesMap"]
    (tag,) = desk.ask("ListTagsForResource", ResourceName=bare)["TagList"]
    assert tag == {"Key": "größe", "Value": "ß 📦\t&<"}


def test_tags_go_and_may_be_gone_already(desk: Desk, client: Any) -> None:
    furnish(desk)
    wanted = [arn("cluster", "one"), arn("cluster", "two"), arn("cluster", "none")]
    for _ in range(2):
        answer = client.untag_resources(ResourceARNList=wanted, TagKeys=["stage", "never"])
        assert set(answer["FailedResourcesMap"]) == {wanted[2]}
    assert tags_at(desk.services, wanted[0]) == {"team": "a"}
    assert tags_at(desk.services, wanted[1]) == {"team": "b"}


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("get_resources", {"ResourcesPerPage": 0}),
        ("get_resources", {"ResourcesPerPage": 101}),
        ("get_resources", {"TagsPerPage": 99}),
        ("get_resources", {"ResourceARNList": ["x"], "TagFilters": [{"Key": "k"}]}),
        ("get_resources", {"ResourceARNList": ["x"], "ResourcesPerPage": 5}),
        ("get_resources", {"ResourceARNList": []}),
        ("get_resources", {"ExcludeCompliantResources": True}),
        ("get_resources", {"TagFilters": [{"Key": ""}]}),
        ("get_tag_values", {}),
        ("tag_resources", {"ResourceARNList": ["x"]}),
        ("tag_resources", {"ResourceARNList": ["x"], "Tags": {}}),
        ("tag_resources", {"ResourceARNList": ["x"] * 21, "Tags": {"k": "v"}}),
        ("tag_resources", {"ResourceARNList": ["x"], "Tags": {"k": "v" * 257}}),
        ("untag_resources", {"ResourceARNList": ["x"], "TagKeys": []}),
    ],
)
def test_bad_input_is_refused_in_the_services_words(client: Any, operation: str, params: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(client, operation)(**params)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize("token", ["!", "====", "/w==", "nonsense"])
def test_a_token_that_was_not_given_out(client: Any, token: str) -> None:
    with pytest.raises(ClientError, match="PaginationTokenExpired"):
        client.get_resources(PaginationToken=token)
    with pytest.raises(ClientError, match="PaginationTokenExpired"):
        client.get_tag_keys(PaginationToken=token)


def test_an_operation_of_tag_policies_is_not_there(client: Any) -> None:
    with pytest.raises(ClientError, match="UnknownOperation"):
        client.get_compliance_summary()


class Keys:
    """One key, with a policy."""

    def __init__(self, *statements: Mapping[str, object]) -> None:
        policy = read_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
        self._identity = Identity("limited", policy)

    def get(self, key_id: str, /) -> str | None:
        return "secret"

    def identity(self, key_id: str) -> Identity | None:
        return self._identity


class Trail(list[TrailEntry]):
    def write(self, entry: TrailEntry) -> None:
        self.append(entry)


def gate_of(desk: Desk, trail: Trail, *statements: Mapping[str, object]) -> Gate:
    look: Callable[[str], Mapping[str, str]] = lambda name: tags_at(desk.services, name)  # noqa: E731
    return Gate(Keys(*statements), trail, ACCOUNT, desk.clock.now, look)


def test_tagging_takes_both_permissions_and_is_written_down(desk: Desk) -> None:
    furnish(desk)
    trail = Trail()
    allow = {"Effect": "Allow", "Action": ["tag:*", "elasticache:AddTagsToResource"], "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "elasticache:AddTagsToResource", "Resource": arn("cluster", "two")}
    client = client_of(desk, "json", gate_of(desk, trail, allow, deny))
    one, two = arn("cluster", "one"), arn("cluster", "two")
    answer = client.tag_resources(ResourceARNList=[one, two], Tags={"k": "v"})
    assert answer["FailedResourcesMap"][two]["ErrorCode"] == "AccessDenied"
    assert "k" in tags_at(desk.services, one)
    assert "k" not in tags_at(desk.services, two)
    assert {(entry.action, entry.resources, entry.outcome) for entry in trail} == {
        ("elasticache:AddTagsToResource", (one,), "ok"),
        ("elasticache:AddTagsToResource", (two,), "AccessDenied"),
        ("tag:TagResources", ("*",), "ok"),
    }
    answer = client.untag_resources(ResourceARNList=[one], TagKeys=["k"])
    assert answer["FailedResourcesMap"][one]["ErrorCode"] == "AccessDenied", "only adding is allowed"
    given = {"Effect": "Deny", "Action": "tag:TagResources", "Resource": "*",
             "Condition": {"StringEquals": {"aws:RequestTag/frozen": "1"}}}  # fmt: skip
    client = client_of(desk, "json", gate_of(desk, trail, {**allow, "Action": "*"}, given))
    with pytest.raises(ClientError, match="AccessDenied"):
        client.tag_resources(ResourceARNList=[one], Tags={"frozen": "1"})
    assert not client.tag_resources(ResourceARNList=[one], Tags={"frozen": "2"})["FailedResourcesMap"]
    client = client_of(desk, "json", gate_of(desk, trail, {**allow, "Action": "elasticache:*"}))
    with pytest.raises(ClientError, match="AccessDenied"):
        client.get_resources()
    with pytest.raises(ClientError, match="AccessDenied"):
        client.tag_resources(ResourceARNList=[one], Tags={"k": "v"})
