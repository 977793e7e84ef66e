"""What URLs of endpoints say, and that no error about one gives a password away."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.remote.open import open_remote
from cachekeep.remote.secret import password_from_file
from cachekeep.remote.url import Place, UrlError, parse_url

SECRET = "sesame"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache", Place("redis", "cache", 6379)),
        ("redis://cache:7000", Place("redis", "cache", 7000)),
        ("redis://cache/", Place("redis", "cache")),
        ("REDIS://Cache.Example/3", Place("redis", "Cache.Example", db=3)),
        ("redis://cache?db=3", Place("redis", "cache", db=3)),
        ("valkey://cache", Place("valkey", "cache")),
        ("rediss://cache", Place("rediss", "cache")),
        ("valkeys://[::1]:7001/2", Place("valkeys", "::1", 7001, db=2)),
        ("redis://[fe80::1%25eth0]", Place("redis", "fe80::1%eth0")),
        ("redis://:sesame@cache", Place("redis", "cache", password="sesame")),
        ("redis://ann@cache", Place("redis", "cache", user="ann")),
        ("redis://ann:sesame@cache", Place("redis", "cache", user="ann", password="sesame")),
        ("redis://a%40b:p%2F%3A%23%3F@cache", Place("redis", "cache", user="a@b", password="p/:#?")),
        ("redis://ann:a:b@cache", Place("redis", "cache", user="ann", password="a:b")),
        ("unix:///run/v.sock", Place("unix", path="/run/v.sock")),
        ("redis+unix:///run/a%20b?db=4", Place("redis+unix", path="/run/a b", db=4)),
        ("unix://ann:sesame@/run/v.sock", Place("unix", path="/run/v.sock", user="ann", password="sesame")),
        (
            "rediss://cache?ca=/c%20a.pem&cert=x&key=y&insecure=0&password_file=/p",
            Place("rediss", "cache", ca="/c a.pem", cert="x", key="y", insecure=False, password_file="/p"),
        ),
        ("rediss://cache?insecure=1", Place("rediss", "cache", insecure=True)),
    ],
)
def test_a_url_says(url: str, place: Place) -> None:
    assert parse_url(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "sesame@cache:6379",
        "sesame",
        "http://ann:sesame@cache",
        "redis://",
        "redis://:sesame@",
        "redis://:sesame@:6379",
        "redis://cache:0/sesame",
        "redis://:sesame@cache:70000",
        "redis://:sesame@cache:port",
        "redis://:ses/sesame@cache",
        "redis://:ses?sesame@cache",
        "redis://:ses?sesame=1@cache",
        "redis://:ses#sesame@cache",
        "redis://:sesame@[::1",
        "redis://:sesame@cache/one",
        "redis://:sesame@cache/1?db=1",
        "redis://:sesame@cache?db=-1",
        "redis://:sesame@cache?password=sesame",
        "redis://:sesame@cache?db=1&db=2",
        "redis://:sesame@cache?insecure",
        "rediss://:sesame@cache?insecure=sesame",
        "redis://:sesame @cache",
        "redis://:sesame\n@cache",
        "redis://:sesame%ff@cache",
        "unix://sesame/run/v.sock",
        "unix://",
        "unix:///",
        "",
    ],
)
def test_a_url_that_says_nothing_is_refused_in_one_sentence_without_the_password(url: str) -> None:
    with pytest.raises(UrlError) as told:
        parse_url(url)
    assert SECRET not in str(told.value)
    assert "\n" not in str(told.value)


@given(st.text(max_size=60), st.sampled_from(["", "redis://", "rediss://u:p@", "unix://", "redis://[", "redis://h?"]))
def test_any_text_is_a_place_or_an_error(text: str, before: str) -> None:
    try:
        place = parse_url(before + text)
    except UrlError:
        return
    assert bool(place.host) != bool(place.path)


@given(st.text(alphabet="sesame/?#@:", min_size=12, max_size=20))
def test_an_unencoded_password_never_stands_in_an_error_whole(secret: str) -> None:
    told = ""
    try:
        parse_url(f"redis://:{secret}@cache")
    except UrlError as error:
        told = str(error)
    assert secret not in told


def test_the_name_has_neither_credentials_nor_options() -> None:
    remote = open_remote("redis://ann:sesame@cache:7000/2")
    assert (remote.name, remote.address, remote.db) == ("redis://cache:7000/2", "cache:7000", 2)
    assert remote.has_password_in_url
    assert SECRET not in repr(remote)
    assert "ann" not in repr(remote)
    assert open_remote("redis://[::1]").name == "redis://[::1]:6379"
    assert open_remote("redis://cache").db is None


def test_a_password_given_separately_wins_over_the_urls() -> None:
    remote = open_remote("redis://ann:old@cache", password=SECRET)
    assert remote._login == ("ann", SECRET)
    assert remote.has_password_in_url
    assert open_remote("redis://cache", user="ann", password=SECRET)._login == ("ann", SECRET)
    assert not open_remote("redis://cache", password=SECRET).has_password_in_url


def test_another_node_keeps_scheme_and_login_and_an_empty_host_is_the_same_one() -> None:
    remote = open_remote("valkey://ann:sesame@cache:7000/2")
    other = remote.at("10.0.0.7", 7001)
    assert (other.name, other._login) == ("valkey://10.0.0.7:7001", ("ann", SECRET))
    assert remote.at("", 7002).address == "cache:7002"
    assert remote.at("?", 7002).address == "cache:7002"
    assert remote.at("::1", 7002).address == "[::1]:7002"
    with pytest.raises(RemoteError) as told:
        remote.at("10.0.0.7", 0)
    assert told.value.fault is RemoteFault.FOREIGN


@pytest.mark.parametrize("option", ["ca=/x", "cert=/x", "key=/x", "insecure=1", "insecure=0"])
def test_options_of_tls_without_tls_are_refused(option: str) -> None:
    with pytest.raises(UrlError, match="rediss://"):
        open_remote(f"redis://cache?{option}")


def test_a_password_file_loses_one_line_end_and_tells_who_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"ses ame\n\r\n")
    file.chmod(0o600)
    assert tuple(password_from_file(file)) == ("ses ame\n", False)
    file.chmod(0o640)
    found = password_from_file(str(file))
    assert found.open_to_others
    assert "ame" not in repr(found)
    remote = open_remote(f"redis://cache?password_file={file}")
    assert (remote._login, remote.password_file_exposed, remote.has_password_in_url) == (
        (None, "ses ame\n"),
        True,
        False,
    )


@pytest.mark.parametrize("held", [b"", b"\n", b"a\0b", b"\xff\xfe", b"sesame" * 20_000])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(held)
    with pytest.raises(UrlError, match="password file") as told:
        password_from_file(file)
    assert SECRET not in str(told.value)


def test_a_missing_password_file_is_refused_and_two_passwords_are(tmp_path: Path) -> None:
    with pytest.raises(UrlError, match="cannot be read"):
        open_remote(f"redis://cache?password_file={tmp_path}/none")
    with pytest.raises(UrlError, match="one of them"):
        open_remote("redis://:sesame@cache?password_file=/none")
