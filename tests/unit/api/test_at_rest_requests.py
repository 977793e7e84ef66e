"""Encryption at rest is shown where it is, and refused where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import Desk


def _shown(desk: Desk, name: str, **params: Any) -> bool:
    desk.create_group(name, NumCacheClusters=1, **params)
    return bool(
        desk.ask("DescribeReplicationGroups", ReplicationGroupId=name)["ReplicationGroups"][0][
            "AtRestEncryptionEnabled"
        ]
    )


def test_on_a_plain_disk_it_is_refused_with_the_way_out(desk: Desk) -> None:
    code, text = desk.refused(
        "CreateReplicationGroup",
        ReplicationGroupId="g",
        ReplicationGroupDescription="x",
        NumCacheClusters=1,
        AtRestEncryptionEnabled=True,
    )
    assert (code, "CACHEKEEP_ENCRYPTED_STATE" in text) == ("InvalidParameterCombination", True)
    assert not _shown(desk, "v", Engine="valkey")


@pytest.mark.parametrize(
    ("engine", "asked", "shown"),
    [("valkey", None, True), ("redis", None, False), ("redis", True, True), ("valkey", False, False)],
)
def test_on_an_encrypted_disk_it_is_as_at_aws(desk: Desk, engine: str, asked: bool | None, shown: bool) -> None:
    desk.services = replace(desk.services, encrypted_at_rest="dm-crypt")
    given = {} if asked is None else {"AtRestEncryptionEnabled": asked}
    assert _shown(desk, "g", Engine=engine, **given) is shown


def test_what_is_not_encrypted_any_more_is_not_shown_as_such(desk: Desk) -> None:
    plain = desk.services
    desk.services = replace(plain, encrypted_at_rest="dm-crypt")
    assert _shown(desk, "g", Engine="valkey")
    desk.services = plain
    group = desk.ask("DescribeReplicationGroups", ReplicationGroupId="g")["ReplicationGroups"][0]
    assert group["AtRestEncryptionEnabled"] is False
