"""Reading on in an engine's log: whole lines only, across new files, and no line twice."""

from __future__ import annotations

import os
from pathlib import Path

from cachekeep.domain.log_delivery import Position
from cachekeep.domain.nodes import NodeKey
from cachekeep.host import folder
from cachekeep.host.engine_log_tail import LONGEST_LINE, EngineLogFiles

KEY = NodeKey("us-east-1", "demo-001")


def _log(root: Path) -> Path:
    path = folder.folder_of(root.resolve(), KEY) / "engine.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _read(files: EngineLogFiles, since: Position) -> tuple[list[str], Position]:
    lines = files.read(KEY, since).lines
    return [text for text, _ in lines], lines[-1][1] if lines else since


def test_lines_come_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    files, log = EngineLogFiles(tmp_path), _log(tmp_path)
    assert _read(files, {}) == ([], {})
    log.write_text("one\ntwo\nthr")
    lines, since = _read(files, {})
    assert lines == ["one", "two"]
    assert _read(files, since)[0] == []
    with log.open("a") as file:
        file.write("ee\n")
    assert _read(files, since)[0] == ["three"]


def test_a_log_that_was_cut_down_at_a_start_goes_on_behind_the_last_line(tmp_path: Path) -> None:
    files, log = EngineLogFiles(tmp_path), _log(tmp_path)
    with log.open("w") as file:
        file.writelines(f"line {number} {'x' * 100}\n" for number in range(100_000))
    assert log.stat().st_size > folder.LOG_LIMIT_BYTES
    since: Position = {}
    while (more := _read(files, since))[0]:
        since = more[1]
    with log.open("a") as file:
        file.write("not read before the cut\n")
    folder.bound_log(log)
    with log.open("a") as file:
        file.write("after it\n")
    assert log.stat().st_size < folder.LOG_LIMIT_BYTES
    assert _read(files, since)[0] == ["not read before the cut", "after it"]


def test_a_log_that_is_another_one_altogether_is_read_from_its_beginning(tmp_path: Path) -> None:
    files, log = EngineLogFiles(tmp_path), _log(tmp_path)
    log.write_text("of the old node\n")
    _, since = _read(files, {})
    other = log.with_name("other")
    other.write_text("of the new node\n")
    other.replace(log)
    assert _read(files, since)[0] == ["of the new node"]
    os.truncate(log, 0)
    with log.open("a") as file:
        file.write("cut\n")
    assert _read(files, _read(files, {})[1] | {"offset": 1000})[0] == []


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    files, log = EngineLogFiles(tmp_path), _log(tmp_path)
    log.write_text("y" * (LONGEST_LINE + 10))
    (line,), _ = _read(files, {})
    assert len(line) >= LONGEST_LINE
