"""A snapshot is available again once nothing is restored from it any more."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from desk import REGION, Desk

from cachekeep.domain.restore import Restore
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.snapshot_work import SnapshotWorker
from cachekeep.snapshots.restoring import Restoring

ELSEWHERE = "us-west-2"


def test_a_snapshot_of_the_same_name_elsewhere_is_another_one(desk: Desk) -> None:
    desk.create_group()
    desk.ask("CreateSnapshot", SnapshotName="s", ReplicationGroupId="g")
    desk.create_cluster("new")
    with desk.store.transaction() as work:
        (made,) = work.all(Snapshot)
        here = replace(made, status=SnapshotStatus.RESTORING)
        there = replace(here, region=ELSEWHERE)
        work.replace(made, here)
        work.insert(there)
        cluster = desk.cluster("new")
        work.replace(cluster, replace(cluster, restore=Restore("s", "generation", seeded=True)))
    restoring = Restoring(desk.store, cast(SnapshotWorker, None), desk.clock, dict)
    restoring.finish(here)
    restoring.finish(there)

    def status(region: str) -> SnapshotStatus:
        found = desk.store.get(Snapshot, region, "s")
        assert found is not None
        return found.status

    assert status(REGION) is SnapshotStatus.RESTORING
    assert status(ELSEWHERE) is SnapshotStatus.AVAILABLE
