"""What `cachekeep health` prints."""

from __future__ import annotations

import json
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cachekeep.cli.health import exit_code, own_numbers, show, show_all, wished
from cachekeep.cli.main import main
from cachekeep.cli.refusal import Refused
from cachekeep.domain.verdicts import read_thresholds
from cachekeep.plan.health import NodeReading, assemble
from cachekeep.plan.verdict import Context, Past

THRESHOLDS = read_thresholds(json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8")))


def printed(*nodes: NodeReading, width: int = 160) -> tuple[str, int]:
    report = assemble("demo", "us-east-1", 1e9, nodes, THRESHOLDS)
    console = Console(file=StringIO(), width=width, highlight=False)
    show(console, report)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue(), exit_code(report)


def node(name: str, trouble: str | None = None, **values: float) -> NodeReading:
    past = {metric: Past(recent=value) for metric, value in values.items()}
    return NodeReading(name, Context(1e9, values, "primary", trouble=trouble), past)


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


def test_what_nodes_say_is_never_obeyed_by_the_terminal() -> None:
    text, _ = printed(node("a", trouble="\x1b]0;owned\x07 \x9b2J \u202e\r cannot reach it"))
    assert "a: ?]0;owned? ?2J ?? cannot reach it" in text
    assert all(char.isprintable() or char == "\n" for char in text)
    console = Console(file=StringIO(), width=100, highlight=False)
    entry = {"id": "far", "kind": "target", "level": "unknown", "sentence": "no numbers from \x1b[2Jfar"}
    show_all(console, {"region": "us-east-1", "resources": [entry]})
    assert isinstance(console.file, StringIO)
    assert "no numbers from ?[2Jfar" in console.file.getvalue()


def test_where_nodes_differ_each_is_told_the_worst_first() -> None:
    text, _ = printed(node("a-001", CPUUtilization=20), node("a-002", CPUUtilization=95), node("a-003", trouble="no"))
    assert "    nodes: a-002 risk 95 %, a-001 safe 20 %, a-003 unknown" in text.splitlines()
    many = [node(f"a-{number:03}", CPUUtilization=95 if number else 20) for number in range(12)]
    assert "a-008 risk 95 % and 4 more" in printed(*many)[0]
    assert "    nodes: " not in printed(node("a-001", CPUUtilization=95), node("a-002", CPUUtilization=90))[0]


def test_an_overview_has_a_line_for_each() -> None:
    console = Console(file=StringIO(), width=100, highlight=False)
    resources = [
        {"id": "demo", "kind": "group", "level": "risk", "sentence": "risk: CPU Utilization; no numbers from demo-002"},
        {"id": "far", "kind": "target", "level": "unknown", "sentence": "nothing is known yet"},
    ]
    show_all(console, {"region": "us-east-1", "resources": resources})
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert " ".join(lines[1].split()) == "demo group risk CPU Utilization; no numbers from demo-002"
    assert " ".join(lines[2].split()) == "far target unknown nothing is known yet"


def test_numbers_of_its_own_are_read_as_they_are_written() -> None:
    assert own_numbers("CPUUtilization:warning=50,risk=70.5") == ("CPUUtilization", {"warning": 50.0, "risk": 70.5})
    assert own_numbers("SwapUsage:risk=1e6") == ("SwapUsage", {"risk": 1e6})


def test_a_warning_and_a_risk_may_be_set_one_by_one() -> None:
    assert wished(["A:warning=40", "B:risk=1", "A:risk=60"]) == {"A": {"warning": 40.0, "risk": 60.0}, "B": {"risk": 1}}


@pytest.mark.parametrize(
    "text", ["", "CPUUtilization", ":risk=1", "A:", "A:risk", "A:risk=x", "A:risk=nan", "A:danger=1", "A:risk=1,risk=2"]
)
def test_what_is_no_threshold_is_refused_as_misuse(text: str) -> None:
    with pytest.raises(Refused, match="--set takes METRIC:warning=X,risk=Y") as refused:
        own_numbers(text)
    assert refused.value.code == 64


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--nonsense",), 64),
        (("a", "b"), 64),
        (("--set", "CPUUtilization:risk=90"), 64),
        (("demo", "--watch", "--unset", "all"), 64),
        (("demo", "--region", "no such region!"), 64),
        (("demo",), 3),
        ((), 3),
    ],
)
def test_misuse_is_no_risk_and_a_service_that_is_down_is_no_warning(
    arguments: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["health", *arguments])
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("cachekeep: ")
