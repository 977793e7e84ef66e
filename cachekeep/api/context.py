"""What an operation works with: the services it may use, and the call it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachekeep.data.prices import package_prices
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import ROOT_IDENTITY, Identity, NoTokenDoor, TokenDoor
from cachekeep.domain.ids import Arn
from cachekeep.domain.nodes import Address, NodeKey, ObservedNode
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import AddressPool, Clock, EngineCatalogue, Store, Transaction, WorldError
from cachekeep.domain.prices import PriceList
from cachekeep.domain.quotas import Quotas
from cachekeep.plan.placement import Machine
from cachekeep.plan.serverless import Scaling
from cachekeep.plan.specs import Catalog


@dataclass(frozen=True)
class Services:
    """The doors of the API. redis_stand_in: Valkey may run where a Redis is asked for and none is installed.
    auth_without_tls: users and tokens may guard a cache without TLS. serverless_tls: how new serverless caches are
    encrypted, `preferred`, `required` or `disabled`.

    snapshots_per_day: manual ones of a node in 24 hours. buckets: what stands for S3 buckets: a folder, or s3://...
    seen: the last look of every node, to refuse what the data forbids before anything is begun. prices: of AWS, as far
    as they are known.
    encrypted_at_rest: by what everything that is kept is encrypted on its disk, in words; "" for not.
    token_door: asked when a user with IAM authentication is made.
    """

    store: Store
    pool: AddressPool
    catalogue: EngineCatalogue
    clock: Clock
    catalog: Catalog
    machine: Machine
    account_id: str
    redis_stand_in: bool = False
    snapshots_per_day: int = 20
    buckets: Mapping[str, str] = field(default_factory=dict)
    update_next_major: bool = False
    auth_without_tls: bool = False
    serverless_tls: str = "preferred"
    encrypted_at_rest: str = ""
    seen: Callable[[], Mapping[NodeKey, ObservedNode]] = dict
    prices: Callable[[], PriceList] = package_prices
    quotas: Quotas = field(default_factory=Quotas)
    scaling: Scaling = field(default_factory=Scaling)
    token_door: TokenDoor = field(default_factory=NoTokenDoor)


@dataclass(frozen=True)
class Call:
    """One authenticated request: its region is the one of its signature."""

    services: Services
    operation: str
    region: str
    params: Mapping[str, Any]
    access_key: str = ""
    identity: Identity = ROOT_IDENTITY

    def arn(self, kind: str, name: str) -> str:
        return str(Arn(self.region, self.services.account_id, kind, name))

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool | None:
        value = self.params.get(name)
        return value if isinstance(value, bool) else None

    def number(self, name: str) -> int | None:
        value = self.params.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.params.get(name) or ())

    def parameter_group(self, name: str) -> ParameterGroup:
        """A group of the caller's, or a default one. Raises CacheParameterGroupNotFound."""
        group = self.services.store.get(ParameterGroup, self.region, name.lower())
        group = group or self.services.catalog.default_groups.get(name.lower())
        if group is None:
            raise Fault("CacheParameterGroupNotFound", f"CacheParameterGroup not found: {name[:80]}")
        return group


def pick_addresses(call: Call, work: Transaction, port: int, count: int) -> list[Address]:
    """Addresses from the pool, not yet claimed. Raises InsufficientCacheClusterCapacity when there are too few."""
    try:
        return call.services.pool.pick(port, count, work.addresses(), work.last_claimed())
    except WorldError as error:
        raise Fault("InsufficientCacheClusterCapacity", str(error)) from error


def engine_named(text: str) -> Engine:
    """Raises InvalidParameterValue."""
    try:
        return Engine(text.lower())
    except ValueError:
        raise Fault(
            "InvalidParameterValue", f"Unrecognized engine name: {text[:40]!r}. Use valkey, redis or memcached."
        ) from None
