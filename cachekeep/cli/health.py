"""What `cachekeep health` prints of a report (plan.health): the seed's three tiers, a word for each verdict.

Exit codes are those of monitoring plugins: 0 safe, 1 warning, 2 risk, 3 cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STYLES = {"safe": "green", "warning": "yellow", "risk": "bold red", "unknown": "dim"}
_TITLES = {"crucial": "Crucial metrics", "important": "Important metrics", "optional": "Optional metrics"}


def exit_code(report: Mapping[str, Any]) -> int:
    """As the report says it."""
    return int(report["exit_code"])


def show(console: Console, report: Mapping[str, Any]) -> None:
    """The whole report: a line on the group, a table for each tier, and under it what is not safe, why, what next."""
    console.print(f"[bold]{escape(report['id'])}[/bold]  {_word(report['level'])}", soft_wrap=True)
    console.print(f"  {escape(report['sentence'])}", soft_wrap=True)
    for node in report["nodes"]:
        if node["trouble"]:
            console.print(f"  [yellow]{escape(node['id'])}: {escape(node['trouble'])}[/yellow]", soft_wrap=True)
    for tier in report["tiers"]:
        console.print()
        console.print(f"[bold]{_TITLES.get(tier['tier'], tier['tier'])}[/bold]  {_word(tier['level'])}")
        console.print(_table(tier, with_nodes=len(report["nodes"]) > 1))
        for metric in tier["metrics"]:
            if metric["level"] in ("warning", "risk"):
                _explain(console, metric)


def _table(tier: Mapping[str, Any], *, with_nodes: bool) -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    table.add_column("Metric", overflow="fold")
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Value", justify="right", no_wrap=True)
    if with_nodes:
        table.add_column("Worst node", overflow="fold")
    table.add_column("Why", overflow="fold")
    for metric in tier["metrics"]:
        cells = [escape(metric["title"]), _word(metric["level"]), escape(metric["value"])]
        if with_nodes:
            cells.append(escape(metric["node"]))
        table.add_row(*cells, escape(_why(metric)))
    return table


def _why(metric: Mapping[str, Any]) -> str:
    """The sentence without what the other columns say."""
    why = str(metric["sentence"]).partition(f"is {metric['level']}: ")[2] or str(metric["sentence"])
    return why.removeprefix(f"{metric['value']}; ")


def _explain(console: Console, metric: Mapping[str, Any]) -> None:
    where = f" on {metric['node']}" if metric["node"] else ""
    console.print(
        f"  {_word(metric['level'])} {escape(metric['title'] + where)}: {escape(metric['means'])}", soft_wrap=True
    )
    for name in ("cause", "next"):
        if metric[name]:
            console.print(f"    {name}: {escape(metric[name])}", soft_wrap=True)
    for line in metric["evidence"]:
        console.print(f"    seen: {escape(line)}", soft_wrap=True)


def _word(level: str) -> str:
    return f"[{_STYLES.get(level, 'default')}]{level}[/]"
