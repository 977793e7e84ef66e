"""Living copies put together: the services, and the connections that they make."""

from __future__ import annotations

from collections.abc import Callable

from cachekeep.api.context import Services
from cachekeep.domain.access import EngineLogin
from cachekeep.domain.nodes import Address
from cachekeep.domain.remote import Remote
from cachekeep.domain.world import NotAskedError
from cachekeep.engine.secured import Secured
from cachekeep.mirror.regional import Lags, RegionalDoors, RegionalMirroring
from cachekeep.mirror.service import Doors, Mirroring
from cachekeep.mirror.target import TargetLost
from cachekeep.remote.open import open_remote
from cachekeep.settings import Settings

# A server that says nothing for so long counts as away.
TIMEOUT_S = 20.0


def build_mirroring(settings: Settings, services: Services, login: EngineLogin, secured: Secured) -> Mirroring:
    """A source is talked to without a password, and is never told ours."""
    own = _own(settings, login, secured)

    def outside(address: Address) -> Remote:
        host = f"[{address.host}]" if ":" in address.host else address.host
        return open_remote(f"redis://{host}:{address.port}", timeout_s=TIMEOUT_S)

    return Mirroring(Doors(services.store, services.clock, outside, own))


def build_regional(
    settings: Settings, services: Services, login: EngineLogin, secured: Secured, lags: Lags
) -> RegionalMirroring:
    """Both ends are nodes of ours."""
    return RegionalMirroring(RegionalDoors(services.store, services.clock, _own(settings, login, secured), lags))


def _own(settings: Settings, login: EngineLogin, secured: Secured) -> Callable[[Address], Remote]:
    """A node of ours, in whichever region: all have certificates of one authority. The call raises TargetLost while its
    file cannot be read, which says nothing against the node."""

    def own(address: Address) -> Remote:
        try:
            at, context = secured.ways(address)[0]
        except NotAskedError as error:
            raise TargetLost(str(error)) from error
        scheme = "rediss" if context is not None else "redis"
        return open_remote(
            f"{scheme}://{at}", user=login.username, password=login.password, ca=settings.ca_file, timeout_s=TIMEOUT_S
        )

    return own
