"""Settings -> adapters -> services -> tasks: the service from its start to its end."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import psutil
import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette

from cachekeep import __version__, credentials
from cachekeep.access.iam_module import IamModule
from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.rehearsal import Outlook
from cachekeep.api.throttle import Throttle
from cachekeep.api.token_users import token_users
from cachekeep.app.encryption import ApiCertificate
from cachekeep.app.guarding import build_guarding
from cachekeep.app.lasting import lasting
from cachekeep.app.log_delivering import build_log_delivering
from cachekeep.app.mirroring import build_mirroring, build_regional
from cachekeep.app.monitoring import build_metering
from cachekeep.app.own_login import own_login
from cachekeep.app.snapshots import build_continuous, build_snapshots
from cachekeep.app.sources import protocol_for, raise_open_files
from cachekeep.app.surface import build_surface
from cachekeep.app.upkeep import build_upkeep
from cachekeep.control.loop import Control, World
from cachekeep.data import load as data
from cachekeep.data.acl_commands import acl_commands
from cachekeep.domain.continuous import Standing
from cachekeep.domain.nodes import NodeKey, ObservedNode
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import AddressPool, WorldError
from cachekeep.domain.quotas import Quotas
from cachekeep.endpoint.addresses import LoopbackPool, PortPool, loopback_usable
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.engine.secured import Secured
from cachekeep.host.at_rest import encrypted_by
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.listening import listening_below
from cachekeep.host.local import LocalHost
from cachekeep.log_stream import LogStream
from cachekeep.plan.decision import Limits
from cachekeep.plan.placement import Machine
from cachekeep.plan.serverless import Scaling
from cachekeep.plan.specs import Abilities, Catalog
from cachekeep.report.cost_prices import IMPORTED, KnownPrices
from cachekeep.serverless.scaler import Scaler
from cachekeep.settings import SERVICE_SETTINGS, Settings
from cachekeep.store.sqlite import SqliteStore

log = structlog.get_logger()

SERVICE_FILE = "service.json"
STORE_FILE = "store.sqlite"
SHUTDOWN_S = 5
_MIB = 1 << 20


class StartError(Exception):
    """The service cannot start; the text says why and what to do."""


class SystemClock:
    def now(self) -> float:
        return time.time()


@dataclass(frozen=True)
class Adapters:
    """Everything that touches the world."""

    store: SqliteStore
    host: LocalHost
    admin: Admin
    catalogue: MachineCatalogue
    pool: AddressPool


def catalog() -> Catalog:
    """The package's data. Default groups are the same in every region; their region is left empty."""
    groups = {}
    for name, family, cluster_on in data.default_groups():
        values = {"cluster-enabled": "yes"} if cluster_on else {}
        suffix = " with cluster mode on" if cluster_on else ""
        text = f"Default parameter group for {family}{suffix}"
        groups[name] = ParameterGroup("", name, family, text, values, is_default=True)
    return Catalog(data.families(), data.node_types(), groups, acl_commands())


def _scaling(settings: Settings) -> Scaling:
    headroom, shard = settings.serverless_headroom_mb * _MIB, settings.serverless_shard_mb * _MIB
    return Scaling(int(headroom), int(shard), settings.serverless_calm)


def _abilities(catalogue: MachineCatalogue) -> Abilities:
    return Abilities(
        # Engines inherit the service's limit and raise themselves to the hard one.
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        defrag=frozenset((i.engine, i.version) for i in catalogue.installs() if i.defrag),
    )


def address_pool(settings: Settings) -> AddressPool:
    """Loopback addresses where they can be used, else ports of 127.0.0.1 (`doctor` says which)."""
    if settings.uses_ports:
        return PortPool()
    why = loopback_usable(settings.network)
    if why is None:
        return LoopbackPool(settings.network)
    log.warning("no loopback addresses, using ports of 127.0.0.1", why=why)
    return PortPool()


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
    state = settings.state_dir
    try:
        credentials.load_or_create(state)
        credentials.load_or_create_token(state)
        store = SqliteStore(state / STORE_FILE)
    except (credentials.CredentialsError, WorldError, OSError) as error:
        raise StartError(str(error)) from error
    except sqlite3.Error as error:
        raise StartError(f"{state / STORE_FILE} cannot be used: {error}; put back a good copy of it") from error
    try:
        login = own_login(state, store)
    except credentials.CredentialsError as error:
        store.close()
        raise StartError(str(error)) from error
    authority = Authority(settings.authority_dir, settings.certificate_hours * 3600)
    certificate = ApiCertificate(authority, settings.authority_dir / "api.pem")
    try:
        if settings.tls:
            certificate.ready()
    except WorldError as error:
        raise StartError(f"the API cannot be served over TLS: {error}") from error
    catalogue = MachineCatalogue(redis_from_valkey=settings.redis_stand_in)
    module = IamModule(state, catalogue.installs)
    host = LocalHost(state / "nodes", login, authority, module.words_for)
    secured = Secured(settings.ca_file)
    secured.follow(store)
    for address, listening in listening_below(state / "nodes").items():
        secured.seen(address, listening)
    access = Access(login, secured.context_for, secured)
    if store.is_new and host.nodes():
        store.close()
        (state / STORE_FILE).unlink()
        raise StartError(
            f"{state / 'nodes'} holds nodes, but the store that wanted them ({STORE_FILE}) is gone: put it back, or "
            "end and delete them with `cachekeep down --delete-data`"
        )
    adapters = Adapters(
        store,
        host,
        Admin(access),
        catalogue,
        address_pool(settings),
    )
    seen: dict[NodeKey, ObservedNode] = {}
    prices = KnownPrices(state / IMPORTED)
    prices.latest()  # begins to read what was imported
    services = Services(
        store=store,
        pool=adapters.pool,
        catalogue=adapters.catalogue,
        clock=SystemClock(),
        catalog=catalog(),
        machine=Machine(psutil.virtual_memory().total, settings.overcommit),
        account_id=settings.account_id,
        redis_stand_in=settings.redis_stand_in,
        update_next_major=settings.update_next_major,
        auth_without_tls=settings.auth_without_tls,
        serverless_tls=settings.serverless_tls,
        encrypted_at_rest=encrypted_by(state) or ("the operator's word" if settings.encrypted_state else ""),
        seen=lambda: seen,
        snapshots_per_day=settings.snapshots_per_day,
        buckets=settings.bucket_places,
        prices=prices.latest,
        quotas=Quotas.parse(settings.quotas),
        scaling=_scaling(settings),
        token_door=module,
    )
    snapshots = build_snapshots(settings, services, login, secured)
    await asyncio.to_thread(adapters.catalogue.installs)
    abilities = _abilities(adapters.catalogue)
    limits = Limits(settings.hang_timeout, settings.sync_timeout, settings.rollback_hours * 3600)
    world = World(store, adapters.host, adapters.admin, adapters.catalogue, services.clock)
    control = Control(world, services.catalog, abilities, limits, seen)
    guarding = build_guarding(settings, services, module, token_users(store))
    throttle = Throttle(settings.api_rate) if settings.api_rate else None
    dispatcher = Dispatcher(services, guarding.keys.get, Outlook(abilities, limits), guarding.gate, throttle)
    lags: dict[tuple[str, str], float] = {}
    standings: dict[tuple[str, str], Standing] = {}
    metering = build_metering(settings, services, access, guarding.gate, lags, standings)
    delivering = build_log_delivering(settings, services, access)
    tasks = {
        **metering.tasks(),
        **delivering.tasks(),
        "service-updates": build_upkeep(settings, services).run,
        "snapshots": snapshots.run,
        "migrations": build_mirroring(settings, services, login, secured).run,
        "continuous": build_continuous(settings, services, login, secured, standings).run,
        "regions": build_regional(settings, services, login, secured, lags).run,
        "serverless": Scaler(services, metering.collector.current).run,
    }
    application = build_surface(settings, services, dispatcher, metering, guarding.keys, prices)
    try:
        await guarding.start()
        await _run(settings, listener, control, tasks, application, certificate)
    finally:
        await delivering.close()
        await metering.close()
        await guarding.close()
        adapters.host.close()
        await adapters.admin.close()
        store.close()


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
