"""`cachekeep health`: the seed's three tiers with a word for each verdict, of one group; or a line for each of all.

Exit codes are those of monitoring plugins, so that one can run the command as it is: 0 safe, 1 warning, 2 risk, 3
cannot tell. Misuse is 64, as sysexits.h has it: 2 would read as a risk.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from cachekeep.cli import options
from cachekeep.cli.client import Client
from cachekeep.cli.connect import connect
from cachekeep.cli.console import cleaned, console, print_lines
from cachekeep.cli.refusal import SERVICE_DOWN, Refused, RefusedByService
from cachekeep.credentials import CredentialsError
from cachekeep.domain.verdicts import Level
from cachekeep.settings import SettingsError

MISUSE = 64
CANNOT_TELL = SERVICE_DOWN
_ROUND_S = 3.0
_MOST_NODES = 8
_STYLES = {"safe": "green", "warning": "yellow", "risk": "bold red", "unknown": "dim"}
_TITLES = {"crucial": "Crucial metrics", "important": "Important metrics", "optional": "Optional metrics"}
T = TypeVar("T")


class Plugin(TyperCommand):
    """A command whose exit code for misuse is 64."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # UsageError, which typer does not export; it tells what is wrong by this method.
            tell = getattr(error, "format_message", None)
            if tell is None:
                raise
            raise Refused(f"{tell()} See `cachekeep health --help`", MISUSE) from error


def health(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="A group, a cluster, a watched target, or a member (demo-001, mem/0002)."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every few seconds until Ctrl-C.")] = False,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METRIC:warning=X,risk=Y",
            help="Give NAME numbers of its own: EngineCPUUtilization:warning=40,risk=60.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="METRIC", help="Take its own numbers away again; `all` for all.")
    ] = None,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Tell how well caches are: safe, warning or risk, why, and what to do. Without NAME: a line for each.

    Exit code: 0 safe, 1 warning, 2 risk, 3 cannot tell, 64 misuse. With --watch and --json, a line for each round.
    """
    wish = wished(own or [])
    if (wish or unset) and (not name or watch):
        raise Refused("--set and --unset take the NAME of one group, cluster or target, and no --watch", MISUSE)
    try:
        client = _ask(lambda: connect(state_dir, region))
    except SettingsError as error:
        raise Refused(str(error), MISUSE) from error
    except CredentialsError as error:
        raise Refused(str(error), CANNOT_TELL) from error
    if name and (wish or unset):
        _change(client, name, wish, unset or [], as_json=as_json)
        return
    code = _watch(client, name, as_json=as_json) if watch else _show_once(client, name, as_json=as_json)
    raise typer.Exit(code)


def wished(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """By metric, those of several texts together; of one number given twice the later counts. Raises Refused."""
    found: dict[str, dict[str, float]] = {}
    for metric, numbers in map(own_numbers, texts):
        found.setdefault(metric, {}).update(numbers)
    return found


def own_numbers(text: str) -> tuple[str, dict[str, float]]:
    """`CPUUtilization:warning=50,risk=70`: the metric, and what it says. Raises Refused."""
    metric, _, rest = text.partition(":")
    found: dict[str, float] = {}
    for part in rest.split(","):
        word, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not metric or word not in ("warning", "risk") or word in found or not math.isfinite(number):
            raise Refused(f"--set takes METRIC:warning=X,risk=Y or one of both, not {text[:80]!r}", MISUSE)
        found[word] = number
    return metric, found


def _change(client: Client, name: str, wish: Mapping[str, Any], unset: list[str], *, as_json: bool) -> None:
    body = {"name": name, "set": wish, "unset": unset}
    page = _ask(lambda: client.change("health", body, f"set thresholds of {name[:60]}"), refused=MISUSE)
    if as_json:
        typer.echo(json.dumps(page))
        return
    print_lines(_own(page["own_thresholds"]) or [f"{page['id']} has no thresholds of its own"])


def _page(client: Client, name: str | None) -> dict[str, Any]:
    query = {"name": name} if name else {}
    return _ask(lambda: client.page("health", f"tell the health of {(name or 'all')[:60]}", query))


def _show_once(client: Client, name: str | None, *, as_json: bool) -> int:
    page = _page(client, name)
    if as_json:
        typer.echo(json.dumps(page, indent=2))
    else:
        _print(console(), page)
    return exit_code(page)


def _watch(client: Client, name: str | None, *, as_json: bool) -> int:
    """Until interrupted; the last round's code. A service that comes back is asked again."""
    out, code = console(), CANNOT_TELL
    try:
        while True:
            began = time.monotonic()
            try:
                page = _page(client, name)
            except Refused as refused:
                code = refused.code
                typer.echo(f"cachekeep: {cleaned(str(refused))}", err=True)
            else:
                code = exit_code(page)
                if as_json:
                    typer.echo(json.dumps(page))
                else:
                    out.clear()
                    _print(out, page)
            time.sleep(max(0.0, _ROUND_S - (time.monotonic() - began)))
    except KeyboardInterrupt:
        return code


def _ask(ask: Callable[[], T], refused: int = CANNOT_TELL) -> T:
    """Whatever keeps the service from telling ends with 3, never with 1, which is a warning. refused: the code for a
    wish that the service found wrong."""
    try:
        return ask()
    except RefusedByService as error:
        raise Refused(str(error), refused) from error
    except Refused as error:
        raise Refused(str(error), CANNOT_TELL) from error


def _print(out: Console, page: Mapping[str, Any]) -> None:
    if "tiers" in page:
        show(out, page)
    else:
        show_all(out, page)


def exit_code(report: Mapping[str, Any]) -> int:
    """As the report says it."""
    return int(report["exit_code"])


def show(console: Console, report: Mapping[str, Any]) -> None:
    """The whole report: a line on the group, a table for each tier, and under it what is not safe, why, what next."""
    report = cleaned(report)
    console.print(f"[bold]{escape(report['id'])}[/bold]  {_word(report['level'])}", soft_wrap=True)
    console.print(f"  {escape(report['sentence'])}", soft_wrap=True)
    for node in report["nodes"]:
        if node["trouble"]:
            console.print(f"  [yellow]{escape(node['id'])}: {escape(node['trouble'])}[/yellow]", soft_wrap=True)
    for line in _own(report.get("own_thresholds", {})):
        console.print(f"  [dim]threshold of {escape(line)}[/dim]", soft_wrap=True)
    if backup := report.get("continuous_backup"):
        console.print(f"  {backup['title']}  {_word(backup['level'])}  {escape(_told(backup))}", soft_wrap=True)
        if backup["level"] in ("warning", "risk"):
            _explain(console, backup)
    for tier in report["tiers"]:
        console.print()
        console.print(f"[bold]{_TITLES.get(tier['tier'], tier['tier'])}[/bold]  {_word(tier['level'])}")
        console.print(_table(tier, with_nodes=len(report["nodes"]) > 1))
        for metric in tier["metrics"]:
            if metric["level"] in ("warning", "risk"):
                _explain(console, metric)


def show_all(console: Console, page: Mapping[str, Any]) -> None:
    """A line for each group, cluster and target."""
    page = cleaned(page)
    if not page["resources"]:
        console.print(f"No caches in {page['region']} yet")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("Name", "Kind", "Verdict"):
        table.add_column(title, no_wrap=title != "Name", overflow="fold")
    table.add_column("Why", overflow="fold")
    for resource in page["resources"]:
        why = resource["sentence"].removeprefix(f"{resource['level']}: ")
        table.add_row(escape(resource["id"]), resource["kind"], _word(resource["level"]), escape(why))
    console.print(table)


def _own(numbers: Mapping[str, Mapping[str, float]]) -> list[str]:
    """`CPUUtilization: warning 50, risk 70 (its own)`."""
    return [
        f"{metric}: {', '.join(f'{word} {value:.15g}' for word, value in given.items())} (its own)"
        for metric, given in numbers.items()
    ]


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
    return _told(metric).removeprefix(f"{metric['value']}; ")


def _told(metric: Mapping[str, Any]) -> str:
    """The sentence without its beginning, `TITLE is LEVEL: `."""
    return str(metric["sentence"]).partition(f"is {metric['level']}: ")[2] or str(metric["sentence"])


def _explain(console: Console, metric: Mapping[str, Any]) -> None:
    where = f" on {metric['node']}" if metric["node"] else ""
    console.print(
        f"  {_word(metric['level'])} {escape(metric['title'] + where)}: {escape(metric['means'])}", soft_wrap=True
    )
    if on_each := _on_each(metric["nodes"]):
        console.print(f"    nodes: {escape(on_each)}", soft_wrap=True)
    for name in ("cause", "next"):
        if metric[name]:
            console.print(f"    {name}: {escape(metric[name])}", soft_wrap=True)
    for line in metric["evidence"]:
        console.print(f"    seen: {escape(line)}", soft_wrap=True)


def _on_each(nodes: Sequence[Mapping[str, Any]]) -> str:
    """`demo-001 risk 95 %, demo-002 safe 3 %`, the worst first; "" where all stand alike."""
    if len({node["level"] for node in nodes}) < 2:
        return ""
    ordered = sorted(nodes, key=lambda node: -Level(node["level"]).rank)
    told = [f"{node['node']} {node['level']} {node['value']}".removesuffix(" -") for node in ordered[:_MOST_NODES]]
    return ", ".join(told) + (f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else "")


def _word(level: str) -> str:
    return f"[{_STYLES.get(level, 'default')}]{level}[/]"


app = typer.Typer()
app.command(cls=Plugin)(health)
