"""One node measured as the service does it, over a span that the test ends when it likes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.metrics import Place, Point
from cachekeep.domain.nodes import Address
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.gathering import Gathering
from cachekeep.monitor.readings import Vocabulary

_BASE = 1_700_000_040.0


class Span:
    """`look` reads; `begin` throws away what was; `end` gives the points since then. Times are real ones, shifted."""

    def __init__(self, server: Any, *, speaks_resp: bool = True, host: MachineMeter | None = None) -> None:
        self.place = Place(Address(server.host, server.port), speaks_resp=speaks_resp)
        self._pid = server.pid
        self._host = host
        self._loop = asyncio.Runner()
        self._meter = EngineMeter(answer_timeout_s=5.0)
        words = Vocabulary.of(metrics(), command_families(), speaks_resp=speaks_resp)
        self.gathering = Gathering(words, speaks_resp=speaks_resp)
        self._started = time.monotonic()

    @property
    def now(self) -> float:
        return _BASE + time.monotonic() - self._started

    def look(self) -> dict[str, float]:
        """The gauges of now. Leaves a connection of its own to the engine open."""
        fields = self._loop.run(self._meter.read(self.place))
        process = None
        if self._host is not None:
            process = self._host.processes([self._pid]).get(self._pid)
            traffic = self._host.traffic({self.place.address: "node"})
            if traffic is not None:
                seen = traffic["node"]
                packets = {"NetworkPacketsIn": float(seen.packets_in), "NetworkPacketsOut": float(seen.packets_out)}
                self.gathering.count(self.now, packets)
        self.gathering.see(self.now, fields, process, {})
        return self.gathering.now

    def begin(self) -> None:
        self.look()
        self._close()

    def end(self) -> Mapping[str, Point]:
        self.look()
        return self._close()

    def sums(self) -> dict[str, float]:
        """Sum of each metric since `begin`."""
        return {name: point.total for name, point in self.end().items()}

    def _close(self) -> Mapping[str, Point]:
        latencies = self._loop.run(self._meter.latencies(self.place)) if self.place.speaks_resp else None
        return self.gathering.close(self.now, latencies)

    def close(self) -> None:
        self._loop.run(self._meter.close())
        self._loop.close()
