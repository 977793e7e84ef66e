"""The authority: what it signs is believed, what it needs is private, what is damaged is told and left alone."""

from __future__ import annotations

import stat
import subprocess
import time
from pathlib import Path

import pytest

from cachekeep.domain.ports import WorldError
from cachekeep.host.authority import BACKDATE_S, Authority, Validity, validity_of


def test_a_certificate_verifies_against_the_authority_and_names_its_hosts(tmp_path: Path) -> None:
    authority, target = Authority(tmp_path / "ca"), tmp_path / "node.pem"
    validity = authority.issue(target, "node", ["127.64.0.7", "localhost"])
    assert validity.names == {"127.64.0.7", "localhost"}
    said = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-verify_ip", "127.64.0.7", "-CAfile", authority.ca_file, target],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    other = subprocess.run(
        ["openssl", "verify", "-verify_ip", "127.64.0.8", "-CAfile", authority.ca_file, target],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert other.returncode != 0


def test_keys_are_for_the_owner_alone_and_the_authority_stays_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    first = Authority(folder).certificate()
    Authority(folder).issue(tmp_path / "node.pem", "node", ["127.0.0.1"])
    assert Authority(folder).certificate() == first
    for path in (folder / "ca.key", tmp_path / "node.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_a_file_that_is_gone_or_damaged_is_told_and_nothing_is_made_in_its_place(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path / "ca")
    authority.certificate()
    path = tmp_path / "ca" / name
    good = path.read_text()
    path.write_text("not what it was")
    with pytest.raises(WorldError, match="damaged"):
        authority.issue(tmp_path / "node.pem", "node", ["127.0.0.1"])
    path.unlink()
    with pytest.raises(WorldError, match=f"{name} is gone"):
        authority.certificate()
    assert not path.exists()
    assert not (tmp_path / "node.pem").exists()
    path.write_text(good)
    authority.issue(tmp_path / "node.pem", "node", ["127.0.0.1"])


def test_a_key_of_another_authority_is_not_used(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    authority.certificate()
    other.certificate()
    (tmp_path / "ca" / "ca.key").write_text((tmp_path / "other" / "ca.key").read_text())
    with pytest.raises(WorldError, match="not the key of"):
        authority.issue(tmp_path / "node.pem", "node", ["127.0.0.1"])


def test_a_clock_that_is_an_hour_behind_believes_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    validity = authority.issue(tmp_path / "node.pem", "node", ["127.0.0.1"])
    assert validity.begins < time.time() - 3600
    assert validity_of(authority.ca_file) is not None
    assert not validity.is_due(time.time() - 3600, ["127.0.0.1"])
    assert not validity.is_due(time.time() + 3600, ["127.0.0.1"])


def test_it_is_due_after_two_thirds_of_its_life_and_for_a_new_name(tmp_path: Path) -> None:
    validity = Validity(1000.0 - BACKDATE_S, 1000.0 + 300.0, frozenset({"127.0.0.1"}))
    assert not validity.is_due(1199.0, ["127.0.0.1"])
    assert validity.is_due(1200.0, ["127.0.0.1"])
    assert validity.is_due(1000.0, ["127.0.0.1", "127.0.0.2"])
    assert validity.is_due(1000.0 - BACKDATE_S - 1, ["127.0.0.1"]), "of the future, by a clock that was set back"
