"""Implements domain.snapshot_work.SnapshotWorker: each order is carried out by a process of its own.

Copying and proving a snapshot takes the processor for seconds or minutes: the service must not wait for it, and a
crash of it must not be the service's. The process ends when its standard input closes, so it ends with the service.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from cachekeep.app.child import child
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.domain.snapshot_work import CopyOrder, FillOrder, Order, Outcome, WorkFailed


@dataclass(frozen=True)
class SnapshotProcesses:
    """repository, staging: folders, made when they are needed. buckets: name -> folder or s3://bucket/prefix.

    secret: the user and password that the engines want now; both None where they want none. way: where the engine of
    an address is talked to, past the switch that may hold its group's port, and whether by TLS; it raises WorldError
    when the authority cannot be read. authority: its file. nodes: below which the engines have their folders.
    """

    repository: Path
    staging: Path
    buckets: Mapping[str, str]
    secret: Callable[[], tuple[str | None, str | None]] = lambda: (None, None)
    way: Callable[[Address], tuple[Address, bool]] = lambda address: (address, False)
    authority: Path | None = None
    nodes: Path | None = None

    async def work(self, order: Order, began: Callable[[str], None]) -> Outcome:
        """See the port."""
        wish = self._wish(order)
        async with child("cachekeep.snapshot_child", wish) as lines:
            async for told in lines:
                if "done" in told:
                    return msgspec.convert(told["done"], Outcome)
                if "began" not in told:
                    raise WorkFailed(told["failed"], again=told["again"])
                began(told["began"])
        raise AssertionError("the lines end by raising")

    def pipes(self, folder: str, shards: Sequence[str]) -> Mapping[str, str]:
        """See the port."""
        inside = self.staging / folder / secrets.token_hex(8)
        paths = {shard: inside / f"{shard}.rdb" for shard in shards}
        try:
            self.staging.mkdir(0o700, parents=True, exist_ok=True)
            inside.parent.mkdir(0o700, exist_ok=True)
            inside.mkdir(0o700)
            for path in paths.values():
                os.mkfifo(path, 0o600)
        except OSError as error:
            raise WorkFailed(f"a pipe cannot be made in {inside.parent}: {error.strerror}") from error
        return {shard: str(path) for shard, path in paths.items()}

    def _wish(self, order: Order) -> bytes:
        """Raises WorkFailed."""
        user, password = self.secret()
        by_tls: set[Address] = set()

        def way(address: Address) -> Address:
            own, tls = self.way(address)
            if tls:
                by_tls.add(own)
            return own

        try:
            order = _with_addresses(order, way)
        except WorldError as error:
            raise WorkFailed(str(error), again=True) from error
        wish = {
            "kind": type(order).__name__,
            "order": order,
            "repository": str(self.repository),
            "staging": str(self.staging),
            "buckets": dict(self.buckets),
            "user": user,
            "password": password,
            "tls": sorted(str(address) for address in by_tls),
            "authority": str(self.authority or ""),
            "nodes": str(self.nodes or ""),
        }
        return msgspec.json.encode(wish) + b"\n"


def _with_addresses(order: Order, way: Callable[[Address], Address]) -> Order:
    match order:
        case CopyOrder(nodes, endpoints):
            own = tuple(replace(node, address=way(node.address)) for node in nodes)
            return CopyOrder(own, tuple(way(address) for address in endpoints))
        case FillOrder(generation, endpoint):
            return FillOrder(generation, way(endpoint))
        case _:
            return order
