"""Steps: the only things that control ever does to a node. Data, made by `plan`, carried out by `control.act`.

Every step is idempotent: doing it twice is doing it once. Whether it worked is seen by the next observation,
never taken from the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.domain.access import Rules
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.slots import Slots


@dataclass(frozen=True)
class Start:
    """Write the node's folder and configuration and run its program. keep_data: load what a save left."""

    spec: NodeSpec
    keep_data: bool = False


@dataclass(frozen=True)
class Stop:
    """End the process. save: write the data set to the folder first, and refuse to end when that fails.

    fence: it does not answer, so it is killed at once: nothing may be published elsewhere while it could wake up.
    """

    key: NodeKey
    address: Address
    save: bool = False
    fence: bool = False


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
class Certify:
    """Put a certificate into the node's folder, if the one that is there will not do; the engine is not told."""

    key: NodeKey
    spec: NodeSpec


@dataclass(frozen=True)
class SetUsers:
    """Make the engine's users what NodeSpec.link and NodeSpec.users say; connections that lose a right are cut."""

    key: NodeKey
    address: Address
    link: str
    users: Rules


@dataclass(frozen=True)
class SwitchOver:
    """Hand the primary's role to a replica that is in sync: writes paused, offsets equal, roles swapped, addresses
    moved, writes resumed. key, address: the primary that hands over.

    binds, successor_binds: what each listens on afterwards. given_up: what the old one gives up; connections that
    came in by those are cut.
    """

    key: NodeKey
    address: Address
    successor: NodeKey
    successor_address: Address
    binds: tuple[str, ...]
    successor_binds: tuple[str, ...]
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meet:
    """Cluster mode: introduce `peer` to this node, and through it to all others."""

    key: NodeKey
    address: Address
    peer: Address


@dataclass(frozen=True)
class Forget:
    """Cluster mode: strike a node that is gone from this node's list."""

    key: NodeKey
    address: Address
    node_id: str


@dataclass(frozen=True)
class AddSlots:
    """Cluster mode: make this primary the owner of slots that nobody owns. epoch: its configuration epoch, set only
    while it knows nobody."""

    key: NodeKey
    address: Address
    slots: Slots
    epoch: int


@dataclass(frozen=True)
class Replicate:
    """Cluster mode: make this node a replica of the node with that id, which it knows."""

    key: NodeKey
    address: Address
    primary_id: str


@dataclass(frozen=True)
class TakeOver:
    """Cluster mode: make this replica the owner of its dead primary's slots. vote: ask the other primaries first
    (CLUSTER FAILOVER FORCE), and do without them if they do not answer; only after the primary is fenced."""

    key: NodeKey
    address: Address
    vote: bool


@dataclass(frozen=True)
class ClusterSwitchOver:
    """Cluster mode: let this replica, which is in sync, take over from its living primary (CLUSTER FAILOVER)."""

    key: NodeKey
    address: Address


@dataclass(frozen=True)
class MigrateSlots:
    """Cluster mode, Valkey 9: begin to move slots from this primary to the one with that id, atomically."""

    key: NodeKey
    address: Address
    slots: Slots
    target_id: str


@dataclass(frozen=True)
class CancelMigrations:
    """Cluster mode, Valkey 9: give up the atomic migrations that leave this primary."""

    key: NodeKey
    address: Address


@dataclass(frozen=True)
class MoveSlots:
    """Cluster mode, before Valkey 9: move slots key by key, as many as can be moved within about a second, those that
    are half moved first. others: primaries that are told of the new owner."""

    key: NodeKey
    address: Address
    slots: Slots
    source_id: str
    target: Address
    target_id: str
    others: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Latch:
    """on: the engine keeps the link to its primary and makes no new one, so that it never synchronises anew, which
    would replace all that it has. Off: it may again."""

    key: NodeKey
    address: Address
    on: bool


@dataclass(frozen=True)
class Advertise:
    """Tell the discovery responder of a memcached cluster who its members are."""

    key: NodeKey
    members: tuple[Address, ...]
    version: int


Step = (
    Start
    | Stop
    | Remove
    | Follow
    | Promote
    | Bind
    | Configure
    | Certify
    | SetUsers
    | SwitchOver
    | Meet
    | Forget
    | AddSlots
    | Replicate
    | TakeOver
    | ClusterSwitchOver
    | MigrateSlots
    | CancelMigrations
    | MoveSlots
    | Advertise
    | Latch
)
