"""`cachekeep backup ...` as a user calls it: a process of its own, its exit code, what it prints and does not print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PASSWORD = "correct-horse-battery"
# A snapshot is sent when it is asked for, not five seconds later in case another replica comes.
AT_ONCE = ("--repl-diskless-sync-delay", "0")
DONE, FAILED, MISUSE, GAPS, DIFFERENT, STOPPED = 0, 1, 2, 4, 5, 130


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def page(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def backup(tmp_path: Path) -> Callable[..., Ended]:
    """`backup("run", url, folder, environment={...})` with an empty HOME; never a traceback."""

    def call(*words: str | Path, environment: dict[str, str] | None = None) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "cachekeep", "backup", *map(str, words)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(environment or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return call


def filled(server: Any, keys: int = 50) -> None:
    for number in range(keys):
        server.ask("SET", f"text:{number}", f"value {number}")
    server.ask("PEXPIREAT", "text:0", 4_000_000_000_123)
    server.ask("HSET", "a hash", "f", "v", b"\xff\xfe", b"\x00")
    server.ask("RPUSH", b"\xff binary", "one", "two")
    server.ask("SET", "", "the empty key")
    server.ask("XADD", "a stream", "7-1", "f", "v")
    server.ask("XGROUP", "CREATE", "a stream", "g", "0")
    server.ask("ZADD", "scores", "inf", "m", "1.5", "n", db=3)


def test_a_backup_is_taken_proved_restored_and_compared(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    source, target = start_server("9.1", *AT_ONCE), start_server("9.1", *AT_ONCE)
    filled(source)
    taken = backup("run", source.url, "place", "--json")
    assert taken.code == DONE, taken.err
    assert taken.page["verdict"] == "complete"
    name = taken.page["generation"]
    listed = backup("list", "place", "--json")
    assert [(one["name"], one["status"]) for one in listed.page] == [(name, "complete")]
    assert name in backup("list", "place").out
    shown = backup("show", "place", name[:12])
    assert shown.code == DONE
    assert "127." in shown.out
    assert backup("verify", "place", "--deep", "--against", source.url).code == DONE
    dry = backup("restore", "place", target.url, "--dry-run", "--json")
    assert dry.code == DONE, dry.err
    assert target.ask("DBSIZE") == 0
    assert backup("diff", "place", target.url).code == DIFFERENT
    restored = backup("restore", "place", target.url)
    assert restored.code == DONE, restored.err
    assert target.ask("GET", "") == b"the empty key"
    assert target.ask("PEXPIRETIME", "text:0") == 4_000_000_000_123
    assert target.ask("ZSCORE", "scores", "m", db=3) == b"inf"
    assert backup("diff", source.url, target.url).code == DONE
    again = backup("restore", "place", target.url, "--json")
    assert again.code == DONE
    target.ask("SET", "unknown to the backup", 1)
    assert backup("restore", "place", target.url).code == DONE
    assert target.ask("EXISTS", "unknown to the backup") == 1
    assert backup("restore", "place", target.url, "--delete-extra").code == DONE
    assert target.ask("EXISTS", "unknown to the backup") == 0


@pytest.mark.slow
def test_two_ways_of_copying_give_the_same(start_server: Callable[..., Any], backup: Callable[..., Ended]) -> None:
    source = start_server("7.0", *AT_ONCE)
    filled(source)
    assert backup("run", source.url, "by-scan", "--source", "scan").code == DONE
    by_snapshot = backup("run", source.url, "by-psync", "--source", "psync", "--json")
    assert by_snapshot.code == DONE, by_snapshot.err
    assert by_snapshot.page["method"] == "psync"
    for place in ("by-scan", "by-psync"):
        compared = backup("diff", place, source.url, "--json")
        assert compared.code == DONE, compared.out + compared.err


def test_the_doctor_says_how_and_why(start_server: Callable[..., Any], backup: Callable[..., Ended]) -> None:
    users = f"user default off\nuser app on >{PASSWORD} ~* &* +@all -psync -sync -config -debug\n"
    server = start_server(users=users)
    seen = backup("doctor", server.url, "--user", "app", environment={"CACHEKEEP_SOURCE_PASSWORD": PASSWORD})
    assert seen.code == DONE, seen.err
    assert "scan" in seen.out
    assert "PSYNC" in seen.out


def test_passwords_come_from_files_and_the_environment_and_are_shown_nowhere(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    server = start_server("9.1", *AT_ONCE, "--requirepass", PASSWORD)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    refused = backup("run", server.url, "place")
    assert (refused.code, refused.out) == (FAILED, "")
    assert "password" in refused.err
    wrong = backup("run", server.url, "place", environment={"CACHEKEEP_SOURCE_PASSWORD": "not-" + PASSWORD})
    assert wrong.code == FAILED
    runs = [
        backup("run", server.url, "place", "--password-file", secret),
        backup("run", server.url, "place", environment={"CACHEKEEP_SOURCE_PASSWORD": PASSWORD}),
        backup("run", f"{server.url}/?password_file={secret}", "place"),
        backup("run", server.url.replace("//", f"//:{PASSWORD}@"), "place"),
    ]
    assert [one.code for one in runs] == [DONE] * 4, runs
    assert "process" in runs[3].err  # warned: everybody can read the list of processes
    kept = b"".join(path.read_bytes() for path in (tmp_path / "place").rglob("*") if path.is_file())
    assert PASSWORD.encode() not in kept
    assert all(PASSWORD not in one.out + one.err for one in (refused, wrong, *runs))


def test_a_sealed_backup_opens_only_with_its_secret(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    server = start_server("9.1", *AT_ONCE)
    server.ask("SET", "a key of mine", "a value of mine")
    secret = {"CACHEKEEP_BACKUP_PASSPHRASE": "open sesame"}
    assert backup("run", server.url, "place", "--source", "scan", environment=secret).code == DONE
    kept = b"".join(path.read_bytes() for path in (tmp_path / "place").rglob("*") if path.is_file())
    assert b"a key of mine" not in kept
    assert backup("verify", "place", environment=secret).code == DONE
    for other in ({}, {"CACHEKEEP_BACKUP_PASSPHRASE": "open barley"}):
        closed = backup("restore", "place", server.url, environment=other)
        assert closed.code == FAILED
        assert "passphrase" in closed.err


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("redis://127.0.0.1:1", "refuses the connection"),
        ("redis://no-such-host.invalid", "no-such-host.invalid"),
        ("http://127.0.0.1", "redis://"),
        ("redis://127.0.0.1:99999", "port"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(backup: Callable[..., Ended], source: str, says: str) -> None:
    ended = backup("run", source, "place")
    assert ended.code in (FAILED, MISUSE)
    assert says in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_damage_is_found_and_what_is_whole_can_be_restored(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    server = start_server("9.1", *AT_ONCE)
    filled(server)
    assert backup("run", server.url, "place", "--source", "scan").code == DONE
    segment = max((tmp_path / "place").rglob("*.seg"), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(data)
    proof = backup("verify", "place")
    assert proof.code == FAILED
    assert segment.stem in proof.out + proof.err
    server.ask("FLUSHALL")
    assert backup("restore", "place", server.url).code == FAILED
    assert server.ask("DBSIZE") == 0
    saved = backup("restore", "place", server.url, "--damaged")
    assert saved.code == GAPS
    assert server.ask("ZSCORE", "scores", "n", db=3) == b"1.5"


def test_keys_that_may_not_be_read_are_a_named_gap(
    start_server: Callable[..., Any], backup: Callable[..., Ended]
) -> None:
    server = start_server("9.1", *AT_ONCE)
    filled(server)
    server.ask("ACL", "SETUSER", "partly", "on", f">{PASSWORD}", "~text:*", "&*", "+@all", "-psync")
    taken = backup(
        "run", server.url, "place", "--user", "partly", "--json", environment={"CACHEKEEP_SOURCE_PASSWORD": PASSWORD}
    )
    assert taken.code == GAPS, taken.err
    assert taken.page["gaps"]
    assert backup("list", "place", "--json").page[0]["status"] == "gaps"


@pytest.mark.slow
def test_a_stopped_copy_goes_on(start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path) -> None:
    server = start_server("9.1", *AT_ONCE)
    _populate(server, 20_000)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "cachekeep", "backup", "run", server.url, "place"),
            *("--source", "scan", "--max-keys-per-s", "2000", "--json"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:  # progress, as JSON lines
        if line.startswith("{") and json.loads(line)["keys"] > 0:
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == STOPPED, out + err
    assert backup("list", "place", "--json").page[0]["status"] == "unfinished"
    gone_on = backup("run", server.url, "place", "--source", "scan", "--json")
    assert gone_on.code == DONE, gone_on.err
    assert gone_on.page["resumed"] is True
    assert [one["status"] for one in backup("list", "place", "--json").page] == ["complete"]
    assert backup("diff", "place", server.url).code == DONE


def _populate(server: Any, keys: int) -> None:
    server.ask("EVAL", "for i = 1, ARGV[1] do redis.call('SET', 'key:' .. i, i) end", 0, keys)


def test_old_backups_expire_and_the_newest_stays(
    start_server: Callable[..., Any], backup: Callable[..., Ended]
) -> None:
    server = start_server("9.1", *AT_ONCE)
    filled(server, 3)
    names = [backup("run", server.url, "place", "--json").page["generation"] for _ in range(3)]
    would = backup("expire", "place", "--keep", "1", "--dry-run", "--json")
    assert [one["name"] for one in would.page["removed"]] == names[:2]
    assert len(backup("list", "place", "--json").page) == 3
    assert backup("expire", "place", "--keep", "1").code == DONE
    assert [one["name"] for one in backup("list", "place", "--json").page] == names[2:]
    assert backup("expire", "place", "--keep", "sometimes").code in (FAILED, MISUSE)


def test_the_seeds_files_go_out_and_come_back(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    source, target = start_server("9.1", *AT_ONCE), start_server("9.1", *AT_ONCE)
    filled(source)
    assert backup("run", source.url, "place").code == DONE
    exported = backup("export", "place", "out", "--format", "json")
    assert exported.code == DONE, exported.err
    assert sorted(path.name for path in (tmp_path / "out").glob("redis_backup_*")) == [
        "redis_backup_db0_part_1.json",
        "redis_backup_db3_part_1.json",
    ]
    imported = backup("import", "out", "place-2")
    assert imported.code == DONE, imported.err
    assert backup("restore", "place-2", target.url).code == DONE
    assert backup("diff", source.url, target.url).code == DONE


def test_help_names_every_command_and_the_exit_codes(backup: Callable[..., Ended]) -> None:
    said = backup("--help").out
    for word in ("run", "restore", "verify", "diff", "doctor", "list", "show", "expire", "export", "import"):
        assert word in said
    assert "done with gaps" in " ".join(said.split())


def test_a_full_place_is_told_and_leaves_nothing_that_looks_good(
    start_server: Callable[..., Any], backup: Callable[..., Ended], tmp_path: Path
) -> None:
    server = start_server("9.1", *AT_ONCE)
    filled(server)
    (tmp_path / "file").write_text("not a folder")
    ended = backup("run", server.url, "file/place")
    assert ended.code == FAILED
    assert "folder" in ended.err


def test_a_bucket_is_a_place_and_its_refusals_are_sentences(
    start_server: Callable[..., Any], backup: Callable[..., Ended], s3_endpoint: str, s3_bucket: str
) -> None:
    server, place = start_server("9.1", *AT_ONCE), f"s3://{s3_bucket}/some/prefix"
    filled(server)
    keys = {
        "AWS_ACCESS_KEY_ID": "AKIDNOBODY",
        "AWS_SECRET_ACCESS_KEY": "do-not-show-this",
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
    }
    assert backup("run", server.url, place, environment=keys).code == DONE
    assert backup("verify", place, "--deep", environment=keys).code == DONE
    server.ask("FLUSHALL")
    assert backup("restore", place, server.url, environment=keys).code == DONE
    assert backup("diff", place, server.url, environment=keys).code == DONE
    for where, environment in (("s3://no-such-bucket/x", keys), (place, {"AWS_ENDPOINT_URL_S3": s3_endpoint})):
        refused = backup("list", where, environment=environment)
        assert (refused.code, refused.out) == (FAILED, "")
        assert "s3://" in refused.err
        assert "do-not-show-this" not in refused.err
