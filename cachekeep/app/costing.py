"""Cost and right-sizing put together, over the store, the measurements and the prices that are known."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from cachekeep.api.context import Services
from cachekeep.app.monitoring import Metering
from cachekeep.data.prices import node_specs
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.reserved_node import ReservedNode
from cachekeep.report.cost import CostReports, CostSources
from cachekeep.report.cost_here import MachineShare
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.report.right_size import RightSizing, SizingSources
from cachekeep.settings import Settings
from cachekeep.status import Page, status_of


@dataclass(frozen=True)
class Costing:
    """For pages and the dashboard."""

    cost: CostReports
    sizing: RightSizing
    prices: KnownPrices


def build_costing(settings: Settings, services: Services, metering: Metering, prices: KnownPrices) -> Costing:
    """services: of the API; their store is asked on the event loop only."""
    store, monitoring = services.store, metering.monitoring

    def status() -> Page:
        return status_of(store, services.seen(), settings.url)

    def targets() -> list[WatchedTarget]:
        return store.all(WatchedTarget)

    def reserved() -> list[ReservedNode]:
        return store.all(ReservedNode)

    def began(region: str, name: str) -> float:
        resource = store.get(ReplicationGroup, region, name) or store.get(CacheCluster, region, name)
        return resource.created_at if resource is not None else 0.0

    share = MachineShare(monitoring, metering.host.processes)
    cores = float(psutil.cpu_count() or 1)
    return Costing(
        CostReports(
            CostSources(status, targets, prices, monitoring, share, cores, settings.machine_usd_month, reserved)
        ),
        RightSizing(SizingSources(monitoring, status, targets, began, prices, node_specs())),
        prices,
    )
