"""A stream is whole commands up to a moment, and an engine that carries them out after an RDB file has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copying import FAR_MS, fill_everything
from psync_following import SOON, Following, repository_in
from truth import as_replica, compare, record

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.export_aof import export_aof
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.replication_commands import timed_pieces, whole_commands
from cachekeep.codec.resp import pack
from cachekeep.codec.segment import SegmentError
from cachekeep.domain.remote import ScratchError
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_socket

VERSIONS = ("9.1", "7.0", pytest.param("8.1", marks=pytest.mark.slow), "6.2")


@pytest.fixture
def scratch(catalogue: MachineCatalogue, tmp_path: Path) -> LocalScratch:
    return LocalScratch(catalogue, open_socket, tmp_path)


def base(scratch: LocalScratch, install: Any) -> bytes:
    """An RDB file that the install wrote."""
    with scratch.empty(install, 16) as remote, remote.connect(3) as connection:
        connection.ask("SET", "stays", 1)
        connection.ask("SET", "counted", 1)
        connection.ask("SAVE")
        return Path(connection.ask("CONFIG", "GET", "dir")[1].decode(), "dump.rdb").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_are_carried_out_after_the_rdb_file(
    scratch: LocalScratch, install_of: Callable[[str], Any], version: str
) -> None:
    install = install_of(version)
    commands = [
        pack("SELECT", 3) + pack("INCR", "counted"),
        pack("SET", "late", 1, "PXAT", FAR_MS) + pack("SELECT", 1000)[:9],
        pack("SELECT", 1000)[9:] + pack("MULTI") + pack("RPUSH", "list", *"abc") + pack("EXEC"),
        b"",
        # Its time has come long since; the copy lives by commands alone while it is loaded.
        pack("SET", "past", 1) + pack("PEXPIREAT", "past", 1000) + pack("PERSIST", "past"),
    ]
    with scratch.replayed([base(scratch, install)], commands, install, 1024) as remote:
        with remote.connect(3) as connection:
            assert connection.ask("MGET", "stays", "counted", "late") == [b"1", b"2", b"1"]
            assert abs(connection.ask("PTTL", "late") + connection_ms(connection) - FAR_MS) <= 2
        with remote.connect(1000) as connection:
            assert connection.ask("LRANGE", "list", 0, -1) == [b"a", b"b", b"c"]
            assert connection.ask("GET", "past") == b"1"


def connection_ms(connection: Any) -> int:
    seconds, micro = connection.ask("TIME")
    return int(seconds) * 1000 + int(micro) // 1000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("commands", "said"),
    [
        pytest.param(pack("SET", "a", 1)[:-4], "end of file|truncated|aof-load-truncated", id="cut"),
        pytest.param(pack("SELECT", 5000), "out of range", id="refused"),
        pytest.param(pack("SET", "a", 1) + pack("NOSUCH", 1), "NOSUCH|nknown command", id="unknown"),
    ],
)
def test_a_stream_that_is_not_carried_out_whole_is_refused(
    scratch: LocalScratch, install_of: Callable[[str], Any], version: str, commands: bytes, said: str
) -> None:
    install = install_of(version)
    refused = pytest.raises(ScratchError, match=said)
    with refused, scratch.replayed([base(scratch, install)], [commands], install, 16):
        pass


@pytest.mark.parametrize(
    "version",
    ["9.1", pytest.param("7.0", marks=pytest.mark.slow), pytest.param("8.1", marks=pytest.mark.slow)],
)
def test_an_exported_append_only_file_is_loaded_by_the_engine_itself(
    start_server: Any, client: Any, tmp_path: Path, install_of: Any, version: str
) -> None:
    server = start_server(version, *SOON)
    fill_everything(client(server), version)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        following.settled()
        client(server).set("a", 1, pxat=FAR_MS)
        client(server, 5).rpush("list", "x")
        moment, expected = following.settled(), record(server)
        client(server).flushall()
        following.settled()
        name = following.monitor.status().generation
    report = export_aof(repository, name, tmp_path / "out", moment)
    folder = Path(report.folders["only"])
    assert sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) == report.bytes
    increment = (folder / "appendonlydir" / "appendonly.aof.1.incr.aof").read_bytes()
    assert increment.startswith(b"#TS:%d\r\n" % (int(re.findall(rb"#TS:(\d+)", increment)[0])))
    loaded = start_server(version, "--dir", str(folder), "--appendonly", "yes", "--aof-load-truncated", "no")
    found = compare(expected, record(loaded), as_replica(version))
    assert not found, str(found)
    with pytest.raises(CatalogError, match="no empty folder"):
        export_aof(repository, name, tmp_path / "out", moment)


def test_a_stream_that_has_lost_bytes_is_not_read_past_them(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("9.1", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        following.settled()
        client(server).set("first", "x" * 100)
        moment = following.settled()
        client(server).set("second", "x" * 100)
        following.settled()
        name = following.monitor.status().generation
    entries = GenerationReader.open(repository, name).chain.entries
    strict = GenerationReader.open(repository, name)
    number = next(
        number
        for number, records in strict.numbered(("commands",))
        if any(b"second" in record.payload for record in records)
    )
    path = tmp_path / "r" / name / f"{entries[number - 1].segment}.seg"
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    found: list[Any] = []
    lenient = GenerationReader.open(repository, name, on_damage=found.append)
    early = b"".join(whole_commands(timed_pieces(lenient, "only", moment), moment))
    assert b"first" in early
    assert b"second" not in early
    with pytest.raises(CatalogError, match="lost some of its bytes"):
        list(timed_pieces(lenient, "only"))
    with pytest.raises(SegmentError):
        list(timed_pieces(GenerationReader.open(repository, name), "only"))
