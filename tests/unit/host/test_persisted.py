"""Which of two files is the newer one, by what stands in them and when they were written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.ports import WorldError
from cachekeep.host import keeping
from cachekeep.host.local import LocalHost
from cachekeep.host.persisted import kept_in, to_load

MOMENT = 1_700_000_000
BOTH = {"appendonly": "yes", "save": "900 1"}
APPENDING, SAVING = {"appendonly": "yes", "save": ""}, {"appendonly": "no", "save": "900 1"}
NEITHER = {"appendonly": "no", "save": ""}
MANIFEST = "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"


def dump(folder: Path, forked: float, *, as_text: bool = False) -> None:
    """A snapshot that was begun at that moment and took an hour."""
    moment = str(int(forked)).encode() if as_text else int(forked).to_bytes(4, "little")
    head = b"REDIS0009\xfa\x09redis-ver\x056.2.5\xfa\x0aredis-bits\xc0@\xfa\x05ctime"
    (folder / "dump.rdb").write_bytes(head + (bytes([len(moment)]) if as_text else b"\xc2") + moment + b"\xff")
    os.utime(folder / "dump.rdb", (forked + 3600, forked + 3600))


def test_a_pipe_that_a_node_is_to_begin_with_is_no_data_that_it_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dump.rdb").symlink_to(tmp_path / "pipe")
    assert kept_in(tmp_path, SAVING) == ""
    (tmp_path / "pipe").unlink()
    assert kept_in(tmp_path, SAVING) == ""


def append_only_file(folder: Path, written: float, manifest: str | None = MANIFEST) -> None:
    inside = folder / "appendonlydir"
    inside.mkdir()
    for name in ("appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof", "temp-appendonly.aof.incr"):
        (inside / name).write_bytes(b"x")
        os.utime(inside / name, (written, written))
    later = written + 100_000
    os.utime(inside / "temp-appendonly.aof.incr", (later, later))
    if manifest is not None:
        (inside / "appendonly.aof.manifest").write_text(manifest)
        os.utime(inside / "appendonly.aof.manifest", (written - 1, written - 1))


def spec(config: Mapping[str, str]) -> NodeSpec:
    version = EngineVersion.parse("9.1.2")
    return NodeSpec(NodeKey("us-east-1", "a-001"), Engine.VALKEY, version, Address("127.64.0.7", 6379), config)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("after_s", "what"), [(-2, "rdb"), (-0.05, "aof"), (0, "aof"), (2, "aof"), (7200, "aof")])
def test_the_fork_of_a_snapshot_counts_and_not_its_end(
    tmp_path: Path, as_text: bool, after_s: float, what: str
) -> None:
    dump(tmp_path, MOMENT, as_text=as_text)
    append_only_file(tmp_path, MOMENT + after_s)
    assert [kept_in(tmp_path, config) for config in (BOTH, APPENDING, SAVING, NEITHER)] == [what] * 3 + [""]


@pytest.mark.parametrize(("after_s", "what"), [(-2, "rdb"), (2, "aof")])
def test_file_of_an_engine_before_7_counts_when_it_holds_something(tmp_path: Path, after_s: float, what: str) -> None:
    dump(tmp_path, MOMENT)
    file = tmp_path / "appendonly.aof"
    file.write_bytes(b"")
    os.utime(file, (MOMENT + after_s, MOMENT + after_s))
    assert kept_in(tmp_path, APPENDING) == "rdb"
    file.write_bytes(b"x")
    os.utime(file, (MOMENT + after_s, MOMENT + after_s))
    assert kept_in(tmp_path, APPENDING) == what


def test_nothing_is_kept_where_nothing_is(tmp_path: Path) -> None:
    assert kept_in(tmp_path / "absent", BOTH) == ""
    (tmp_path / "appendonlydir").mkdir()
    assert kept_in(tmp_path, BOTH) == ""
    assert kept_in(tmp_path, {"-m": "512"}) == ""


@pytest.mark.parametrize("manifest", ["", "nonsense", "file absent.base.rdb seq 1 type b\n", None])
def test_broken_append_only_file_is_one(tmp_path: Path, manifest: str | None) -> None:
    append_only_file(tmp_path, MOMENT, manifest)
    assert kept_in(tmp_path, APPENDING) == "aof"
    assert kept_in(tmp_path, SAVING) == "aof"
    if manifest is None:
        with pytest.raises(WorldError, match="put the manifest back"):
            to_load(spec(APPENDING), tmp_path, "aof")


@pytest.mark.parametrize("config", [BOTH, APPENDING, SAVING, NEITHER])
@pytest.mark.parametrize(("what", "appendonly"), [("rdb", "no"), ("aof", "yes"), ("", None)])
def test_process_is_started_with_what_loads_the_chosen_file(
    tmp_path: Path, config: Mapping[str, str], what: str, appendonly: str | None
) -> None:
    dump(tmp_path, MOMENT)
    append_only_file(tmp_path, MOMENT)
    for name in ("nodes.conf", "temp-123.rdb", "temp-rewriteaof-bg-123.aof", "nodes.conf.tmp-1-2", "engine.log"):
        (tmp_path / name).write_bytes(b"x")
    started = to_load(spec(config), tmp_path, what)
    assert started.config == {**config, "appendonly": appendonly or config["appendonly"]}
    left = {path.name for path in tmp_path.iterdir()}
    assert (
        left
        == {"nodes.conf", "engine.log"}
        | {
            "rdb": {"dump.rdb"},
            "aof": {"dump.rdb", "appendonlydir"},
            "": set(),
        }[what]
    )
    assert not list(tmp_path.rglob("temp*"))
    assert kept_in(tmp_path, BOTH) == what


def test_files_from_before_anything_was_kept_are_old_until_new_ones_are_written(tmp_path: Path) -> None:
    keeping.begin(tmp_path, NEITHER)
    dump(tmp_path, MOMENT)
    assert kept_in(tmp_path, BOTH) == "", "the process that died kept nothing"
    append_only_file(tmp_path, MOMENT + 5)
    assert keeping.note(tmp_path, {"maxmemory": "1"}, done=False) is False
    assert keeping.note(tmp_path, {"appendonly": "yes"}, done=False) is True
    assert keeping.note(tmp_path, {"appendonly": "yes"}, done=True) is False
    assert kept_in(tmp_path, APPENDING) == "", "killed before it wrote any"
    written = tmp_path / "appendonlydir" / "appendonly.aof.manifest"
    (tmp_path / "new").write_text(MANIFEST)
    (tmp_path / "new").rename(written)
    assert kept_in(tmp_path, APPENDING) == "aof"
    written.unlink()
    (tmp_path / "appendonlydir" / "appendonly.aof.2.base.rdb").unlink()
    (tmp_path / "appendonlydir" / "appendonly.aof.2.incr.aof").unlink()
    assert kept_in(tmp_path, APPENDING) == ""
    dump(tmp_path, MOMENT + 10)
    assert kept_in(tmp_path, APPENDING) == "rdb"


def test_what_is_kept_already_is_not_old_and_off_counts_only_when_it_is_done(tmp_path: Path) -> None:
    keeping.begin(tmp_path, SAVING)
    dump(tmp_path, MOMENT)
    assert keeping.note(tmp_path, {"appendonly": "yes"}, done=False) is False
    assert kept_in(tmp_path, BOTH) == "rdb"
    off = {"appendonly": "no", "save": ""}
    assert keeping.note(tmp_path, off, done=False) is False
    assert kept_in(tmp_path, BOTH) == "rdb"
    assert keeping.note(tmp_path, off, done=True) is False
    assert kept_in(tmp_path, BOTH) == ""


def test_nothing_is_said_of_a_process_without_a_record(tmp_path: Path) -> None:
    dump(tmp_path, MOMENT)
    assert keeping.note(tmp_path, {"appendonly": "yes"}, done=False) is False
    assert kept_in(tmp_path, APPENDING) == "rdb"


@pytest.mark.parametrize(("begun_s", "counts"), [(-5, False), (0, True), (3, True)])
def test_a_save_that_was_begun_before_the_mark_is_no_orderly_stops(
    tmp_path: Path, begun_s: float, counts: bool
) -> None:
    host, key = LocalHost(tmp_path), NodeKey("us-east-1", "a-001")
    folder = tmp_path / "us-east-1" / "a-001" / "0001"
    folder.mkdir(parents=True)
    host.mark_saved(key, True)
    dump(folder, (folder / "saved").stat().st_mtime + begun_s)  # it ends an hour later
    assert host.is_saved(key) is counts
