"""Which groups the commands know by name."""

from __future__ import annotations

from typing import Any

import pytest

from cachekeep.cli.connect import group_named
from cachekeep.cli.refusal import Refused

GROUPS = [
    {"id": "demo", "region": "us-east-1", "serverless": None},
    {"id": "far", "region": "eu-west-1", "serverless": None},
    {"id": "serverless--carts", "region": "us-east-1", "serverless": "carts"},
]


class Told:
    """Stands for the client: tells one status page."""

    region = "us-east-1"

    def status(self) -> dict[str, Any]:
        return {"groups": GROUPS}


def test_what_runs_a_serverless_cache_is_no_group_and_not_named() -> None:
    told: Any = Told()
    assert group_named(told, "Demo")["id"] == "demo"
    for name in ("far", "serverless--carts"):
        with pytest.raises(Refused, match=r"there are demo$"):
            group_named(told, name)
