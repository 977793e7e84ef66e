"""Families of metrics as Prometheus reads them: the text format 0.0.4, and OpenMetrics 1.0. Pure.

Not prometheus_client's writer: it works out the labels of every sample anew, which for 200 nodes of 110 metrics takes
ten times as long. Its parser is what the tests judge this by.
Source: prometheus.io "Exposition formats"; OpenMetrics 1.0 (prometheus/OpenMetrics, specification/OpenMetrics.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    HISTOGRAM = "histogram"


class Format(StrEnum):
    """Each with its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_SUFFIXES = {Kind.GAUGE: "", Kind.COUNTER: "_total", Kind.INFO: "_info", Kind.HISTOGRAM: ""}


@dataclass
class Family:
    """name: without `_total` or `_info`. samples: labels as `labels` makes them, and a value; those of a histogram are
    added with `observe`."""

    name: str
    kind: Kind
    about: str
    samples: list[tuple[str, float]] = field(default_factory=list)

    def observe(self, told: str, counts: Mapping[float, float], total: float, bounds: Sequence[float]) -> None:
        """One histogram. told: its labels. counts: by upper bound, not cumulative. total: the sum of all values.
        bounds: what is shown, ascending; the same for every node at all times."""
        start = told[:-1] + "," if told else "{"
        left, seen = sorted(counts.items(), reverse=True), 0.0
        for bound in bounds:
            while left and left[-1][0] <= bound:
                seen += left.pop()[1]
            self.samples.append((f'_bucket{start}le="{bound!r}"}}', seen))
        everything = seen + sum(count for _, count in left)
        self.samples.append((f'_bucket{start}le="+Inf"}}', everything))
        self.samples += [(f"_count{told}", everything), (f"_sum{told}", total)]


def labels(pairs: Mapping[str, str]) -> str:
    """`{cluster="a-001",node="0001"}`, once for all samples that have them. Empty values are no labels."""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items() if value)
    return f"{{{inner}}}" if inner else ""


def exposition(families: Iterable[Family], form: Format) -> bytes:
    """The page. A family without samples is left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        sample = family.name + _SUFFIXES[family.kind]
        name, kind = (sample, family.kind.value) if form is Format.TEXT else (family.name, family.kind.value)
        if form is Format.TEXT and family.kind is Kind.INFO:
            kind = "gauge"  # the older format knows no info
        lines.append(f"# HELP {name} {_help(family.about, form)}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{sample}{told} {_number(value)}" for told, value in family.samples]
    if form is Format.OPEN_METRICS:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _help(text: str, form: Format) -> str:
    """Quotes are escaped in OpenMetrics only."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if form is Format.OPEN_METRICS else text
