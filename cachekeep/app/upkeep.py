"""Upkeep put together: what keeps service updates and tells the ends of support."""

from __future__ import annotations

from functools import partial

from cachekeep.api.context import Services
from cachekeep.api.service_updates import begin
from cachekeep.data.engine_support import support_ends
from cachekeep.settings import Settings
from cachekeep.upkeep.updates import UpdateKeeper, UpkeepWorld


def build_upkeep(settings: Settings, services: Services) -> UpdateKeeper:
    world = UpkeepWorld(
        services.store,
        services.catalogue,
        services.clock,
        partial(begin, services),
        support_ends(),
        settings.update_next_major,
    )
    return UpdateKeeper(world)
