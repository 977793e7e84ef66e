"""Reads metrics.json: which metrics there are, what each means and which family a command belongs to.

Called by the composition root and by scripts that draw documents; those who measure are handed the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec

from cachekeep.data.load import DataError
from cachekeep.domain.metrics import Metric, MetricKind

_UNITS = frozenset(("Percent", "Bytes", "Count", "Seconds", "Milliseconds", "Microseconds", "Count/Second", "None"))


class _File(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    as_of: str
    not_measured: dict[str, str]
    metrics: list[Metric]
    command_families: dict[str, str]


@cache
def metrics() -> Mapping[str, Metric]:
    """All metrics by name, in the order of the file. Names are of one namespace each, so they are unique."""
    found = {metric.name: metric for metric in _file().metrics}
    if len(found) != len(_file().metrics):
        raise DataError("metrics.json: a name stands twice")
    for metric in found.values():
        _check(metric)
    return found


@cache
def command_families() -> Mapping[str, frozenset[str]]:
    """Family (`StringBased`) -> commands in lower case. GetType holds all that read, SetType all that write."""
    return {name: frozenset(text.split()) for name, text in _file().command_families.items()}


def not_measured() -> Mapping[str, str]:
    """Metrics that AWS has and Cachekeep has not -> why, for the documentation."""
    return _file().not_measured


@cache
def _file() -> _File:
    try:
        return msgspec.json.decode((files("cachekeep.data") / "metrics.json").read_bytes(), type=_File)
    except msgspec.MsgspecError as error:
        raise DataError(f"metrics.json: {error}") from error


def _check(metric: Metric) -> None:
    fields = (("resp", metric.field), ("memcached", metric.memcached_field))
    strange = [engine for engine, field in fields if field and engine not in metric.engines]
    if metric.unit not in _UNITS or not set(metric.engines) <= {"resp", "memcached"} or strange:
        raise DataError(f"metrics.json: {metric.name}: unknown unit or engine, or a field of an engine without it")
    if metric.kind is MetricKind.RATIO and (metric.field or metric.memcached_field):
        raise DataError(f"metrics.json: {metric.name}: a ratio is computed, it has no field")
