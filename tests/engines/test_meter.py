"""EngineMeter on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
import socketserver
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pymemcache.client.base import Client as MemcacheClient
from test_remote_tls import Authority

from cachekeep.codec.info import parse_info
from cachekeep.codec.info_view import InfoView, Layout
from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.ports import WorldError
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.local import LocalHost
from cachekeep.monitor.readings import Vocabulary, counters_of_engine, gauges_of_engine


def on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    """The service's event loop; its transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def place_of(server: Any, **more: Any) -> Place:
    return Place(Address(server.host, server.port), **more)


@pytest.mark.parametrize("version", ["9.1", "6.2"])
def test_info_and_latencies_tell_what_was_done(start_server: Callable[..., Any], version: str) -> None:
    server = start_server(version)
    for _ in range(3):
        server.ask("GET", "absent")

    async def run() -> None:
        meter = EngineMeter()
        info = await meter.read(place_of(server))
        assert info["keyspace_misses"] == "3"
        assert info["cmdstat_get"].startswith("calls=3,")
        for _ in range(2):
            latencies = await meter.latencies(place_of(server))
            if version == "6.2":
                assert latencies == {}
            else:
                assert sum(count for _, count in latencies["get"]) == 3
        await meter.close()

    asyncio.run(run())


@pytest.mark.parametrize("version", ["9.1", "8.1", "7.0", "6.2"])
def test_metrics_are_those_of_the_whole_answer_parsed(start_server: Callable[..., Any], version: str) -> None:
    server = start_server(version, "--maxmemory", "100mb", "--databases", "20")
    server.ask("SET", "a", "x", "PX", "100000", db=3)
    server.ask("SET", "b", "x", db=17)
    words = Vocabulary.of(metrics(), command_families(), speaks_resp=True)
    layout: Layout = {}
    for folded in (False, False, True):
        raw = server.ask("INFO", "all")
        view, parsed = InfoView(raw, layout), parse_info(raw.decode())
        if folded:
            view.fold()
        gauges = gauges_of_engine(view, words)
        assert gauges == gauges_of_engine(parsed, words)
        assert counters_of_engine(view, words) == counters_of_engine(parsed, words)
        assert (gauges["CurrItems"], gauges["CurrVolatileItems"], gauges["MaxMemory"]) == (2, 1, 100 << 20)


def test_password_opens_and_never_shows(start_server: Callable[..., Any]) -> None:
    server = start_server("9.1", "--requirepass", "open-sesame")

    async def run() -> None:
        meter = EngineMeter()
        with pytest.raises(WorldError, match=r"NOAUTH.*give a user"):
            await meter.read(place_of(server))
        wrong = place_of(server, password="not-this-one")
        with pytest.raises(WorldError, match="WRONGPASS") as refused:
            await meter.read(wrong)
        assert "not-this-one" not in f"{refused.value}{wrong!r}"
        right = place_of(server, username="default", password="open-sesame")
        assert (await meter.read(right))["loading"] == "0"
        await meter.close()

    asyncio.run(run())


def test_cut_connection_is_made_anew_and_a_silent_engine_is_said(start_server: Callable[..., Any]) -> None:
    server = start_server("9.1")

    async def run() -> None:
        meter = EngineMeter(answer_timeout_s=0.3)
        await meter.read(place_of(server))
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert (await meter.read(place_of(server)))["total_connections_received"]
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(WorldError, match=f"{server.host}:6379 did not answer within 0.3 s"):
            await meter.read(place_of(server))
        os.kill(server.pid, signal.SIGCONT)
        with pytest.raises(WorldError, match="Connection refused"):
            await meter.read(Place(Address(server.host, 6380)))
        await meter.close()

    asyncio.run(run())


def test_memcached_tells_stats_and_its_limit_of_connections(
    host: LocalHost,
    memcached: EngineInstall,
    fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    address = fresh_address(11211)
    spec = NodeSpec(
        NodeKey("us-east-1", "m"), memcached.engine, memcached.version, address, {"-m": "64", "-c": "200"}, None
    )

    async def run() -> None:
        meter, place = EngineMeter(), Place(address, speaks_resp=False)
        await host.start(spec, memcached, keep_data=False)
        await eventually(lambda: meter.read(place))
        client = MemcacheClient((address.host, address.port), connect_timeout=3, timeout=3)
        client.get("absent")
        client.close()
        stats = await meter.read(place)
        assert (stats["get_misses"], stats["settings.maxconns"]) == ("1", "200")
        fields = {metric.memcached_field for metric in metrics().values()} - {""}
        assert fields - stats.keys() <= {"rejected_connections"}, "that one only without `-o maxconns_fast`"
        assert all(stats[field].isdecimal() for field in fields & stats.keys())
        assert await meter.latencies(place) == {}
        await meter.close()

    asyncio.run(run())


@contextmanager
def answering(host: str, *answers: bytes, hang_up: bool = False) -> Iterator[list[bytes]]:
    """A server on port 6379 that gives the next of the answers to each request, the last one for ever; yields what
    it was asked. hang_up: it closes the connection behind each answer."""
    asked: list[bytes] = []
    left = list(answers)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while request := self.request.recv(4096):
                    asked.append(request)
                    self.request.sendall(left.pop(0) if len(left) > 1 else left[0])
                    if hang_up:
                        return

    with socketserver.ThreadingTCPServer((host, 6379), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


GOOD = b"$18\r\n# Server\r\nrole:a\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "hang_up", "sentence"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "does not speak the expected protocol"),
        (b"$twelve\r\n", False, "does not speak the expected protocol"),
        (b"$99999999999\r\n", False, "does not speak the expected protocol"),
        (b"$-1\r\n", False, "does not speak the expected protocol"),
        (b"$5000000\r\n" + b"x" * 5_000_000, False, "does not speak the expected protocol"),
        (b"-" + b"x" * 5_000_000, False, "answered more than 4194304 bytes"),
        (b"$500\r\nrole:ma", False, r"did not answer within 1 s"),
        (b"$500\r\nrole:ma", True, "dropped the connection"),
        (b"-LOADING Valkey is loading the dataset in memory\r\n", False, "refused INFO: LOADING.*; it is loading"),
    ],
)
def test_a_strange_answer_is_a_sentence_and_the_next_read_works(
    fresh_address: Callable[..., Address], answer: bytes, hang_up: bool, sentence: str
) -> None:
    address = fresh_address()

    async def run(asked: list[bytes]) -> None:
        # Only the answer that does not end has to be waited for.
        meter = EngineMeter(5.0, 1.0 if "within 1 s" in sentence else 5.0)
        place = Place(address)
        with pytest.raises(WorldError, match=f"{address}.*{sentence}"):
            await meter.read(place)
        for _ in range(2):
            assert dict(await meter.read(place)) == {"role": "a"}
        assert len(asked) == 3
        await meter.close()

    with answering(address.host, answer, GOOD, hang_up=hang_up) as asked:
        on_uvloop(run(asked))


def test_nothing_that_was_sent_comes_back_in_an_error(fresh_address: Callable[..., Address]) -> None:
    """Even where the server repeats it."""
    address = fresh_address()
    place = Place(address, username="me", password="open-sesame")

    async def run(asked: list[bytes]) -> None:
        meter = EngineMeter()
        with pytest.raises(
            WorldError, match=r"refused the login of user me \(ERR\); check user and password"
        ) as refused:
            await meter.read(place)
        assert b"open-sesame" in asked[0]
        assert "sesame" not in f"{refused.value!r}{refused.value.__cause__!r}{place!r}{meter!r}"
        await meter.close()

    with answering(address.host, b"-ERR unknown command 'AUTH', with args: 'me' 'open-sesame'\r\n") as asked:
        on_uvloop(run(asked))


def test_a_user_without_permission_is_told_which_one(start_server: Callable[..., Any]) -> None:
    server = start_server(users="user default off\nuser looker on >sesame +ping\n")
    place = place_of(server, username="looker", password="sesame")

    async def run() -> None:
        meter = EngineMeter()
        with pytest.raises(WorldError, match=r"refused INFO: NOPERM.*; allow the user INFO and LATENCY") as refused:
            await meter.read(place)
        assert "sesame" not in str(refused.value)
        with pytest.raises(WorldError, match="refused LATENCY HISTOGRAM: NOPERM"):
            await meter.latencies(place)
        await meter.close()

    on_uvloop(run())


def test_an_endpoint_with_tls_is_verified_and_read(
    start_server: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Awaitable[Any]]
) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    certificate, key = authority.sign("engine", "cache.example")
    files = {"tls-cert-file": certificate, "tls-key-file": key, "tls-ca-cert-file": authority.ca}
    server = start_server("7.0", tls={**files, "tls-auth-clients": "no"}, wait=False)
    good = place_of(server, tls=True, ca_file=str(authority.ca), server_name="cache.example")

    async def run() -> None:
        meter = EngineMeter()
        info: Any = await eventually(lambda: meter.read(good))
        assert info["role"] == "master"
        await meter.latencies(good)
        assert (await meter.latencies(good))["info"]
        for bad, sentence in (
            (replace(good, ca_file=str(stranger.ca)), "by TLS: .*check its certificate"),
            (replace(good, server_name="other.example"), "by TLS: .*other.example.*check its certificate"),
            (replace(good, server_name=""), "by TLS: .*check its certificate"),
            (replace(good, ca_file=str(tmp_path / "absent.pem")), "cannot read the authority .*absent.pem"),
            (replace(good, ca_file=str(key)), "cannot read the authority .*; name a PEM file"),
        ):
            with pytest.raises(WorldError, match=sentence):
                await meter.read(bad)
        plain = replace(good, tls=False)
        with pytest.raises(WorldError, match=str(plain.address)):
            await meter.read(plain)
        await meter.close()

    on_uvloop(run())


def test_a_name_that_nobody_knows_is_a_sentence() -> None:
    async def run() -> None:
        meter = EngineMeter()
        for name in ("no-such-host.invalid", "a" * 70 + ".invalid"):
            with pytest.raises(WorldError, match=f"cannot connect to {name}:6379") as refused:
                await meter.read(Place(Address(name, 6379)))
            assert "Unknown error" not in str(refused.value)
        await meter.close()

    on_uvloop(run())


def test_two_hundred_places_are_read_at_once_and_a_dead_one_costs_them_nothing(
    fresh_address: Callable[..., Address],
) -> None:
    host = fresh_address().host

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(GOOD)
        writer.close()

    async def run() -> None:
        meter = EngineMeter(10.0, 10.0)
        places = [Place(Address(host, 20_000 + number)) for number in range(200)]
        async with AsyncExitStack() as stack:
            for place in places:
                await stack.enter_async_context(await asyncio.start_server(answer, host, place.address.port))
            dead = Place(Address(host, 19_999))
            for _ in range(2):
                *found, refused = await asyncio.gather(*map(meter.read, [*places, dead]), return_exceptions=True)
                assert isinstance(refused, WorldError)
                assert [dict(one) for one in found if isinstance(one, Mapping)] == [{"role": "a"}] * 200
            await meter.close()

    on_uvloop(run())


def test_a_forgotten_place_has_no_connection_left(start_server: Callable[..., Any]) -> None:
    server = start_server()

    async def run() -> None:
        meter, place = EngineMeter(), place_of(server)
        await meter.read(place)
        await meter.forget(place)
        await meter.close()

    on_uvloop(run())
    assert server.ask("CLIENT", "LIST").count(b"\n") == 1
