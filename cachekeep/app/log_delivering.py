"""Log delivery put together: where logs are read, where they go, and the task that keeps it going."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cachekeep.api.context import Services
from cachekeep.engine.access import Access
from cachekeep.engine.slow_log import EngineSlowLogs
from cachekeep.host.engine_log_tail import EngineLogFiles
from cachekeep.logs.delivery import LogKeeper, LogWorld
from cachekeep.notify.firehose import FirehoseEndpoint
from cachekeep.notify.log_destinations import Destinations
from cachekeep.notify.log_files import LogFiles
from cachekeep.settings import Settings
from cachekeep.store.log_positions import LogPositionFiles

FOLDER = "logs"
POSITIONS = "log-positions"


@dataclass(frozen=True)
class LogDelivering:
    keeper: LogKeeper
    slow_logs: EngineSlowLogs

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {"log-delivery": self.keeper.run}

    async def close(self) -> None:
        """When the task has ended."""
        await self.slow_logs.close()


def build_log_delivering(settings: Settings, services: Services, access: Access) -> LogDelivering:
    state = settings.state_dir
    cloudwatch = firehose = None
    if settings.logs_endpoint:
        # Late: it comes with all of botocore, a tenth of a start's time.
        from cachekeep.notify.cloudwatch_logs import CloudWatchLogs

        name, _, secret = settings.logs_access_key.partition(":")
        cloudwatch = CloudWatchLogs(settings.logs_endpoint, (name, secret) if name else None)
    if settings.firehose_url:
        firehose = FirehoseEndpoint(settings.firehose_url, settings.account_id, settings.firehose_access_key)
    destinations = Destinations(LogFiles(state / FOLDER), cloudwatch, firehose)
    slow_logs = EngineSlowLogs(access)
    world = LogWorld(
        services.store,
        services.clock,
        slow_logs,
        EngineLogFiles(state / "nodes"),
        destinations,
        LogPositionFiles(state / POSITIONS),
    )
    return LogDelivering(LogKeeper(world), slow_logs)
