"""A node as the service runs it, for tests of what a killed engine keeps: parameter values in, process out."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import valkey

from cachekeep.data.load import families, family_of, node_types
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.engine.admin import Admin
from cachekeep.host.local import LocalHost
from cachekeep.plan.parameters import Drift, drift, engine_config, managed_names

KEY = NodeKey("us-east-1", "kept-001")
VERSIONS = ["9.1", "8.1", "7.0", "6.2"]
AOF = {"appendonly": "yes"}
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
SNAPSHOTS = {"save": "3600 1"}
Eventually = Callable[..., Awaitable[Any]]


class Node:
    """One node as the service runs it: parameter values, start, kill. Values are those of its parameter group."""

    def __init__(
        self,
        host: LocalHost,
        install: EngineInstall,
        address: Address,
        eventually: Eventually,
        *,
        clustered: bool = False,
        key: NodeKey = KEY,
    ) -> None:
        self.host, self.install, self.address, self._eventually = host, install, address, eventually
        self.clustered, self.key = clustered, key
        self.folder = host._root / key.region / key.cluster_id / key.node_id
        family = family_of(install.engine, install.version)
        assert family
        self.family = families()[family]

    def config(self, values: Mapping[str, str]) -> Mapping[str, str]:
        node_type = node_types()["cache.t4g.micro"]
        engine, version = self.install.engine, self.install.version
        return engine_config(self.family, values, node_type, engine, version, clustered=self.clustered)

    async def begin(self, values: Mapping[str, str], *, keep_data: bool = False) -> None:
        """Start the process, without waiting for it."""
        spec = NodeSpec(self.key, self.install.engine, self.install.version, self.address, self.config(values))
        await self.host.start(spec, self.install, keep_data=keep_data)

    async def start(self, values: Mapping[str, str], *, keep_data: bool = False) -> None:
        await self.begin(values, keep_data=keep_data)
        await self._eventually(self._answers)

    async def again(self, values: Mapping[str, str], kept: str) -> None:
        """Start as the planner does after a crash, and prove what is said to be kept."""
        assert self.host.kept(self.key, self.config(values)) == kept
        await self.start(values, keep_data=kept != "")

    async def kill(self) -> None:
        process = self.host.find(self.key)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await self._eventually(lambda: self.host.find(self.key) is None)

    async def refused(self) -> str:
        """The engine's last words, once it has ended by itself."""
        await self._eventually(lambda: self.host.find(self.key) is None)
        return "\n".join(self.host.log_tail(self.key, 20))

    async def lacks(self, values: Mapping[str, str]) -> Drift:
        admin, wanted = Admin(), self.config(values)
        facts = await admin.facts(self.install.engine, self.address, managed_names(wanted))
        await admin.close()
        return drift(wanted, facts.config, self.family)

    async def apply(self, values: Mapping[str, str]) -> None:
        """As the planner does: set live what the process lacks, and see it come back."""
        admin, missing = Admin(), await self.lacks(values)
        assert not missing.restart
        begins = self.host.note_keeping(self.key, missing.live, done=False)
        await admin.configure(self.address, missing.live)
        self.host.note_keeping(self.key, missing.live, done=True)
        if begins and missing.live.get("save"):
            await admin.save_soon(self.address)
        await admin.close()
        assert not await self.lacks(values)
        for writing in ("aof_rewrite_in_progress", "rdb_bgsave_in_progress"):
            await self._eventually(lambda name=writing: self.ask("INFO", "persistence")[name] == 0)

    def client(self) -> valkey.Valkey:
        return valkey.Valkey(self.address.host, self.address.port, socket_timeout=5, decode_responses=True)

    def ask(self, *words: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except (valkey.ValkeyError, OSError):
            return False
