"""Cache security groups, from the time before virtual networks: kept and shown; they decide nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Ec2Group:
    """A group of EC2 that was authorised: its name and the account that it belongs to."""

    name: str
    owner: str


@dataclass(frozen=True)
class SecurityGroup:
    """name: lower case."""

    region: str
    name: str
    description: str
    authorized: tuple[Ec2Group, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
