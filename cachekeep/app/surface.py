"""The surfaces put together: the AWS APIs, the signed pages of the command line, and whatever else HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette

from cachekeep import __version__
from cachekeep.api import http, topics
from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.pages import Page, PageCall
from cachekeep.app.monitoring import Metering
from cachekeep.settings import Settings
from cachekeep.status import status_of

# Pages that take a POST, too.
WRITABLE = frozenset({"topics"})


def build_surface(
    settings: Settings, services: Services, dispatcher: Dispatcher, metering: Metering, keys: Mapping[str, str]
) -> Starlette:
    """The ASGI application. keys: id -> secret of every accepted access key."""
    return http.build(dispatcher, __version__, _pages(settings, services, metering), WRITABLE, metering.cloudwatch)


def _pages(settings: Settings, services: Services, metering: Metering) -> dict[str, Page]:
    """The signed pages by name (see api.pages)."""
    store, account = services.store, settings.account_id

    async def topics_page(call: PageCall) -> Mapping[str, object]:
        if call.method == "GET":
            return topics.listed(store, account, call.region)
        now = services.clock.now()
        return await topics.answered(store, metering.notifier, account, call.region, call.body, now)

    return {
        "status": lambda _: status_of(store, services.seen(), settings.url),
        "topics": topics_page,
    }
