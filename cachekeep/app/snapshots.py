"""Snapshots and continuous backups put together: the services, and the processes that do their work."""

from __future__ import annotations

from collections.abc import MutableMapping

from cachekeep.api.context import Services
from cachekeep.app.capture_worker import CaptureProcesses
from cachekeep.app.snapshot_worker import SnapshotProcesses
from cachekeep.domain.access import EngineLogin
from cachekeep.domain.continuous import Standing
from cachekeep.domain.nodes import Address
from cachekeep.engine.secured import Secured
from cachekeep.settings import Settings
from cachekeep.snapshots.continuous import Continuous
from cachekeep.snapshots.service import Doors, Snapshotting

SNAPSHOTS_FOLDER = "snapshots"
STAGING_FOLDER = "restores"
CONTINUOUS_FOLDER = "continuous"


def build_snapshots(settings: Settings, services: Services, login: EngineLogin, secured: Secured) -> Snapshotting:
    """The repository is `snapshots` below the state directory; `cachekeep backup` reads it as any other."""
    state = settings.state_dir
    secret = (login.username, login.password)

    def way(address: Address) -> tuple[Address, bool]:
        # Nothing is on its way from one mode to another while a snapshot is taken or a cache is created.
        own, context = secured.ways(address)[0]
        return own, context is not None

    worker = SnapshotProcesses(
        repository=state / SNAPSHOTS_FOLDER,
        staging=state / STAGING_FOLDER,
        buckets=settings.bucket_places,
        secret=lambda: secret,
        way=way,
        authority=settings.ca_file,
        nodes=state / "nodes",
    )
    return Snapshotting(Doors(services.store, worker, services.clock, services.seen))


def build_continuous(
    settings: Settings,
    services: Services,
    login: EngineLogin,
    secured: Secured,
    standings: MutableMapping[tuple[str, str], Standing],
) -> Continuous:
    """A repository for each group, below `continuous` in the state directory. standings: kept there, for reports.

    Not that of the snapshots: a moment has to name one group's data, and what is over goes by another rule.
    """
    secret = (login.username, login.password)

    def way(address: Address) -> tuple[Address, bool]:
        # One that is just changing its ports is asked for the one way that it was last seen to have, then once more.
        own, context = secured.ways(address)[0]
        return own, context is not None

    worker = CaptureProcesses(settings.state_dir / CONTINUOUS_FOLDER, lambda: secret, way, settings.ca_file)
    return Continuous(services.store, worker, services.clock, standings)
