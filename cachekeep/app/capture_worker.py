"""Implements domain.continuous.CaptureWorker: a process for each group, which ends when its standard input closes.

So it ends with the service, and what it has captured is sealed; a crash of it is not the service's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from cachekeep.app.child import child
from cachekeep.domain.continuous import CaptureNews, CaptureOrder, CaptureState, Told
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.domain.snapshot_work import WorkFailed


@dataclass(frozen=True)
class CaptureProcesses:
    """root: the folder of the repositories, REGION/GROUP below it. secret, way, authority: as of SnapshotProcesses."""

    root: Path
    secret: Callable[[], tuple[str | None, str | None]]
    way: Callable[[Address], tuple[Address, bool]]
    authority: Path

    async def capture(self, order: CaptureOrder, told: Told) -> None:
        """See the port."""
        wish = self._wish(order)
        async with child("cachekeep.snapshot_child.capture", wish) as lines:
            async for said in lines:
                if "failed" in said:
                    raise WorkFailed(said["failed"], again=True)
                told(_news(said))

    def _wish(self, order: CaptureOrder) -> bytes:
        """Raises WorkFailed."""
        user, password = self.secret()
        try:
            own, tls = self.way(order.address)
        except WorldError as error:
            raise WorkFailed(str(error), again=True) from error
        wish = {
            "kind": type(order).__name__,
            "order": replace(order, address=own),
            "repository": str(self.root / order.region / order.group),
            "staging": "",
            "buckets": {},
            "user": user,
            "password": password,
            "tls": [str(own)] if tls else [],
            "authority": str(self.authority),
        }
        return msgspec.json.encode(wish) + b"\n"


def _news(said: Mapping[str, object]) -> CaptureNews | CaptureState:
    if "until_ms" in said:
        return msgspec.convert(said, CaptureState)
    return msgspec.convert(said, CaptureNews)
