"""What `cachekeep health` prints."""

from __future__ import annotations

import json
from importlib.resources import files
from io import StringIO

from rich.console import Console

from cachekeep.cli.health import exit_code, show
from cachekeep.domain.verdicts import read_thresholds
from cachekeep.plan.health import NodeReading, assemble
from cachekeep.plan.verdict import Context

THRESHOLDS = read_thresholds(json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8")))


def printed(*nodes: NodeReading, width: int = 160) -> tuple[str, int]:
    report = assemble("demo", "us-east-1", 1e9, nodes, THRESHOLDS)
    console = Console(file=StringIO(), width=width, highlight=False)
    show(console, report)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue(), exit_code(report)


def node(name: str, trouble: str | None = None, **values: float) -> NodeReading:
    return NodeReading(name, Context(1e9, values, "primary", trouble=trouble))


def test_three_tiers_with_words_for_verdicts_and_what_to_do() -> None:
    text, code = printed(node("a-001", CPUUtilization=20), node("a-002", CPUUtilization=95, CacheHitRate=99))
    assert code == 2
    lines = text.splitlines()
    assert lines[:2] == ["demo  risk", "  risk: CPU Utilization"]
    titles = ["Crucial metrics  risk", "Important metrics  unknown", "Optional metrics  unknown"]
    assert [line for line in lines if line in titles] == titles
    (row,) = [line for line in lines if line.lstrip().startswith("CPU Utilization")]
    assert row.split() == ["CPU", "Utilization", "risk", "95", "%", "a-002", "at", "or", "above", "80", "%"]
    assert "  risk CPU Utilization on a-002: How busy the CPUs of the whole host are" in text
    assert "    cause: usual causes: heavy or many commands" in text
    assert "    next: Look at EngineCPUUtilization" in text
    assert "Cache Hit Rate" in text


def test_all_sixteen_metrics_stand_in_a_narrow_terminal_too() -> None:
    text, code = printed(node("a-001", CPUUtilization=20), width=80)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert sum(line.count("unknown") for line in text.splitlines() if line.startswith(" ")) >= 15


def test_what_nodes_say_is_never_taken_for_markup() -> None:
    text, code = printed(node("a", trouble="[bold]cannot[/nothing] reach it"))
    assert "a: [bold]cannot[/nothing] reach it" in text
    assert code == 3
