"""The file of access keys and its live view: rotation, changes while it is read, and what is not let in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.access import key_changes, key_file
from cachekeep.access.key_file import Key, KeyFile, KeyFileError
from cachekeep.access.key_ring import KeyRing
from cachekeep.domain.identity import ROOT_IDENTITY

READ = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"elasticache:Describe*","Resource":"*"}}'
ONE, TWO, THREE = (Key(f"AKCK{n}", f"secret-of-{n}", 100.0 * n) for n in (1, 2, 3))


class Place:
    """A state directory with a first-start key, at a time that stands still."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        self.own: tuple[str, str] | None = ("OWN", "own-secret")
        self.file = folder / key_file.FILE_NAME
        (folder / "own").write_text("")
        self.ring = KeyRing(folder, folder / "own", lambda: self.own, {"ENV": "env-secret"}, lambda: self.now)

    def write(self, content: KeyFile) -> KeyFile:
        key_file.write(self.file, content)
        return content


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_keys_are_good_as_soon_as_they_are_written_and_no_longer(place: Place) -> None:
    assert place.ring.get("AKCK1") is None
    content = place.write(key_changes.add(KeyFile(), "ci", ONE, READ))
    assert place.ring.get("AKCK1") == "secret-of-1"
    identity = place.ring.identity("AKCK1")
    assert identity is not None
    assert (identity.name, identity.policy is None) == ("ci", False)
    place.write(key_changes.remove(content, "ci", None))
    assert place.ring.get("AKCK1") is None
    assert place.ring.identity("AKCK1") is None


def test_both_keys_are_good_during_a_rotation(place: Place) -> None:
    content = key_changes.add(KeyFile(), "ci", ONE, READ)
    content = place.write(key_changes.rotate(content, "ci", TWO, until=1500.0))
    assert (place.ring.get("AKCK1"), place.ring.get("AKCK2")) == ("secret-of-1", "secret-of-2")
    with pytest.raises(KeyFileError, match="two good keys"):
        key_changes.rotate(content, "ci", THREE, until=1600.0)
    place.now = 1500.0
    assert (place.ring.get("AKCK1"), place.ring.get("AKCK2")) == (None, "secret-of-2")
    late = replace(THREE, created_at=1500.0)
    again = key_changes.rotate(content, "ci", late, until=1600.0)
    assert [key.id for key in key_changes.find(again, "ci").keys] == ["AKCK2", "AKCK3"]


def test_a_rotation_without_overlap_ends_the_old_key(place: Place) -> None:
    content = key_changes.add(KeyFile(), "ci", ONE, None)
    place.write(key_changes.rotate(content, "ci", TWO, until=TWO.created_at))
    assert (place.ring.get("AKCK1"), place.ring.get("AKCK2")) == (None, "secret-of-2")


def test_the_owners_keys_cannot_be_taken_over_by_the_file(place: Place) -> None:
    place.write(KeyFile((key_file.User("evil", (Key("OWN", "other-secret", 0.0),), READ, 0.0),)))
    assert place.ring.get("OWN") == "own-secret"
    place.write(KeyFile((key_file.User("evil", (Key("ENV", "other-secret", 0.0),), READ, 0.0),)))
    assert place.ring.get("ENV") == "env-secret"
    assert place.ring.identity("ENV") == ROOT_IDENTITY


def test_the_first_start_key_is_rotated_with_an_overlap(place: Place) -> None:
    assert place.ring.get("OWN") == "own-secret"
    place.write(key_changes.retire_root(KeyFile(), Key("OWN", "own-secret", 1000.0, 1500.0)))
    place.own = ("NEW", "new-secret")
    (place.folder / "own").write_text("changed")
    assert (place.ring.get("NEW"), place.ring.get("OWN")) == ("new-secret", "own-secret")
    assert place.ring.identity("OWN") == ROOT_IDENTITY
    place.now = 1500.0
    assert place.ring.get("OWN") is None


def test_while_its_file_is_gone_the_first_start_key_goes_on(place: Place) -> None:
    assert place.ring.get("OWN") == "own-secret"
    place.own = None
    (place.folder / "own").unlink()
    assert place.ring.get("OWN") == "own-secret"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "users": [], "former_root": []}',
        '{"format": 1, "users": [{}], "former_root": []}',
        '{"format": 1, "users": [], "former_root": [{"id": "A", "secret": 7, "created_at": 1, "until": null}]}',
    ],
)
def test_a_broken_file_lets_nobody_in_but_the_owner(place: Place, text: str) -> None:
    place.write(key_changes.add(KeyFile(), "ci", ONE, None))
    assert place.ring.get("AKCK1") is not None
    place.file.write_text(text)
    assert place.ring.get("AKCK1") is None
    assert place.ring.get("OWN") == "own-secret"


def test_a_policy_that_is_not_understood_is_no_full_one(place: Place) -> None:
    place.write(KeyFile((key_file.User("ci", (ONE,), '{"Version": "2012-10-17"}', 0.0),)))
    assert place.ring.get("AKCK1") is None
    with pytest.raises(KeyFileError, match="a policy in it"):
        key_file.read(place.file)


def test_a_file_that_others_can_read_lets_nobody_in(place: Place) -> None:
    place.write(key_changes.add(KeyFile(), "ci", ONE, None))
    assert place.file.stat().st_mode & 0o777 == 0o600
    place.file.chmod(0o640)
    assert place.ring.get("AKCK1") is None
    with pytest.raises(KeyFileError, match="chmod 600"):
        key_file.read(place.file)


def test_errors_tell_no_secret(place: Place) -> None:
    place.file.write_text('{"format": 1, "users": "secret-of-1"')
    place.file.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        key_file.read(place.file)
    assert "secret-of-1" not in str(caught.value)
    assert "secret-of-1" not in repr(ONE)


@pytest.mark.parametrize("name", ["", "root", "a b", "a/b", "x" * 65, "a\n", "*"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(KeyFileError):
        key_changes.add(KeyFile(), name, ONE, None)


def test_a_name_stands_once_in_any_case() -> None:
    content = key_changes.add(KeyFile(), "ci", ONE, None)
    with pytest.raises(KeyFileError, match="already"):
        key_changes.add(content, "CI", TWO, None)
    with pytest.raises(KeyFileError, match="only key"):
        key_changes.remove(content, "ci", "AKCK1")
    with pytest.raises(KeyFileError, match="no user"):
        key_changes.remove(content, "other", None)
