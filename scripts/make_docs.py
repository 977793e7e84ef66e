"""Draws the pages of docs/ that are made from the code, so that they cannot lie: map.md, api-coverage.md, metrics.md.

Run it after a change (`python scripts/make_docs.py`); tests/unit/test_docs.py fails while a page is out of date.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

from cachekeep.api.cloudwatch.operations import OPERATIONS as CLOUDWATCH_OPERATIONS
from cachekeep.api.entry import Truth
from cachekeep.api.operations import OPERATIONS, REFUSED_PROOF, STS_OPERATIONS
from cachekeep.api.tagging.operations import OPERATIONS as TAGGING_OPERATIONS
from cachekeep.codec.aws_model import load_service
from cachekeep.data.metrics import command_families, metrics, not_measured
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.metrics import AWS_NAMESPACE, Metric
from cachekeep.domain.verdicts import Threshold
from cachekeep.plan.parameters import RECORDED_ONLY, why_recorded_only

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cachekeep"


def coverage() -> str:
    """One row for each operation of the ElastiCache model, and those of the APIs beside it."""
    operations = load_service("elasticache").operations
    rows = []
    counts: dict[str, int] = defaultdict(int)
    for name in sorted(operations):
        entry = OPERATIONS.get(name)
        truth = entry.truth if entry else Truth.REFUSED
        counts[truth.value] += 1
        proof = entry.proof if entry else REFUSED_PROOF
        note = entry.note if entry else ""
        rows.append(f"| {name} | {truth.value} | {note} | `{proof.removeprefix('tests/')}` |")
    for name, entry in STS_OPERATIONS.items():
        proof = entry.proof.removeprefix("tests/")
        rows.append(f"| STS {name} | {entry.truth.value} | {entry.note} | `{proof}` |")
    for name, metered in sorted(CLOUDWATCH_OPERATIONS.items()):
        proof = metered.proof.removeprefix("tests/")
        rows.append(f"| CloudWatch {name} | {Truth.REAL.value} | {metered.note} | `{proof}` |")
    for name, tagging in sorted(TAGGING_OPERATIONS.items()):
        proof = tagging.proof.removeprefix("tests/")
        rows.append(f"| Tagging {name} | {Truth.RECORDED.value} | {tagging.note} | `{proof}` |")
    summary = ", ".join(f"{counts[t.value]} {t.value}" for t in Truth)
    parameters = [f"| `{name}` | {why_recorded_only(name)} |" for name in sorted(RECORDED_ONLY)]
    return "\n".join(
        [
            "# What the API does",
            "",
            "*Made by `scripts/make_docs.py` from `cachekeep/api/operations.py`; do not edit.*",
            "",
            f"Of the {len(operations)} operations of ElastiCache 2015-02-02: {summary}.",
            "",
            "- **real**: an engine did it, or the answer is read from what engines did.",
            "- **recorded**: kept and shown; no engine is concerned.",
            "- **refused**: parsed, checked and authenticated, then answered with a fault that AWS declares for it.",
            "",
            "| operation | truth | what within it | proof (below `tests/`) |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Parameters without an effect here",
            "",
            "All other parameters of a family reach the engine; these are kept and shown only.",
            "",
            "| parameter | why |",
            "|---|---|",
            *parameters,
            "",
        ]
    )


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports_of(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "cachekeep" and len(parts) > 1 and _exists(parts[1]):
                found.add(parts[1])
    return found


def _exists(room: str) -> bool:
    return (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def rooms() -> str:
    """Rooms, the doors between them, and what each file holds."""
    files = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
    doors: dict[str, set[str]] = defaultdict(set)
    held: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        room = room_of(path)
        held[room].append(path)
        doors[room] |= imports_of(path) - {room}
    lines = [
        "# Map of the code",
        "",
        "*Made by `scripts/make_docs.py` from the imports and the first sentence of each file; do not edit.*",
        "",
        "| room | imports from |",
        "|---|---|",
    ]
    lines += [f"| {room} | {', '.join(sorted(doors[room])) or 'nothing'} |" for room in sorted(held)]
    for room in sorted(held):
        lines += ["", f"## {room}", ""]
        lines += [f"- `{p.relative_to(ROOT)}`: {first_sentence(p)}" for p in held[room]]
    return "\n".join([*lines, ""])


def measured() -> str:
    """Every metric with its definition, every threshold with where it comes from."""
    found = list(metrics().values())
    families = [f"| {name} | {', '.join(sorted(words))} |" for name, words in command_families().items()]
    return "\n".join(
        [
            "# Metrics",
            "",
            "*Made by `scripts/make_docs.py` from `cachekeep/data/metrics.json` and `thresholds.json`; do not edit.*",
            "",
            "Dimensions are AWS's: `CacheClusterId` and `CacheNodeId` for a node, `CacheClusterId` alone for all nodes",
            "of a cluster, `ReplicationGroupId` for a group as a whole. A *gauge* is read every second; a *counter* is",
            "the increase within the minute, one sample; a *ratio* is of two counters of the minute. A metric marked",
            "*here* needs this machine: it is not known of a watched endpoint. Where nothing was measured there is no",
            "point, never a zero.",
            "",
            "## Under AWS's names (`AWS/ElastiCache`)",
            "",
            *_metric_table([m for m in found if m.namespace == AWS_NAMESPACE]),
            "",
            "## Beside them (`Cachekeep`)",
            "",
            *_metric_table([m for m in found if m.namespace != AWS_NAMESPACE]),
            "",
            "## What AWS has and Cachekeep has not",
            "",
            *(f"- {name}: {why}." for name, why in not_measured().items()),
            "",
            "## Families of commands",
            "",
            "| family | commands |",
            "|---|---|",
            *families,
            "",
            "## Verdicts",
            "",
            "`cachekeep health` judges these. *ours*: what no source states and Cachekeep chose.",
            "",
            "| metric | tier | warning | risk | besides | reading | ours |",
            "|---|---|---|---|---|---|---|",
            *(_threshold_row(threshold) for threshold in thresholds()),
            "",
        ]
    )


def _metric_table(found: list[Metric]) -> list[str]:
    rows = []
    for m in found:
        kind = m.kind.value + (", *here*" if m.local_only else "")
        engines = ", ".join(_ENGINES[engine] for engine in m.engines)
        field = m.field or m.memcached_field
        how = m.reading or (f"`{field}`" if field else "")
        rows.append(f"| {m.name} | {m.unit} | {kind} | {engines} | {m.about} | {how} |")
    return ["| metric | unit | kind | engines | what it is | how it is read here |", "|---|---|---|---|---|---|", *rows]


_ENGINES = {"resp": "Valkey, Redis", "memcached": "Memcached"}


def _threshold_row(threshold: Threshold) -> str:
    besides = [
        f"warning also {threshold.lower}" if threshold.lower else "",
        f"share of the baseline bandwidth: {threshold.share_warning}, {threshold.share_risk} %"
        if threshold.share_risk
        else "",
        "steady growth" if threshold.growth else "",
        "spikes" if threshold.spike else "",
    ]
    cells = (
        threshold.metric,
        threshold.tier.value,
        str(threshold.warning or ""),
        str(threshold.risk or ""),
        "; ".join(filter(None, besides)),
        threshold.reading,
        threshold.ours,
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


PAGES = {"docs/map.md": rooms, "docs/api-coverage.md": coverage, "docs/metrics.md": measured}


def main() -> None:
    for name, draw in PAGES.items():
        path = ROOT / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(draw())
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
