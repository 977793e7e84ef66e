"""Parameter families and parameter groups: which settings an engine has and which values a group gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cachekeep.domain.engine import Engine


class ChangeType(StrEnum):
    """When a new value takes effect, in the API's words."""

    IMMEDIATE = "immediate"
    REQUIRES_REBOOT = "requires-reboot"


@dataclass(frozen=True)
class Parameter:
    """One setting of a family, as DescribeCacheParameters shows it.

    default: the family's value in text, empty for an empty string. allowed: `a,b`, `1-64` or empty for any text.
    data_type: `integer`, `string`, `boolean` or `float`. by_node_type: True when the value depends on the node
    type (`maxmemory`); such a parameter is shown under CacheNodeTypeSpecificParameters.
    """

    name: str
    default: str
    description: str
    data_type: str
    allowed: str
    modifiable: bool
    minimum_engine_version: str
    change: ChangeType
    by_node_type: bool = False


@dataclass(frozen=True)
class Family:
    """A parameter group family such as `valkey9`."""

    name: str
    engine: Engine
    description: str
    parameters: Mapping[str, Parameter]


@dataclass(frozen=True)
class ParameterGroup:
    """A named set of values over a family's defaults. values holds only what differs from the family."""

    region: str
    name: str
    family: str
    description: str
    values: Mapping[str, str] = field(default_factory=dict)
    is_default: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeType:
    """A cache node type and what it gives an engine; sizes in bytes. memcached_bytes: 0 when unknown."""

    name: str
    maxmemory_bytes: int
    memcached_bytes: int
    memcached_threads: int
    maxclients: int
    vcpu: int
    memory_gib: float

    @property
    def family(self) -> str:
        """`cache.r7g.large` -> `r7g`."""
        return self.name.split(".")[1]
