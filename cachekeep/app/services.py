"""What the API's operations work with, put together from the settings and the adapters. Called by app.serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

from cachekeep.api.context import Services
from cachekeep.app.adapters import Adapters
from cachekeep.data import load as data
from cachekeep.data.acl_commands import acl_commands
from cachekeep.domain.nodes import NodeKey, ObservedNode
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.quotas import Quotas
from cachekeep.host.at_rest import encrypted_by
from cachekeep.plan.placement import Machine
from cachekeep.plan.serverless import Scaling
from cachekeep.plan.specs import Catalog
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.settings import Settings

_MIB = 1 << 20


class SystemClock:
    def now(self) -> float:
        return time.time()


def build_services(
    settings: Settings, adapters: Adapters, prices: KnownPrices, seen: Callable[[], Mapping[NodeKey, ObservedNode]]
) -> Services:
    """seen: the last look at every node."""
    return Services(
        store=adapters.store,
        pool=adapters.pool,
        catalogue=adapters.catalogue,
        clock=SystemClock(),
        catalog=catalog(),
        machine=Machine(psutil.virtual_memory().total, settings.overcommit),
        account_id=settings.account_id,
        redis_stand_in=settings.redis_stand_in,
        update_next_major=settings.update_next_major,
        auth_without_tls=settings.auth_without_tls,
        serverless_tls=settings.serverless_tls,
        encrypted_at_rest=_encrypted_by(settings),
        seen=seen,
        snapshots_per_day=settings.snapshots_per_day,
        buckets=settings.bucket_places,
        prices=prices.latest,
        quotas=Quotas.parse(settings.quotas),
        scaling=_scaling(settings),
        token_door=adapters.module,
    )


def catalog() -> Catalog:
    """The package's data. Default groups are the same in every region; their region is left empty."""
    groups = {}
    for name, family, cluster_on in data.default_groups():
        values = {"cluster-enabled": "yes"} if cluster_on else {}
        suffix = " with cluster mode on" if cluster_on else ""
        text = f"Default parameter group for {family}{suffix}"
        groups[name] = ParameterGroup("", name, family, text, values, is_default=True)
    return Catalog(data.families(), data.node_types(), groups, acl_commands())


def _encrypted_by(settings: Settings) -> str:
    return encrypted_by(settings.state_dir) or ("the operator's word" if settings.encrypted_state else "")


def _scaling(settings: Settings) -> Scaling:
    headroom, shard = settings.serverless_headroom_mb * _MIB, settings.serverless_shard_mb * _MIB
    return Scaling(int(headroom), int(shard), settings.serverless_calm)
