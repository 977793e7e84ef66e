"""Everything that touches the world, opened: the store, the host, the engines, the addresses. Called by app.serve."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import structlog

from cachekeep import credentials
from cachekeep.access.iam_module import IamModule
from cachekeep.app.encryption import ApiCertificate
from cachekeep.app.own_login import own_login
from cachekeep.domain.access import EngineLogin
from cachekeep.domain.ports import AddressPool, WorldError
from cachekeep.endpoint.addresses import LoopbackPool, PortPool, loopback_usable
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.engine.secured import Secured
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.listening import listening_below
from cachekeep.host.local import LocalHost
from cachekeep.settings import Settings
from cachekeep.store.sqlite import SqliteStore

log = structlog.get_logger()

STORE_FILE = "store.sqlite"


class StartError(Exception):
    """The service cannot start; the text says why and what to do."""


@dataclass(frozen=True)
class Adapters:
    """module: what engines check IAM tokens by. secured: where each engine listens, and how it is talked to there."""

    store: SqliteStore
    login: EngineLogin
    certificate: ApiCertificate
    catalogue: MachineCatalogue
    module: IamModule
    host: LocalHost
    secured: Secured
    access: Access
    admin: Admin
    pool: AddressPool

    async def close(self) -> None:
        """Engines run on."""
        self.host.close()
        await self.admin.close()
        self.store.close()


def open_adapters(settings: Settings) -> Adapters:
    """Raises StartError when one of them cannot be used."""
    nodes = settings.state_dir / "nodes"
    store = _open_store(settings)
    login = _login(settings, store)
    authority = Authority(settings.authority_dir, settings.certificate_hours * 3600)
    certificate = _certificate(settings, authority)
    catalogue = MachineCatalogue(redis_from_valkey=settings.redis_stand_in)
    module = IamModule(settings.state_dir, catalogue.installs)
    host = LocalHost(nodes, login, authority, module.words_for)
    secured = Secured(settings.ca_file)
    secured.follow(store)
    for address, listening in listening_below(nodes).items():
        secured.seen(address, listening)
    access = Access(login, secured.context_for, secured)
    _refuse_nodes_of_a_lost_store(settings, store, host)
    pool = address_pool(settings)
    return Adapters(store, login, certificate, catalogue, module, host, secured, access, Admin(access), pool)


def _open_store(settings: Settings) -> SqliteStore:
    """With the keys of the first start beside it."""
    state = settings.state_dir
    try:
        credentials.load_or_create(state)
        credentials.load_or_create_token(state)
        return SqliteStore(state / STORE_FILE)
    except (credentials.CredentialsError, WorldError, OSError) as error:
        raise StartError(str(error)) from error
    except sqlite3.Error as error:
        raise StartError(f"{state / STORE_FILE} cannot be used: {error}; put back a good copy of it") from error


def _login(settings: Settings, store: SqliteStore) -> EngineLogin:
    try:
        return own_login(settings.state_dir, store)
    except credentials.CredentialsError as error:
        store.close()
        raise StartError(str(error)) from error


def _certificate(settings: Settings, authority: Authority) -> ApiCertificate:
    certificate = ApiCertificate(authority, settings.authority_dir / "api.pem")
    try:
        if settings.tls:
            certificate.ready()
    except WorldError as error:
        raise StartError(f"the API cannot be served over TLS: {error}") from error
    return certificate


def _refuse_nodes_of_a_lost_store(settings: Settings, store: SqliteStore, host: LocalHost) -> None:
    """A store that was made just now wants none of the nodes that are there: control would end and delete them."""
    if store.is_new and host.nodes():
        store.close()
        (settings.state_dir / STORE_FILE).unlink()
        raise StartError(
            f"{settings.state_dir / 'nodes'} holds nodes, but the store that wanted them ({STORE_FILE}) is gone: put "
            "it back, or end and delete them with `cachekeep down --delete-data`"
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
