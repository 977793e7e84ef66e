"""Settings: options before the environment before the file before the defaults; what is wrong is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachekeep.settings import ENVIRONMENT, Settings, SettingsError, load


def file_of(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment that names a configuration file of this text."""
    path = tmp_path / "cachekeep.toml"
    path.write_text(text)
    return {"CACHEKEEP_CONFIG": str(path)}


def test_the_defaults_need_nothing() -> None:
    settings = load(environment={})
    assert (settings.port, settings.account_id, settings.region) == (8600, "000000000000", "us-east-1")
    assert settings.url == "http://127.0.0.1:8600"
    assert not settings.redis_stand_in
    assert (settings.hang_timeout, settings.rollback_hours, settings.sync_timeout) == (5.0, 1.0, 600.0)
    assert settings.access_keys == {}


def test_an_option_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = file_of(tmp_path, "port = 1111\nregion = 'eu-west-1'\naccount_id = '111111111111'\n")
    environment = {**file, "CACHEKEEP_PORT": "2222", "CACHEKEEP_REGION": "eu-west-2"}
    settings = load({"port": "3333", "region": None}, environment)
    assert (settings.port, settings.region, settings.account_id) == (3333, "eu-west-2", "111111111111")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("state_dir", "/tmp/x", Path("/tmp/x")),
        ("port", "8601", 8601),
        ("account_id", "123456789012", "123456789012"),
        ("access_keys", "AKONE:secret-one, AKTWO:secret:two", {"AKONE": "secret-one", "AKTWO": "secret:two"}),
        ("address_range", "127.65.0.0/24", "127.65.0.0/24"),
        ("overcommit", "2.5", 2.5),
        ("redis_stand_in", "true", True),
        ("region", "ap-south-1", "ap-south-1"),
        ("log_level", "debug", "debug"),
        ("hang_timeout", "0.5", 0.5),
        ("rollback_hours", "0", 0.0),
        ("sync_timeout", "86400", 86400.0),
    ],
)
def test_every_setting_has_a_variable(name: str, text: str, value: object) -> None:
    assert getattr(load(environment={ENVIRONMENT[name]: text}), name) == value


def test_the_file_takes_tomls_own_types(tmp_path: Path) -> None:
    text = "port = 9000\novercommit = 2\nredis_stand_in = true\n[access_keys]\nAKONE = 'secret-one'\n"
    settings = load(environment=file_of(tmp_path, text))
    assert (settings.port, settings.overcommit, settings.redis_stand_in) == (9000, 2.0, True)
    assert settings.access_keys == {"AKONE": "secret-one"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "0"),
        ("port", "70000"),
        ("port", "http"),
        ("account_id", "12345"),
        ("account_id", "00000000000x"),
        ("access_keys", "AKONE"),
        ("access_keys", "AKONE:short"),
        ("address_range", "10.0.0.0/16"),
        ("address_range", "127.64.0.0/30"),
        ("address_range", "127.64.0.1/16"),
        ("address_range", "everywhere"),
        ("overcommit", "0"),
        ("overcommit", "nan"),
        ("redis_stand_in", "perhaps"),
        ("region", "Europe West"),
        ("log_level", "loud"),
        ("hang_timeout", "0.4"),
        ("hang_timeout", "3601"),
        ("hang_timeout", "soon"),
        ("rollback_hours", "-1"),
        ("rollback_hours", "169"),
        ("rollback_hours", "nan"),
        ("sync_timeout", "4"),
        ("sync_timeout", "inf"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(environment={ENVIRONMENT[name]: text})


def test_no_secret_is_repeated_in_an_error_or_a_repr() -> None:
    with pytest.raises(SettingsError) as caught:
        load(environment={"CACHEKEEP_ACCESS_KEYS": "AKONE:secret-one,verysecretwithoutcolon"})
    assert "verysecret" not in str(caught.value)
    assert "secret-one" not in str(caught.value)
    assert "secret-one" not in repr(Settings(access_keys={"AKONE": "secret-one"}))


@pytest.mark.parametrize("text", ["port = ", "colour = 'red'\n", "[server]\nport = 1\n"])
def test_a_file_that_cannot_be_understood_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"cachekeep\.toml"):
        load(environment=file_of(tmp_path, text))


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load(environment={"CACHEKEEP_CONFIG": str(tmp_path / "none.toml")})


def test_the_state_directory_follows_the_platforms_convention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert load(environment={}).state_dir == tmp_path / "cachekeep"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(environment={}).state_dir == Path("/home/somebody/.local/state/cachekeep")


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("LOGS_ENDPOINT", "ftp://logs.example"),
        ("LOGS_ENDPOINT", "http://user:hunter2@logs.example"),
        ("LOGS_ACCESS_KEY", "hunter2"),
        ("LOGS_ACCESS_KEY", ":hunter2"),
        ("FIREHOSE_URL", "collector.example/hunter2"),
        ("UPDATE_NEXT_MAJOR", "perhaps"),
    ],
)
def test_settings_of_upkeep_are_checked_and_tell_no_secret(name: str, bad: str) -> None:
    with pytest.raises(SettingsError, match=name.lower()) as caught:
        load(environment={f"CACHEKEEP_{name}": bad})
    assert "hunter2" not in str(caught.value)
    good = Settings(
        logs_access_key="AKIA:hunter2", firehose_url="https://x.example/hunter2", firehose_access_key="hunter2"
    )
    assert "hunter2" not in repr(good)


@pytest.mark.parametrize(("word", "on"), [("on", True), ("off", False), ("true", True), ("0", False)])
def test_https_is_on_or_off_and_the_url_says_it(word: str, on: bool) -> None:
    settings = load(environment={"CACHEKEEP_TLS": word})
    assert settings.tls is on
    assert settings.url.startswith("https:" if on else "http:")


def test_allowed_sources_are_networks() -> None:
    assert [str(n) for n in load(environment={"CACHEKEEP_ALLOWED_SOURCES": "127.0.0.1, ::1/128"}).sources] == [
        "127.0.0.1/32",
        "::1/128",
    ]
    with pytest.raises(SettingsError, match="allowed_sources"):
        load(environment={"CACHEKEEP_ALLOWED_SOURCES": "127.0.0.1/8"})


def test_buckets_are_read_as_they_are_handed_on() -> None:
    """`cachekeep up` gives a service its settings as text."""
    asked = load(environment={"CACHEKEEP_BUCKETS": "files=/srv/x, team=s3://real/p,dir=file:///srv/y"})
    assert asked.bucket_places == {"files": "/srv/x", "team": "s3://real/p", "dir": "/srv/y"}
    assert load(environment={"CACHEKEEP_BUCKETS": str(asked.buckets)}).bucket_places == asked.bucket_places
    assert load(environment={"CACHEKEEP_BUCKETS": ""}).bucket_places == {}


@pytest.mark.parametrize("text", ["{}", "files", "a=/x", "files=relative", "FILES=/x", "files=http://x/y"])
def test_buckets_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="buckets must be"):
        load(environment={"CACHEKEEP_BUCKETS": text})
