"""Positions of log delivery: durable, private, gone with their node."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cachekeep.domain.nodes import NodeKey
from cachekeep.domain.ports import WorldError
from cachekeep.store.log_positions import LogPositionFiles

ONE, TWO = NodeKey("us-east-1", "one"), NodeKey("eu-west-1", "one")


def test_a_position_is_kept_for_each_node_and_log(tmp_path: Path) -> None:
    LogPositionFiles(tmp_path / "p").save(ONE, "slow-log", {"run_id": "abc", "number": 7})
    positions = LogPositionFiles(tmp_path / "p")
    positions.save(TWO, "slow-log", {"run_id": "def", "number": 1})
    assert positions.load(ONE, "slow-log") == {"run_id": "abc", "number": 7}
    assert positions.load(ONE, "engine-log") == {}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (tmp_path / "p").iterdir())
    positions.keep_only([(TWO, "slow-log")])
    assert positions.load(ONE, "slow-log") == {}
    assert positions.load(TWO, "slow-log") == {"run_id": "def", "number": 1}


def test_a_position_that_cannot_be_read_is_none_and_one_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    positions = LogPositionFiles(tmp_path / "p")
    positions.save(ONE, "slow-log", {"number": 1})
    (file,) = (tmp_path / "p").iterdir()
    file.write_text("{")
    assert positions.load(ONE, "slow-log") == {}
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(WorldError, match="cannot write"):
        LogPositionFiles(in_the_way).save(ONE, "slow-log", {})
