"""What policies decide: IAM's rules, held against a deliberately dumb second implementation, and documents refused."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.policy_document import MOST_CHARACTERS, PolicyError, read_policy
from cachekeep.domain.policy import Asked, Decision, Policy, matches, matches_arn

ALLOWED, DENIED, NOT_ALLOWED = Decision.ALLOWED, Decision.DENIED, Decision.NOT_ALLOWED
GROUP = "arn:aws:elasticache:us-east-1:000000000000:replicationgroup:"
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def policy(*statements: dict[str, Any]) -> Policy:
    return read_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def asked(action: str = "DeleteReplicationGroup", name: str = "orders", **others: Any) -> Asked:
    given: dict[str, Any] = {"region": "us-east-1"} | others
    return Asked(f"elasticache:{action}", GROUP + name, **given)


def deny(**others: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": "elasticache:Delete*", "Resource": "*"} | others


READ = {"Effect": "Allow", "Action": ["elasticache:Describe*", "elasticache:List*"], "Resource": "*"}


@pytest.mark.parametrize(
    ("statements", "request_", "decision"),
    [
        ([ALL], asked(), ALLOWED),
        ([READ], asked(), NOT_ALLOWED),
        ([READ], asked("DescribeReplicationGroups"), ALLOWED),
        ([READ], asked("describereplicationgroups"), ALLOWED),
        ([ALL, deny()], asked(), DENIED),
        ([deny(), ALL], asked(), DENIED),
        ([ALL, deny(Resource=GROUP + "prod-*")], asked(), ALLOWED),
        ([ALL, deny(Resource=GROUP + "prod-*")], asked(name="prod-1"), DENIED),
        ([ALL, deny(Resource=GROUP + "PROD-*")], asked(name="prod-1"), DENIED),
        ([ALL | {"Resource": GROUP + "test-*"}], asked(name="test-1"), ALLOWED),
        ([ALL | {"Resource": GROUP + "test-*"}], asked(name="orders"), NOT_ALLOWED),
        # All of a kind is no single name, however it is written.
        ([ALL | {"Resource": GROUP + "?"}], asked(name="*"), NOT_ALLOWED),
        ([ALL | {"Resource": GROUP + "test-*"}], asked(name="*"), NOT_ALLOWED),
        ([ALL | {"Resource": GROUP + "*"}], asked(name="*"), ALLOWED),
        ([{"Effect": "Allow", "NotAction": "elasticache:Delete*", "Resource": "*"}], asked(), NOT_ALLOWED),
        ([{"Effect": "Allow", "NotAction": "elasticache:Create*", "Resource": "*"}], asked(), ALLOWED),
        ([{"Effect": "Allow", "Action": "*", "NotResource": GROUP + "prod*"}], asked(name="prod1"), NOT_ALLOWED),
        ([{"Effect": "Allow", "Action": "*", "NotResource": GROUP + "prod*"}], asked(), ALLOWED),
        ([ALL, {"Effect": "Deny", "Action": "*", "NotResource": GROUP + "test-*"}], asked(), DENIED),
        # A wildcard in one segment does not swallow the next ones.
        ([ALL | {"Resource": "arn:aws:elasticache:*:replicationgroup:orders:x"}], asked(), NOT_ALLOWED),
    ],
)
def test_statements_decide_as_iam_does(statements: list[dict[str, Any]], request_: Asked, decision: Decision) -> None:
    assert policy(*statements).decide(request_) is decision


def when(operator: str, key: str, *values: str) -> dict[str, Any]:
    return {"Condition": {operator: {key: list(values)}}}


REGION = "aws:RequestedRegion"


@pytest.mark.parametrize(
    ("condition", "request_", "holds"),
    [
        (when("StringEquals", REGION, "us-east-1"), asked(), True),
        (when("StringEquals", REGION, "eu-west-1", "us-east-1"), asked(), True),
        (when("StringEquals", REGION, "eu-west-1"), asked(), False),
        (when("StringEquals", "AWS:requestedregion", "us-east-1"), asked(), True),
        (when("StringNotEquals", REGION, "eu-west-1"), asked(), True),
        (when("StringNotEquals", REGION, "eu-west-1", "us-east-1"), asked(), False),
        (when("StringLike", REGION, "us-*"), asked(), True),
        (when("StringNotLike", REGION, "us-*"), asked(), False),
        (when("StringEquals", "aws:ResourceTag/team", "a"), asked(resource_tags={"team": "a"}), True),
        (when("StringEquals", "aws:ResourceTag/Team", "a"), asked(resource_tags={"team": "a"}), False),
        (when("StringEquals", "aws:ResourceTag/team", "a"), asked(request_tags={"team": "a"}), False),
        (when("StringEquals", "aws:ResourceTag/team", "a"), asked(), False),
        (when("StringNotEquals", "aws:ResourceTag/team", "a"), asked(), True),
        (when("StringEquals", "aws:RequestTag/team", "a"), asked(request_tags={"team": "a"}), True),
        (when("IpAddress", "aws:SourceIp", "127.0.0.0/8"), asked(source="127.0.0.1"), True),
        (when("IpAddress", "aws:SourceIp", "10.0.0.0/8", "127.0.0.1"), asked(source="127.0.0.1"), True),
        (when("IpAddress", "aws:SourceIp", "10.0.0.0/8"), asked(source="127.0.0.1"), False),
        (when("IpAddress", "aws:SourceIp", "10.0.0.0/8"), asked(source="a-socket"), False),
        (when("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"), asked(source="10.1.2.3"), False),
        (when("NotIpAddress", "aws:SourceIp", "10.0.0.0/8"), asked(source="127.0.0.1"), True),
    ],
)
def test_conditions_hold_as_iams_do(condition: dict[str, Any], request_: Asked, *, holds: bool) -> None:
    assert (policy(ALL | condition).decide(request_) is ALLOWED) is holds
    assert (policy(ALL, deny() | condition).decide(request_) is DENIED) is holds


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_what_is_about_all_regions_passes_no_condition_on_one(operator: str, region: str) -> None:
    everywhere = asked(region=None)
    assert policy(ALL | when(operator, REGION, region)).decide(everywhere) is NOT_ALLOWED
    assert policy(ALL, deny() | when(operator, REGION, region)).decide(everywhere) is DENIED


@pytest.mark.parametrize("operator", ["IpAddress", "NotIpAddress"])
def test_who_comes_from_nowhere_passes_no_condition_on_addresses(operator: str) -> None:
    condition = when(operator, "aws:SourceIp", "10.0.0.0/8")
    assert policy(ALL | condition).decide(asked(source="")) is NOT_ALLOWED
    assert policy(ALL, deny() | condition).decide(asked(source="")) is DENIED


def test_all_resources_of_a_request_must_be_allowed_and_a_denied_one_is_told_first() -> None:
    mine = policy(ALL | {"Resource": GROUP + "mine"}, deny(Resource=GROUP + "prod"))
    assert mine.first_refused([asked(name="mine")]) is None
    refused = mine.first_refused([asked(name="mine"), asked(name="other"), asked(name="prod")])
    assert refused == (asked(name="prod"), DENIED)


@given(st.text("ab*?", max_size=9), st.text("ab", max_size=9))
def test_wildcards_match_as_a_regular_expression_would(pattern: str, text: str) -> None:
    dumb = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)
    assert matches(pattern, text) is bool(re.fullmatch(dumb, text))


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    assert not matches("*a" * 1500 + "b", "a" * 3000)
    # A backtracking match would need longer than the universe has; the bound only tells the two apart.
    assert time.process_time() - began < 30


def test_a_pattern_of_fewer_segments_matches_no_arn() -> None:
    assert not matches_arn("arn:*", GROUP + "orders")
    assert matches_arn("arn:aws:elasticache:*:*:*", GROUP + "orders")


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (ALL | {"Principal": "*"}, "'Principal', which is not understood"),
        (ALL | {"Effect": "allow"}, "Allow or Deny"),
        ({"Effect": "Allow", "Resource": "*"}, "either Action or NotAction"),
        (ALL | {"NotAction": "*"}, "either Action or NotAction"),
        (ALL | {"NotResource": "*"}, "either Resource or NotResource"),
        (ALL | {"Action": []}, "a text, or a list"),
        (ALL | {"Action": 7}, "a text, or a list"),
        (ALL | {"Action": "s3:GetObject"}, "no action of"),
        (ALL | {"Action": "elasticache:DescribeNothing"}, "matches no operation"),
        (ALL | {"Action": "elasticache:Delet"}, "matches no operation"),
        (ALL | {"Action": "Delete*"}, "no action of"),
        (ALL | {"Resource": "orders"}, "must be '\\*', or an ARN"),
        (ALL | {"Resource": "arn:aws:elasticache"}, "must be '\\*', or an ARN"),
        (ALL | {"Resource": GROUP + "${aws:username}"}, "policy variables"),
        (ALL | {"Condition": {}}, "must be an object"),
        (ALL | {"Condition": {"StringEqualsIfExists": {REGION: "x"}}}, "is none of"),
        (ALL | {"Condition": {"Null": {REGION: "true"}}}, "is none of"),
        (ALL | {"Condition": {"StringEquals": {"aws:username": "x"}}}, "condition key"),
        (ALL | {"Condition": {"StringEquals": {"aws:ResourceTag/": "x"}}}, "condition key"),
        (ALL | {"Condition": {"StringEquals": {"aws:SourceIp": "127.0.0.1"}}}, "cannot be asked of"),
        (ALL | {"Condition": {"IpAddress": {REGION: "127.0.0.1"}}}, "cannot be asked of"),
        (ALL | {"Condition": {"IpAddress": {"aws:SourceIp": "localhost"}}}, "does not appear to be"),
        (ALL | {"Condition": {"StringEquals": {REGION: []}}}, "a text, or a list"),
        ("Allow", "must be an object"),
    ],
)
def test_what_is_outside_the_subset_is_refused(statement: Any, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        policy(statement)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "Version"),
        ('{"Version": "2008-10-17", "Statement": []}', "Version"),
        ('{"Version": "2012-10-17", "Statement": []}', "no Statement"),
        ('{"Version": "2012-10-17", "Statement": [], "Statement": []}', "stands twice"),
        ('{"Version": "2012-10-17", "Statment": []}', "'Statment'"),
        ("[" * 5000, "not JSON"),
        (" " * (MOST_CHARACTERS + 1), "at most"),
    ],
)
def test_a_document_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        read_policy(text)
