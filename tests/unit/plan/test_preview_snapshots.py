"""Previews of snapshots, of what begins with one, and of users: what would be read, told and lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from previewing import CATALOG, GROUP, MEMBERS, World, text

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.nodes import Role
from cachekeep.domain.restore import Restore
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.domain.users import Authentication, User, UserGroup
from cachekeep.plan.preview import Preview, preview
from cachekeep.plan.snapshots import snapshot_of_group
from cachekeep.plan.specs import Abilities
from tests.properties.stored import NOW, REGION

SNAPSHOT = snapshot_of_group(GROUP, {m.id: m for m in MEMBERS}, "monday", SnapshotSource.MANUAL, NOW)
READY = replace(SNAPSHOT, status=SnapshotStatus.AVAILABLE, generation="g1")
ANN = User(REGION, "ann", "ann", "valkey", "on ~* +@read", Authentication.NO_PASSWORD)
STAFF = UserGroup(REGION, "staff", "valkey", ("ann",))
GUARDED = replace(GROUP, user_group_ids=("staff",))


def world() -> World:
    there = World(GROUP, *MEMBERS)
    there.saw("g-001", role=Role.PRIMARY)
    there.saw("g-002")
    return there


def foreseen(before: dict[str, Any], after: dict[str, Any]) -> Preview:
    there = world()
    old, new = replace(there.resources, **before), replace(there.resources, **after)
    return preview(old, new, there.seen, CATALOG, Abilities(), now=NOW)


def named(*snapshots: Snapshot) -> dict[str, Any]:
    return {"snapshots": {one.name: one for one in snapshots}}


def test_a_snapshot_is_read_from_the_replica_in_sync() -> None:
    made = foreseen({}, named(SNAPSHOT))
    assert made.changes
    assert made.steps[0].startswith("g-002: the engine saves what it holds")
    assert "then snapshot monday is available" in made.steps[1]
    assert made.gaps == ()


def test_a_copy_is_a_further_name_and_the_last_name_takes_the_data_along() -> None:
    copy = replace(READY, name="tuesday", copy_of="monday")
    assert "tuesday becomes a further name of the data of monday" in text(foreseen(named(READY), named(READY, copy)))
    one = foreseen(named(READY, copy), named(copy))
    assert (text(one), one.warnings) == ("The name monday goes; the data stays, as tuesday has it too.", ())
    last = foreseen(named(READY), named(replace(READY, status=SnapshotStatus.DELETING)))
    assert last.warnings == ("Nothing brings the data of monday back.",)


def test_an_export_names_its_files() -> None:
    out = replace(READY, status=SnapshotStatus.COPYING, export="bucket/monday")
    assert "bucket/monday-NNNN.rdb" in text(foreseen(named(READY), named(out)))


def test_what_a_final_snapshot_has_is_not_called_lost() -> None:
    there = world()
    made = there.after(replace(GROUP, status=Status.SNAPSHOTTING, final_snapshot="last"))
    assert made.steps[0] == "Snapshot last is taken and read back; if that fails, g stays."
    assert made.warnings == ()
    gone = there.after(replace(GROUP, status=Status.DELETING))
    assert "Nothing brings it back but a snapshot or a backup." in gone.warnings[0]


def test_a_group_that_begins_with_a_snapshot_says_so() -> None:
    group = replace(GROUP, restore=Restore("monday", "g1", seeded=True))
    made = World().after(group, *MEMBERS)
    assert "It is filled from the snapshot monday" in text(made)


def test_whom_a_changed_user_concerns() -> None:
    unused = foreseen({}, {"users": {"ann": ANN}})
    assert text(unused) == "User ann is made; no cache is guarded by it."
    guarded = {"groups": {"g": GUARDED}, "user_groups": {"staff": STAFF}}
    other = replace(ANN, access_string="off")
    made = foreseen({**guarded, "users": {"ann": ANN}}, {**guarded, "users": {"ann": other}})
    assert text(made) == "User ann changes: every node of g is told."
    assert made.warnings == ("Connections of users that lose a right are cut.",)
