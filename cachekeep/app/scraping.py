"""`/metrics` put together: reads on the event loop what is there, and writes the page in a thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from prometheus_client.process_collector import ProcessCollector
from starlette.routing import Route

from cachekeep import __version__, credentials
from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher, new_request_id
from cachekeep.api.gate import Visit
from cachekeep.api.pages import let_in
from cachekeep.api.scrape import scrape_route
from cachekeep.app.monitoring import METRICS_FILE, Metering
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.data.metrics import metrics
from cachekeep.report.prometheus import NodeReading, ServiceReading, families, read_nodes, statuses_of
from cachekeep.report.prometheus_text import Family, Format, Kind, exposition
from cachekeep.settings import Settings


def build_scraping(settings: Settings, services: Services, dispatcher: Dispatcher, metering: Metering) -> Route:
    """The route. Raises CredentialsError when the token, which the start made, is no good any more."""
    process = ProcessCollector(registry=None)
    file = settings.state_dir / METRICS_FILE

    def page(nodes: list[NodeReading], service: ServiceReading, now: float, form: Format) -> bytes:
        return exposition([*families(nodes, service, metrics(), now), *_of_process(process)], form)

    async def render(open_metrics: bool) -> tuple[str, bytes]:
        form = Format.OPEN_METRICS if open_metrics else Format.TEXT
        nodes = await read_nodes(metering.collector, metering.collector)
        trouble = metering.series.trouble is not None
        service = ServiceReading(
            __version__, statuses_of(services.store), trouble, size_of(file), dict(metering.backups)
        )
        return form.value, await asyncio.to_thread(page, nodes, service, services.clock.now(), form)

    def authenticate(request: HttpRequest) -> Caller:
        visit = Visit(new_request_id(), request.source)
        caller = dispatcher.authenticate(request, visit)
        with let_in(dispatcher.gate, visit, request, {}):
            return caller

    return scrape_route(credentials.load_token(settings.state_dir), authenticate, render)


def size_of(file: Path) -> int | None:
    """Bytes on the disk, what is written and not yet in its place among them. None where it cannot be told."""
    try:
        size = file.stat().st_size
    except OSError:
        return None
    with suppress(OSError):  # there is none while nothing waits
        size += file.with_name(f"{file.name}-wal").stat().st_size
    return size


def _of_process(collector: ProcessCollector) -> list[Family]:
    """`process_*`, under the names that all programs have them under. None on a system without /proc."""
    return [
        Family(
            family.name,
            Kind.COUNTER if family.type == "counter" else Kind.GAUGE,
            family.documentation,
            [("", sample.value) for sample in family.samples if not sample.name.endswith("_created")],
        )
        for family in collector.collect()
    ]
