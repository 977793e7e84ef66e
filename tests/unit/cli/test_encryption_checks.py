"""What doctor says of encryption."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachekeep.access import module_build
from cachekeep.cli.checks import Verdict
from cachekeep.cli.encryption_checks import encryption, logins
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.host.authority import Authority
from cachekeep.settings import Settings


def _found(settings: Settings) -> dict[str, tuple[Verdict, str]]:
    return {f.subject: (f.verdict, f.text) for f in encryption(settings)}


def test_an_authority_is_not_made_by_looking_for_it(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    assert _found(settings)["authority"][0] is Verdict.OK
    assert not settings.authority_dir.exists()


def test_a_damaged_authority_fails(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    Authority(settings.authority_dir).certificate()
    assert "can sign" in _found(settings)["authority"][1]
    (settings.authority_dir / "ca.key").unlink()
    verdict, text = _found(settings)["authority"]
    assert verdict is Verdict.FAIL
    assert "ca.key is gone" in text


def test_the_operators_word_and_list_are_told(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, encrypted_state=True, allowed_sources="127.0.0.0/24")
    found = _found(settings)
    assert "encrypted by" in found["at rest"][1]
    assert found["sources"][1].startswith("127.0.0.0/24 may connect")


def test_what_iam_logins_need_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path)
    valkey = EngineInstall(Engine.VALKEY, EngineVersion.parse("9.1.2"), "/valkey-server", "here")
    assert "no Valkey from 8.0 on is here" in logins(settings, []).text
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module_build, "PLACES", (tmp_path / "none",))
    assert (logins(settings, [valkey]).verdict, logins(settings, [valkey]).advice) == (
        Verdict.WARN,
        "install one, such as gcc",
    )
    compiler = tmp_path / "cc"
    compiler.touch(0o755)
    assert logins(settings, [valkey]).text.startswith(f"{compiler} builds what they need")
    module = tmp_path / module_build.FOLDER / module_build.module_name()
    module.parent.mkdir()
    module.touch(0o500)
    assert "is there" in logins(settings, [valkey]).text
