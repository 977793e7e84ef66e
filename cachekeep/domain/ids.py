"""Identifiers and ARNs: what may name a resource, and how it is named to AWS clients. Pure.

Sources: botocore elasticache 2015-02-02 (constraints in the shapes' texts); ElastiCache guide,
"Tagging resources" (ARNs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cachekeep.domain.faults import Fault, invalid_value

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
# How every ARN that is given out here begins. Policies see through other partitions, resources are of this one.
OWN_PARTITION = "arn:aws:"
_ARN = re.compile(r"arn:(aws[a-z-]*):elasticache:([a-z0-9-]*):([0-9]{12}):([a-z-]+):(.+)\Z", re.DOTALL)


def resource_id(parameter: str, text: str, longest: int) -> str:
    """The identifier in the lower case in which it is kept.

    Raises InvalidParameterValue for anything but 1 to `longest` letters, digits and hyphens, beginning with a
    letter, without a hyphen at the end or two in a row.
    """
    if not 0 < len(text) <= longest or not _NAME.match(text) or text.endswith("-") or "--" in text:
        raise invalid_value(
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain "
            "only ASCII letters, digits, and hyphens; must not end with a hyphen or contain two consecutive hyphens; "
            f"and have at most {longest} characters."
        )
    return text.lower()


def member_id(group_id: str, number: int) -> str:
    """The id of a group's member: `demo-001`."""
    return f"{group_id}-{number:03d}"


@dataclass(frozen=True)
class Arn:
    """An ElastiCache ARN, taken apart. kind: `cluster`, `replicationgroup`, `parametergroup`, `subnetgroup`, ..."""

    region: str
    account: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"arn:aws:elasticache:{self.region}:{self.account}:{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises InvalidARN."""
        found = _ARN.match(text)
        if not found:
            raise Fault("InvalidARN", f"{text[:200]!r} is not a valid ARN of this service.")
        return cls(found[2], found[3], found[4], found[5].lower())
