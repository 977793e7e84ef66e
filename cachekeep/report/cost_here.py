"""What caches take of this machine: resident memory now, CPU over the last hours. Called by report.cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from cachekeep.domain.metric_ports import Monitoring, ProcessReading
from cachekeep.domain.metrics import Subject
from cachekeep.domain.ports import WorldError

log = structlog.get_logger()

CPU = "EngineCPUUtilization"
WINDOW_S = 6 * 3600
_PERIOD_S = 3600
# Reading the hours of 200 nodes takes some milliseconds; their average moves slowly.
_KEEP_S = 300.0


@dataclass(frozen=True)
class Taken:
    """memory_bytes, cpu_cores: of all that could be asked; None where nothing could. missing: nodes that run and whose
    CPU is not known."""

    memory_bytes: float | None
    cpu_cores: float | None
    missing: int = 0


class MachineShare:
    """processes: what runs under these pids (host.meter)."""

    def __init__(
        self, monitoring: Monitoring, processes: Callable[[Collection[int]], Mapping[int, ProcessReading]]
    ) -> None:
        self._monitoring, self._processes = monitoring, processes
        # When it was read, and cores; replaced, never changed in place: threads read it.
        self._averages: Mapping[Subject, tuple[float, float]] = {}

    def measure(self, resources: Sequence[Mapping[str, Any]]) -> None:
        """Read the CPU of the last hours, where what was read is old. Some milliseconds a node: belongs in a thread."""
        now = self._monitoring.now()
        kept = {one: told for one, told in self._averages.items() if 0 <= now - told[0] < _KEEP_S}
        for resource in resources:
            for node in resource["nodes"]:
                subject = _subject(resource, node)
                if node["pid"] and subject not in kept:
                    cores = self._average(subject, now)
                    if cores is not None:
                        kept[subject] = now, cores
        self._averages = kept

    def taken(self, resources: Sequence[Mapping[str, Any]]) -> Taken:
        """By the nodes of these groups and clusters of the status page; former and coming instances take memory too."""
        nodes = [(resource, node) for resource in resources for node in resource["nodes"]]
        if not nodes:
            return Taken(0.0, 0.0)
        running = self._processes([node["pid"] for _, node in nodes if node["pid"]])
        memory = [float(running[node["pid"]].rss_bytes) for _, node in nodes if node["pid"] in running]
        told = [
            self._cores(_subject(resource, node), running[node["pid"]])
            for resource, node in nodes
            if node["pid"] in running and node["spare"] is None
        ]
        known = [cores for cores in told if cores is not None]
        return Taken(sum(memory) if memory else None, sum(known) if known else None, len(told) - len(known))

    def _cores(self, subject: Subject, process: ProcessReading) -> float | None:
        """The average that was measured; else what is seen now; of an engine that tells no CPU (Memcached) the average
        of its life."""
        measured = self._averages.get(subject)
        if measured is not None:
            return measured[1]
        current = self._monitoring.gauges.current(subject)
        values = current.values if current is not None else {}
        if CPU in values:
            return values[CPU] / 100
        up_s = values.get("Uptime", 0.0)
        return process.cpu_s / up_s if up_s >= 1 else None

    def _average(self, subject: Subject, now: float) -> float | None:
        begin = int(now) - WINDOW_S
        try:
            column = self._monitoring.series.read(subject, (CPU,), begin, int(now) + 1, _PERIOD_S)[CPU]
        except WorldError as error:
            log.warning("cost goes by the CPU of now", node=str(subject), reason=str(error))
            return None
        count = sum(column.count)
        return sum(column.total) / count / 100 if count else None


def _subject(resource: Mapping[str, Any], node: Mapping[str, Any]) -> Subject:
    return Subject(resource["region"], node["id"], node["node_id"])
