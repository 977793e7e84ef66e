"""The surfaces put together: the AWS APIs, the signed pages of the command line, and whatever else HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from cachekeep import __version__
from cachekeep.api import http, topics, watch
from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.pages import Page, PageCall
from cachekeep.api.tagging.front import Tagging
from cachekeep.app.costing import Costing, build_costing
from cachekeep.app.dashboard import DashboardViews, KeyOperator, Reports, Secrets
from cachekeep.app.encryption import authority_page
from cachekeep.app.monitoring import Metering
from cachekeep.app.scraping import build_scraping
from cachekeep.report import health_page
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.report.health_members import troubles
from cachekeep.report.price_table import price_table
from cachekeep.settings import Settings
from cachekeep.status import status_of
from cachekeep.web import build, loopback_hosts

# Pages that take a POST, too.
WRITABLE = frozenset({"health", "topics", "watch"})


def build_surface(
    settings: Settings,
    services: Services,
    dispatcher: Dispatcher,
    metering: Metering,
    keys: Secrets,
    prices: KnownPrices,
) -> Starlette:
    """The ASGI application. keys: the secrets of the access keys."""
    costing = build_costing(settings, services, metering, prices)
    pages = _pages(settings, services, metering, costing)
    dashboard = _dashboard(settings, services, dispatcher, metering, costing, keys)
    scrape = build_scraping(settings, services, dispatcher, metering)
    more = [*dashboard, authority_page(settings)]
    fronts = (metering.cloudwatch, Tagging(services, dispatcher.gate))
    return http.build(dispatcher, __version__, pages, WRITABLE, fronts, more, scrape)


def _dashboard(
    settings: Settings,
    services: Services,
    dispatcher: Dispatcher,
    metering: Metering,
    costing: Costing,
    keys: Secrets,
) -> list[BaseRoute]:
    """Routes under `/ui`."""
    reports = Reports(
        health=metering.health.report,
        levels=metering.health.levels,
        troubles=lambda region: troubles(metering.monitoring.gauges, region, metering.monitoring.now()),
        thresholds=metering.health.thresholds_of,
        cost=lambda region, name: costing.cost.page(region, {"name": name or ""}),
        prices=lambda asked: price_table(costing.prices, asked),
        right_size=costing.sizing.report,
        watched=metering.targets.watched,
        status=lambda: status_of(services.store, services.seen(), settings.url),
    )
    views = DashboardViews(settings.region, services, metering.monitoring, reports)
    hosts = loopback_hosts(settings.port)
    return build(KeyOperator(keys, dispatcher), views, hosts, now=services.clock.now)


def _pages(settings: Settings, services: Services, metering: Metering, costing: Costing) -> dict[str, Page]:
    """The signed pages by name (see api.pages)."""
    store, account = services.store, settings.account_id

    async def health(call: PageCall) -> Mapping[str, object]:
        region = call.query.get("region") or call.region
        if call.method == "GET":
            return await health_page.told(metering.health, region, call.query)
        return health_page.changed(metering.health, region, call.body)

    async def topics_page(call: PageCall) -> Mapping[str, object]:
        if call.method == "GET":
            return topics.listed(store, account, call.region)
        now = services.clock.now()
        mails = settings.smtp is not None
        return await topics.answered(store, metering.notifier, account, call.region, call.body, now, mails=mails)

    async def watch_page(call: PageCall) -> Mapping[str, object]:
        if call.method == "GET":
            return watch.listed(metering.targets, call.region)
        types, now = services.catalog.node_types, services.clock.now()
        return await watch.answered(metering.targets, store, types, call.region, call.body, now)

    return {
        "status": lambda _: status_of(store, services.seen(), settings.url),
        "health": health,
        "cost": lambda call: costing.cost.page(call.query.get("region") or None, call.query),
        "right-size": lambda call: costing.sizing.page(call.query.get("region") or call.region, call.query),
        "topics": topics_page,
        "watch": watch_page,
    }
