"""The machine's gauges, the same for each of its nodes: differences of readings. Pure."""

from __future__ import annotations

from cachekeep.domain.metric_ports import MachineReading


class MachineGauges:
    """See one reading a second."""

    def __init__(self) -> None:
        self._last: MachineReading | None = None
        self._busy: float | None = None

    def see(self, reading: MachineReading) -> None:
        before = self._last
        if before is not None:
            total = reading.cpu_total_s - before.cpu_total_s
            if total > 0:
                share = (reading.cpu_busy_s - before.cpu_busy_s) / total
                self._busy = 100.0 * min(1.0, max(0.0, share))
        self._last = reading

    def gauges(self) -> dict[str, float]:
        """By metric; without CPUUtilization before the second reading."""
        if self._last is None:
            return {}
        reading = self._last
        found = {
            "FreeableMemory": float(reading.memory_available_bytes),
            "FreeableMemoryPercentage": 100.0 * reading.memory_available_bytes / max(1, reading.memory_total_bytes),
        }
        if self._busy is not None:
            found["CPUUtilization"] = self._busy
        return found

    def counters(self) -> dict[str, float]:
        """Allowances exceeded since boot, by metric; those that this machine can tell."""
        if self._last is None:
            return {}
        reading = self._last
        found = {
            "NetworkConntrackAllowanceExceeded": reading.conntrack_exceeded,
            "NetworkPacketsPerSecondAllowanceExceeded": reading.packets_exceeded,
            "NetworkBandwidthInAllowanceExceeded": reading.bandwidth_in_exceeded,
            "NetworkBandwidthOutAllowanceExceeded": reading.bandwidth_out_exceeded,
            "NetworkLinkLocalAllowanceExceeded": reading.link_local_exceeded,
        }
        return {name: float(value) for name, value in found.items() if value is not None}
