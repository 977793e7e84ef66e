"""Access policies: the subset of IAM's that is kept here, and what it decides. Pure.

The rules are IAM's: nothing is allowed unless a statement allows it, and a deny wins over every allow. A request that
touches several resources is allowed when all of them are. What a policy may say is checked where it is read
(codec.policy_document); here all of it has a meaning.

Whatever a request leaves open, such as the region of a page that tells of all regions, or the address behind the
connection of an engine, counts against it: a condition on it holds in a deny, and does not hold in an allow.
Source: IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

REGION_KEY = "aws:RequestedRegion"
SOURCE_KEY = "aws:SourceIp"
RESOURCE_TAG, REQUEST_TAG = "aws:ResourceTag/", "aws:RequestTag/"
_SEGMENTS = 6


class Effect(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


class Operator(StrEnum):
    STRING_EQUALS = "StringEquals"
    STRING_NOT_EQUALS = "StringNotEquals"
    STRING_LIKE = "StringLike"
    STRING_NOT_LIKE = "StringNotLike"
    IP_ADDRESS = "IpAddress"
    NOT_IP_ADDRESS = "NotIpAddress"

    @property
    def negates(self) -> bool:
        return "Not" in self.value


class Decision(StrEnum):
    """allowed; denied by a statement; or not allowed by any."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NOT_ALLOWED = "not allowed"


@dataclass(frozen=True)
class Asked:
    """One action on one resource. region: None where all are meant. source: the address that asks, "" if unknown.

    resource_tags, request_tags: of the resource as it is, and those that the request would give it.
    """

    action: str
    resource: str
    region: str | None
    source: str = ""
    resource_tags: Mapping[str, str] = field(default_factory=dict)
    request_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """key: as IAM writes it. values: one of them must match, or none where the operator negates."""

    operator: Operator
    key: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"the condition on {self.key} names no value")
        about_addresses = self.operator in (Operator.IP_ADDRESS, Operator.NOT_IP_ADDRESS)
        if about_addresses != (self.key == SOURCE_KEY):
            raise ValueError(f"{self.operator} cannot be asked of {self.key}")
        if about_addresses:
            for value in self.values:
                ipaddress.ip_network(value, strict=False)

    def holds(self, asked: Asked, effect: Effect) -> bool:
        """As IAM has it, a tag that is not there matches nothing."""
        if (self.key == REGION_KEY and asked.region is None) or (self.key == SOURCE_KEY and not asked.source):
            return effect is Effect.DENY
        value = self._value(asked)
        found = value is not None and any(self._matches(value, wanted) for wanted in self.values)
        return found != self.operator.negates

    def _value(self, asked: Asked) -> str | None:
        if self.key == REGION_KEY:
            return asked.region
        if self.key == SOURCE_KEY:
            return asked.source
        of_resource = self.key.startswith(RESOURCE_TAG)
        tags = asked.resource_tags if of_resource else asked.request_tags
        return tags.get(self.key.partition("/")[2])

    def _matches(self, value: str, wanted: str) -> bool:
        match self.operator:
            case Operator.STRING_EQUALS | Operator.STRING_NOT_EQUALS:
                return value == wanted
            case Operator.STRING_LIKE | Operator.STRING_NOT_LIKE:
                return matches(wanted, value)
            case Operator.IP_ADDRESS | Operator.NOT_IP_ADDRESS:
                return _is_within(value, wanted)


@dataclass(frozen=True)
class Statement:
    """actions: of services, with wildcards. not_actions, not_resources: the lists say what is meant by exception."""

    effect: Effect
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    not_actions: bool = False
    not_resources: bool = False

    def applies(self, asked: Asked) -> bool:
        action = any(matches(pattern.lower(), asked.action.lower()) for pattern in self.actions)
        if action == self.not_actions:
            return False
        resource = any(matches_arn(pattern, asked.resource) for pattern in self.resources)
        if resource == self.not_resources:
            return False
        return all(condition.holds(asked, self.effect) for condition in self.conditions)


@dataclass(frozen=True)
class Policy:
    statements: tuple[Statement, ...]

    def decide(self, asked: Asked) -> Decision:
        effects = {statement.effect for statement in self.statements if statement.applies(asked)}
        if Effect.DENY in effects:
            return Decision.DENIED
        return Decision.ALLOWED if Effect.ALLOW in effects else Decision.NOT_ALLOWED

    def first_refused(self, asked: Sequence[Asked]) -> tuple[Asked, Decision] | None:
        """The first of them that is not allowed, denied ones before all others; None when all are."""
        decided = [(one, self.decide(one)) for one in asked]
        for wanted in (Decision.DENIED, Decision.NOT_ALLOWED):
            for one, decision in decided:
                if decision is wanted:
                    return one, decision
        return None


def matches_arn(pattern: str, arn: str) -> bool:
    """Segment by segment, so that a wildcard in the region cannot swallow the account; `*` alone is everything.

    In any case: names of resources are kept in lower case, and a deny must not miss one for how it is written.
    """
    if pattern == "*":
        return True
    wanted, given = pattern.lower().split(":", _SEGMENTS - 1), arn.lower().split(":", _SEGMENTS - 1)
    return len(wanted) == len(given) and all(matches(p, t) for p, t in zip(wanted, given, strict=True))


def matches(pattern: str, text: str) -> bool:
    """`*` is any text, `?` any one character but `*`, which in a request means all of a kind.

    Goes back to the last `*` only: its time is bounded by the product of the lengths, whatever the pattern.
    """
    at, star, mark = 0, -1, 0
    place = 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, place
            at += 1
        elif at < len(pattern) and (pattern[at] == text[place] or (pattern[at] == "?" and text[place] != "*")):
            at += 1
            place += 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return all(char == "*" for char in pattern[at:])


def _is_within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # a peer of another kind, such as a Unix socket
        return False
