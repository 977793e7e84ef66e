"""The trail on disk: appended, turned over, bounded; what a full disk loses is told; no secret gets there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cachekeep.access.trail_file import FILE_NAME, KEPT, LOST, REFUSED_NAME, TrailFile, read_trail
from cachekeep.api.gate import MOST_RESOURCES, AllKeys, Gate, Visit
from cachekeep.api.recorded import HIDDEN, LONGEST_TEXT, without_secrets
from cachekeep.domain.identity import TrailEntry


def entry(number: int, outcome: str = "ok", **parameters: Any) -> TrailEntry:
    return TrailEntry(float(number), f"r-{number}", "AKCK1", "ci", "127.0.0.1", "us-east-1", "elasticache:DeleteUser",
                      ("arn",), outcome, parameters)  # fmt: skip


def ids(folder: Path) -> list[Any]:
    return [page["request_id"] for page in read_trail(folder)]


def test_lines_are_appended_and_go_on_after_a_restart(tmp_path: Path) -> None:
    for number in (1, 2):
        trail = TrailFile(tmp_path)
        trail.write(entry(number))
        trail.close()
    assert ids(tmp_path) == ["r-1", "r-2"]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_files_are_turned_over_and_bounded(tmp_path: Path) -> None:
    trail = TrailFile(tmp_path, most_bytes=1000)
    for number in range(200):
        trail.write(entry(number))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == KEPT + 1
    assert max(sizes) <= 1000
    kept = ids(tmp_path)
    assert kept == [f"r-{n}" for n in range(200 - len(kept), 200)]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_refusals_never_push_out_what_was_done(tmp_path: Path) -> None:
    """A key that may do nothing asks thousands of times, each time with as much as is written down."""
    trail = TrailFile(tmp_path, most_bytes=100_000)
    trail.write(entry(1))
    for number in range(2, 3000):
        trail.write(entry(number, "AccessDenied" if number % 2 else "UserNotFound", UserId="u" * 250))
    trail.write(entry(3000))
    trail.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000 * (KEPT + 2)
    kept = list(read_trail(tmp_path))
    assert [page["request_id"] for page in kept if page["outcome"] == "ok"] == ["r-1", "r-3000"]
    assert [page["at"] for page in kept] == sorted(page["at"] for page in kept), "both kinds, by time"
    assert kept[-2]["outcome"] == "AccessDenied"
    assert len(kept) < 3000, "and the refusals themselves are bounded"


def test_a_line_that_broke_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'{"at":1,"request_id":"r-0"}\n{"at":1,"requ')
    trail = TrailFile(tmp_path)
    trail.write(entry(1))
    trail.close()
    assert ids(tmp_path) == ["r-0", "r-1"]


_FULL = """
import resource, sys
from pathlib import Path
from cachekeep.access.trail_file import TrailFile
from cachekeep.domain.identity import TrailEntry
trail = TrailFile(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def write(number):
    trail.write(TrailEntry(float(number), f"r-{number}", "AKCK1", "ci", "", "", "elasticache:DeleteUser"))
write(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
write(1), write(2), write(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
write(4)
"""


def test_what_does_not_fit_is_told_when_there_is_room_again(tmp_path: Path) -> None:
    """A file that may not grow, in a process of its own: as a full disk, it takes a part of a line and then no more."""
    subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True, timeout=60)
    assert b'\n{"at":1.0,"requ' in (tmp_path / FILE_NAME).read_bytes()
    first, told, after = read_trail(tmp_path)
    assert (told["action"], told["count"], told["since"]) == (LOST, 3, 1.0)
    assert (first["request_id"], after["request_id"]) == ("r-0", "r-4")


def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    trail = TrailFile(tmp_path)
    trail.write(entry(1))
    (tmp_path / FILE_NAME).unlink()
    trail.write(entry(2))
    trail.close()
    assert ids(tmp_path) == ["r-2"]


@pytest.mark.parametrize(
    "params",
    [
        {"Passwords": ["hunter2-hunter2"]},
        {"AuthToken": "hunter2-hunter2"},
        {"AuthenticationMode": {"Type": "password", "Passwords": ["hunter2-hunter2"]}},
        {"SourceAuthenticationConfiguration": {"Username": "u", "Password": "hunter2-hunter2"}},
        {"AccessString": "on ~* +@all >hunter2-hunter2"},
        {"AccessString": ">hunter2-hunter2 on"},
        {"AccessString": "on #hunter2-hunter2"},
        {"AccessString": "on '>hunter2-hunter2' (#hunter2-hunter2)"},
        {"Endpoint": "redis://user:hunter2-hunter2@host:1/0"},
        {"SnapshotArns": ["https://hunter2-hunter2@host/x"]},
        {"CustomerNodeEndpointList": [{"Address": "user:hunter2-hunter2@10.0.0.1"}]},
        {"Long": "https://user:" + "hunter2-hunter2" * 20 + "@host"},
        {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"Password": "hunter2-hunter2"}}}}}}}},
    ],
)
def test_no_secret_is_kept(params: dict[str, Any]) -> None:
    assert "hunter2" not in json.dumps(without_secrets(params))


def test_what_is_no_secret_is_kept_short() -> None:
    kept = without_secrets(
        {"UserId": "u", "AccessString": "on ~app* +@read", "Many": list(range(99)), "Long": "x" * 9999}
    )
    assert kept["UserId"] == "u"
    assert kept["AccessString"] == "on ~app* +@read"
    assert len(json.dumps(kept)) < LONGEST_TEXT + 600
    assert without_secrets({"AuthToken": "x", "AuthTokenEnabled": True}) == {
        "AuthToken": HIDDEN,
        "AuthTokenEnabled": True,
    }


def test_no_request_is_large_in_the_trail(tmp_path: Path) -> None:
    """Else a key that may do nothing pushes the trail out of its files with what it is refused."""
    nested = [{"Slots": "s" * 300, "Zones": ["z" * 300] * 60}] * 60
    kept = without_secrets({f"Name{number}": nested for number in range(4)} | {"UserId": "u" * 900_000})
    assert len(json.dumps(kept)) < 12_000
    trail = TrailFile(tmp_path)
    gate = Gate(AllKeys(lambda _: "s"), trail, "0" * 12, lambda: 1.0, lambda _: {})
    visit = Visit("r", "127.0.0.1", "AKCK1", "us-east-1", "elasticache:CreateUser", ("arn:" + "u" * 900_000,) * 60)
    gate.end(visit, "AccessDenied")
    trail.close()
    (line,) = read_trail(tmp_path)
    assert line["resources"] == ["arn:" + "u" * (LONGEST_TEXT - 4) + "..."] * MOST_RESOURCES
    assert (tmp_path / REFUSED_NAME).stat().st_size < 20_000
