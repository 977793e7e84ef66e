"""Subnet groups: kept and shown; on one machine they decide nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SubnetGroup:
    region: str
    name: str
    description: str
    subnet_ids: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
