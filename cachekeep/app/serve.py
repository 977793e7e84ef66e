"""Settings -> adapters -> services -> tasks: the service from its start to its end."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TextIO, cast

import psutil
import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette

from cachekeep import __version__
from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.rehearsal import Outlook
from cachekeep.api.throttle import Throttle
from cachekeep.api.token_users import token_users
from cachekeep.app.adapters import StartError, open_adapters
from cachekeep.app.encryption import ApiCertificate
from cachekeep.app.guarding import build_guarding
from cachekeep.app.lasting import lasting
from cachekeep.app.log_delivering import build_log_delivering
from cachekeep.app.mirroring import build_mirroring, build_regional
from cachekeep.app.monitoring import build_metering
from cachekeep.app.services import build_services
from cachekeep.app.snapshots import build_continuous, build_snapshots
from cachekeep.app.sources import protocol_for, raise_open_files
from cachekeep.app.surface import build_surface
from cachekeep.app.upkeep import build_upkeep
from cachekeep.control.loop import Control, World
from cachekeep.domain.continuous import Standing
from cachekeep.domain.nodes import NodeKey, ObservedNode
from cachekeep.host.installs import MachineCatalogue
from cachekeep.log_stream import LogStream
from cachekeep.plan.decision import Limits
from cachekeep.plan.specs import Abilities
from cachekeep.report.cost_prices import IMPORTED, KnownPrices
from cachekeep.serverless.scaler import Scaler
from cachekeep.settings import SERVICE_SETTINGS, Settings

log = structlog.get_logger()

SERVICE_FILE = "service.json"
SHUTDOWN_S = 5


def _abilities(catalogue: MachineCatalogue) -> Abilities:
    return Abilities(
        # Engines inherit the service's limit and raise themselves to the hard one.
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        defrag=frozenset((i.engine, i.version) for i in catalogue.installs() if i.defrag),
    )


def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Engines run on. Raises StartError."""
    _configure_log(settings)
    raise_open_files()
    state = settings.state_dir
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.chmod(0o700)
    except OSError as error:
        raise StartError(f"cannot use the state directory {state}: {error.strerror}; choose another") from error
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with _lock(state), closing(_listen(settings)) as listener, runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    adapters = open_adapters(settings)
    seen: dict[NodeKey, ObservedNode] = {}
    prices = KnownPrices(settings.state_dir / IMPORTED)
    prices.latest()  # begins to read what was imported
    services = build_services(settings, adapters, prices, lambda: seen)
    await asyncio.to_thread(adapters.catalogue.installs)
    abilities = _abilities(adapters.catalogue)
    limits = Limits(settings.hang_timeout, settings.sync_timeout, settings.rollback_hours * 3600)
    world = World(adapters.store, adapters.host, adapters.admin, adapters.catalogue, services.clock)
    control = Control(world, services.catalog, abilities, limits, seen)
    guarding = build_guarding(settings, services, adapters.module, token_users(adapters.store))
    throttle = Throttle(settings.api_rate) if settings.api_rate else None
    dispatcher = Dispatcher(services, guarding.keys.get, Outlook(abilities, limits), guarding.gate, throttle)
    lags: dict[tuple[str, str], float] = {}
    standings: dict[tuple[str, str], Standing] = {}
    metering = build_metering(settings, services, adapters.access, guarding.gate, lags, standings)
    delivering = build_log_delivering(settings, services, adapters.access)
    tasks = {
        **metering.tasks(),
        **delivering.tasks(),
        "service-updates": build_upkeep(settings, services).run,
        "snapshots": build_snapshots(settings, services, adapters.login, adapters.secured).run,
        "migrations": build_mirroring(settings, services, adapters.login, adapters.secured).run,
        "continuous": build_continuous(settings, services, adapters.login, adapters.secured, standings).run,
        "regions": build_regional(settings, services, adapters.login, adapters.secured, lags).run,
        "serverless": Scaler(services, metering.collector.current).run,
    }
    application = build_surface(settings, services, dispatcher, metering, guarding.keys, prices)
    try:
        await guarding.start()
        await _run(settings, listener, control, tasks, application, adapters.certificate)
    finally:
        await delivering.close()
        await metering.close()
        await guarding.close()
        await adapters.close()


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own handling ends the process before anything of ours is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        self.should_exit = True


async def _run(
    settings: Settings,
    listener: socket.socket,
    control: Control,
    tasks: Mapping[str, Callable[[], Awaitable[None]]],
    application: Starlette,
    certificate: ApiCertificate,
) -> None:
    server = _Server(
        uvicorn.Config(
            application,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
            http=protocol_for(settings.sources),
            ws="none",
            # There is no proxy: whoever connects could name any address as its own, and be let in for it.
            proxy_headers=False,
            ssl_certfile=certificate.file if settings.tls else None,
            ssl_keyfile=certificate.file if settings.tls else None,
        )
    )
    server.config.load()
    caring = asyncio.create_task(control.run(), name="control")
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    watching = [asyncio.create_task(lasting(name, run), name=name) for name, run in tasks.items()]
    if server.config.ssl is not None:
        renewing = certificate.renew(server.config.ssl, settings.certificate_hours * 3600)
        watching.append(asyncio.create_task(renewing, name="certificate of the API"))
    try:
        _announce(settings)
    except OSError as error:
        log.warning("cannot tell the command line where the service is", reason=str(error))
    log.info("serving", url=settings.url, state_dir=str(settings.state_dir), version=__version__)
    try:
        await asyncio.wait([caring, serving], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        (settings.state_dir / SERVICE_FILE).unlink(missing_ok=True)
        for task in (caring, *watching):
            task.cancel()
        results = await asyncio.gather(caring, *watching, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


@contextmanager
def _lock(state: Path) -> Iterator[None]:
    """One service per state directory; the kernel lets go when the process ends, however it ends."""
    try:
        descriptor = os.open(state / "service.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot use {state / 'service.lock'}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = f"another Cachekeep runs with the state directory {state}: `cachekeep down` stops it"
            raise StartError(text) from None
        yield


def _listen(settings: Settings) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", settings.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise StartError(
            f"port {settings.port} of 127.0.0.1 cannot be used ({error.strerror}); choose another with --port"
        ) from error
    return listener


def _announce(settings: Settings) -> None:
    """Tell the CLI which process serves. Not a secret, but nobody else's business."""
    path = settings.state_dir / SERVICE_FILE
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(
            {
                "pid": os.getpid(),
                "started": psutil.Process().create_time(),
                "url": settings.url,
                "settings": {name: getattr(settings, name) for name in SERVICE_SETTINGS},
            },
            file,
        )
    partial.rename(path)


def _configure_log(settings: Settings) -> None:
    """Lines of key=value on stderr. Nothing is logged that came in a request's body or in a credential."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, LogStream())),
        cache_logger_on_first_use=True,
    )
