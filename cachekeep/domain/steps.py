"""Steps: the only things that control ever does to a node. Data, made by `plan`, carried out by `control.act`.

Every step is idempotent: doing it twice is doing it once. Whether it worked is seen by the next observation,
never taken from the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.domain.nodes import Address, NodeKey, NodeSpec


@dataclass(frozen=True)
class Start:
    """Write the node's folder and configuration and run its program. keep_data: load what a save left."""

    spec: NodeSpec
    keep_data: bool = False


@dataclass(frozen=True)
class Stop:
    """End the process. save: write the data set to the folder first, and refuse to end when that fails."""

    key: NodeKey
    address: Address
    save: bool = False


@dataclass(frozen=True)
class Remove:
    """Delete the folder of a node whose process is gone."""

    key: NodeKey


@dataclass(frozen=True)
class Follow:
    """Make the engine a replica of `primary`."""

    key: NodeKey
    address: Address
    primary: Address


@dataclass(frozen=True)
class Promote:
    """Make the engine a primary."""

    key: NodeKey
    address: Address


@dataclass(frozen=True)
class Bind:
    """Listen on exactly `hosts`; connections that came in by a host that is given up are cut."""

    key: NodeKey
    address: Address
    hosts: tuple[str, ...]
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configure:
    """Apply configuration values to the running engine."""

    key: NodeKey
    address: Address
    values: Mapping[str, str]


@dataclass(frozen=True)
class Advertise:
    """Tell the discovery responder of a memcached cluster who its members are."""

    key: NodeKey
    members: tuple[Address, ...]
    version: int


Step = Start | Stop | Remove | Follow | Promote | Bind | Configure | Advertise
