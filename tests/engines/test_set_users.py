"""Users on real engines of every version: told at the start and while they run, enforced, cut off when they lose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import valkey as client

from cachekeep.data.acl_commands import acl_commands
from cachekeep.domain.access import EngineLogin, Rules, password_digest
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.users import Authentication
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost
from cachekeep.plan.users import Entrant, Entrants, node_users

Eventually = Callable[..., Awaitable[Any]]
FreshAddress = Callable[..., Address]
Open = Callable[..., "client.Valkey[Any]"]
LOGIN = EngineLogin("the-installation's-own")
VERSIONS = [(Engine.VALKEY, "9.1"), (Engine.VALKEY, "8.1"), (Engine.REDIS, "7.0"), (Engine.REDIS, "6.2")]
LINK = "us-east-1/a"
PASSWORD = "correct-horse-battery"


@pytest.fixture(params=VERSIONS, ids=lambda v: f"{v[0].value}-{v[1]}")
def install(request: pytest.FixtureRequest, catalogue: MachineCatalogue) -> EngineInstall:
    engine, version = request.param
    found = catalogue.best(engine, EngineVersion.parse(version))
    if found is None:
        pytest.skip(f"needs {engine.label} {version} on the machine")
    return found


@pytest.fixture
def open_client() -> Iterator[Open]:
    with ExitStack() as stack:

        def connect(at: Address, name: str | None = None, password: str | None = None) -> client.Valkey[Any]:
            made = client.Valkey(
                host=at.host, port=at.port, username=name, password=password, lib_name=None, lib_version=None
            )
            return stack.enter_context(made)

        yield connect


def user(name: str, text: str, *passwords: str) -> Entrant:
    return Entrant(name, text, Authentication.PASSWORD, tuple(map(password_digest, passwords)))


def rules(install: EngineInstall, *users: Entrant) -> Rules:
    return node_users(Entrants(True, users), acl_commands(), install.engine, install.version)


def started(
    install: EngineInstall, root: Path, at: Address, users: Rules, eventually: Eventually, work: Callable[[Admin], Any]
) -> None:
    """Start an engine with these users and run `work` with an admin that gets in."""

    async def run() -> None:
        admin = Admin(Access(LOGIN))
        spec = NodeSpec(NodeKey("us-east-1", "a"), install.engine, install.version, at, link=LINK, users=users)
        await LocalHost(root, LOGIN).start(spec, install, keep_data=False)
        facts = await eventually(lambda: admin.facts(install.engine, at, []))
        assert facts.acl == spec.acl, "an engine that was just started has the users that it was started with"
        await work(admin)
        await admin.close()

    asyncio.run(run())


def refused(link: client.Valkey[Any], *words: str) -> bool:
    try:
        link.execute_command(*words)
    except client.exceptions.NoPermissionError:
        return True
    except client.ResponseError:
        return False
    return False


def is_cut(link: Any) -> bool:
    try:
        link.send_command("PING")
        link.read_response()
    except client.ConnectionError:
        return True
    return False


def test_rights_are_enforced_and_no_user_gets_what_aws_refuses(
    install: EngineInstall, nodes_root: Path, fresh_address: FreshAddress, eventually: Eventually, open_client: Open
) -> None:
    at = fresh_address()
    full = user("full", "on ~* +@all", PASSWORD)
    app = user("app", "on ~app:* &* -@all +@read +@write +select|0 -client|kill +acl|whoami", PASSWORD)

    async def work(_: Admin) -> None:
        await asyncio.to_thread(check)

    def check() -> None:
        with pytest.raises(client.AuthenticationError):
            open_client(at).ping()
        link = open_client(at, "full", PASSWORD)
        assert link.execute_command("ACL", "WHOAMI") == b"full"
        for words in (
            ("CONFIG", "GET", "masterauth"),
            ("ACL", "SETUSER", "mallory", "on", "nopass", "~*", "+@all"),
            ("ACL", "LIST"),
            ("ACL", "GETUSER", "full"),
            ("ACL", "DELUSER", "cachekeep"),
            ("ACL", "SAVE"),
            ("REPLICAOF", "NO", "ONE"),
            ("SLAVEOF", "NO", "ONE"),
            ("SHUTDOWN",),
            ("SAVE",),
            ("BGSAVE",),
            ("BGREWRITEAOF",),
            ("PSYNC", "?", "-1"),
            ("SYNC",),
            ("MIGRATE", "127.0.0.1", "1", "k", "0", "10"),
            ("MODULE", "LIST"),
            ("CLUSTER", "MEET", "127.0.0.1", "1"),
            ("CLUSTER", "RESET"),
            ("CLUSTER", "ADDSLOTS", "1"),
        ):
            assert refused(link, *words), f"{words} must be refused by ACL"
        for words in (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"), ("ACL", "USERS"), ("ACL", "CAT"), ("INFO",)):
            assert not refused(link, *words), words
        mine = open_client(at, "app", PASSWORD)
        assert mine.set("app:1", "x")
        assert mine.execute_command("ACL", "WHOAMI") == b"app"
        assert all(refused(mine, *words) for words in (("SET", "other", "x"), ("PUBLISH", "c", "m"), ("ACL", "CAT")))

    started(install, nodes_root, at, rules(install, app, full), eventually, work)


def test_live_changes_cut_who_loses_and_nobody_else(
    install: EngineInstall, nodes_root: Path, fresh_address: FreshAddress, eventually: Eventually, open_client: Open
) -> None:
    at = fresh_address()
    before = (user("ann", "on ~* +@all", PASSWORD, "second" * 4), user("bob", "on ~a:* +@read +ping", PASSWORD))

    async def work(admin: Admin) -> None:
        ann, bob = open_client(at, "ann", PASSWORD), open_client(at, "bob", PASSWORD)
        keep, hold = ann.connection_pool.get_connection("keep"), bob.connection_pool.get_connection("hold")
        for link in (keep, hold):
            link.send_command("PING")
            assert link.read_response() == b"PONG"
        # Bob is given more, ann loses the password that she came in with; carol is new.
        after = rules(
            install,
            user("ann", "on ~* +@all", "second" * 4),
            user("bob", "on ~a:* ~b:* +@read +ping", PASSWORD),
            user("carol", "on ~* +get", PASSWORD),
        )
        await admin.set_users(at, LINK, after)
        facts = await admin.facts(install.engine, at, [])
        assert facts.acl == NodeSpec(NodeKey("r", "a"), install.engine, install.version, at, link=LINK, users=after).acl
        hold.send_command("GET", "b:1")
        assert hold.read_response() is None, "who only gains is not cut"
        assert is_cut(keep)
        with pytest.raises(client.AuthenticationError):
            open_client(at, "ann", PASSWORD).ping()
        assert open_client(at, "ann", "second" * 4).ping()
        # Back to open: nobody is asked, and those users are gone.
        await admin.set_users(at, LINK, ())
        assert open_client(at).ping()
        assert sorted(open_client(at).execute_command("ACL", "USERS"))[-1] == b"default"
        await admin.set_users(at, LINK, ())
        # Closed again: whoever came in while it was open is cut.
        guest = open_client(at).connection_pool.get_connection("guest")
        await admin.set_users(at, LINK, after)
        assert is_cut(guest)
        for pool in (ann.connection_pool, bob.connection_pool):
            pool.disconnect()

    started(install, nodes_root, at, rules(install, *before), eventually, work)


def test_users_that_clients_of_an_open_cache_made_are_left_alone(
    valkey: EngineInstall, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually, open_client: Open
) -> None:
    """An engine that an earlier version of the service started: it learns of the service, and loses nothing."""
    at = fresh_address()

    async def run() -> None:
        admin = Admin(Access(LOGIN))
        spec = NodeSpec(NodeKey("us-east-1", "a"), valkey.engine, valkey.version, at, link=LINK)
        await host.start(spec, valkey, keep_data=False)
        assert (await eventually(lambda: admin.facts(valkey.engine, at, []))).acl == ""
        open_client(at).execute_command("ACL", "SETUSER", "theirs", "on", ">pw", "~*", "+@all")
        await admin.set_users(at, LINK, ())
        assert b"theirs" in open_client(at).execute_command("ACL", "USERS")
        assert (await admin.facts(valkey.engine, at, [])).acl == spec.acl
        await admin.close()

    asyncio.run(run())
