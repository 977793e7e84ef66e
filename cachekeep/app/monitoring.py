"""Monitoring put together: meters, series, alarms and notices, and the tasks that they run as."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import psutil

from cachekeep.api.cloudwatch.call import CloudWatchServices
from cachekeep.api.cloudwatch.front import CloudWatch
from cachekeep.api.cloudwatch.values import SeriesValues
from cachekeep.api.context import Services
from cachekeep.api.gate import Gate
from cachekeep.data.metrics import command_families, metrics
from cachekeep.data.prices import node_specs
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.continuous import Standings
from cachekeep.domain.metric_ports import Monitoring
from cachekeep.engine.access import Access
from cachekeep.engine.examiner import EngineExaminer
from cachekeep.engine.explorer import EngineExplorer
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.alarms import AlarmKeeper
from cachekeep.monitor.census import Census
from cachekeep.monitor.collect import Collector, Instruments
from cachekeep.monitor.notify import EventTeller, Notifier
from cachekeep.monitor.targets import Targets
from cachekeep.notify.deliver import Deliveries
from cachekeep.report.health import HealthReports
from cachekeep.settings import Settings
from cachekeep.store.series import Retention, SeriesFile

METRICS_FILE = "metrics.sqlite"


@dataclass(frozen=True)
class Metering:
    """monitoring: what surfaces read. notifier: publishes and tries topics out."""

    monitoring: Monitoring
    cloudwatch: CloudWatch
    notifier: Notifier
    collector: Collector
    keeper: AlarmKeeper
    teller: EventTeller
    series: SeriesFile
    meter: EngineMeter
    host: MachineMeter
    deliveries: Deliveries
    health: HealthReports
    targets: Targets
    backups: Standings

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {
            "collecting": self.collector.run,
            "alarms": self.keeper.run,
            "notices": self.notifier.run,
            "event-notices": self.teller.run,
            "watched": self.targets.run,
            "health": self.health.run,
        }

    async def close(self) -> None:
        """When the tasks have ended."""
        self.collector.finish()
        await self.meter.close()
        self.host.close()
        self.deliveries.close()
        self.series.close()


def build_metering(
    settings: Settings,
    services: Services,
    access: Access,
    gate: Gate | None = None,
    lags: Mapping[tuple[str, str], float] = MappingProxyType({}),
    backups: Standings = MappingProxyType({}),
) -> Metering:
    """services, gate: of the API; their `seen` tells processes and endpoints. lags: of living copies, by region and
    group. backups: how continuous backups stand, now and later. Raises WorldError for a metrics file of a newer
    Cachekeep."""
    store, clock = services.store, services.clock
    retention = Retention(settings.metrics_fine_days, settings.metrics_middle_days, settings.metrics_days)
    series = SeriesFile(settings.state_dir / METRICS_FILE, retention, clock.now)
    meter, host = EngineMeter(access=access), MachineMeter()
    targets = Targets(store, EngineExplorer(), lambda subject: collector.current(subject))
    census = Census(store, services.seen, targets.nodes, lags)
    instruments = Instruments(meter, host, series, metrics(), command_families(), clock.now)
    collector = Collector(instruments, census.nodes)
    deliveries = Deliveries(settings.smtp, clock.now)
    notifier = Notifier(store, deliveries, clock, settings.account_id)
    asked = CloudWatchServices(series, metrics(), store, clock.now, settings.account_id)
    keeper = AlarmKeeper(store, SeriesValues(asked), notifier, clock, settings.account_id)
    monitoring = Monitoring(series, collector, EngineExaminer(access=access), clock.now, psutil.virtual_memory().total)
    return Metering(
        monitoring,
        CloudWatch(replace(asked, set_state=keeper.set_state), gate),
        notifier,
        collector,
        keeper,
        EventTeller(store, notifier, clock),
        series,
        meter,
        host,
        deliveries,
        HealthReports(monitoring, meter, store, thresholds(), _baselines(), backups),
        targets,
        backups,
    )


def _baselines() -> dict[str, float]:
    """Node type -> bytes per second that its network lasts at, in each direction; where it is known."""
    specs = node_specs()
    return {name: spec.network_gbps * 1e9 / 8 for name, spec in specs.items() if spec.network_gbps is not None}
