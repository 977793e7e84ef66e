"""`cachekeep prometheus`, and the token that it prints."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import yaml

from cachekeep import credentials
from cachekeep.cli.main import main
from cachekeep.cli.prometheus import config_lines
from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.plan.alert_rules import alert_rules


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith("CACHEKEEP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["prometheus", *arguments])
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_the_token_is_printed_and_nothing_else(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = credentials.load_or_create_token(state)
    assert run(capsys, "token") == (0, f"{token}\n", "")


def test_without_a_token_a_sentence_says_why(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "token")
    assert code
    assert out == ""
    assert "the next start of the service makes it: `cachekeep down` if one runs, then `cachekeep up`" in err


def test_rules_and_dashboard_are_printed_whole(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "rules") == (0, alert_rules(thresholds(), metrics()), "")
    _, board, _ = run(capsys, "dashboard")
    assert json.loads(board)["uid"] == "cachekeep"


def test_the_scrape_config_names_the_tokens_file_and_not_the_token(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = credentials.load_or_create_token(state)
    _, text, _ = run(capsys, "config", "--port", "8765")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["authorization"] == {"credentials_file": str(state / "metrics-token")}
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8765"]}]
    assert token not in text


def test_a_path_of_any_letters_is_a_yaml_text() -> None:
    path = '/srv/a "b"\\c/é: #d'
    (job,) = yaml.safe_load("\n".join(config_lines("http://127.0.0.1:1", path)))["scrape_configs"]
    assert job["authorization"]["credentials_file"] == path


def test_the_token_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    token = credentials.load_or_create_token(tmp_path)
    assert credentials.load_or_create_token(tmp_path) == token == credentials.load_token(tmp_path)
    assert stat.S_IMODE((tmp_path / credentials.TOKEN_FILE).stat().st_mode) == 0o600
    assert len(token) >= 43


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, b"two words that are long enough to be one\n"])
def test_a_file_without_a_usable_token_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / credentials.TOKEN_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(credentials.CredentialsError, match="delete it"):
        credentials.load_or_create_token(tmp_path)


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    credentials.load_or_create_token(tmp_path)
    (tmp_path / credentials.TOKEN_FILE).chmod(0o644)
    with pytest.raises(credentials.CredentialsError, match="chmod 600"):
        credentials.load_token(tmp_path)
