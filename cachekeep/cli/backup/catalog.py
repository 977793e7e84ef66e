"""`cachekeep backup list` and `show`: what there is, what is in one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cachekeep import backups
from cachekeep.backup.catalog import Generation, Repository, Status
from cachekeep.backup.moments import Coverage, coverage_of, skew_told
from cachekeep.backup.reader import GenerationReader
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.console import console, in_bytes

_COLOURS = {
    Status.COMPLETE: "green",
    Status.OPEN: "cyan",
    Status.GAPS: "red",
    Status.UNFINISHED: "yellow",
    Status.DAMAGED: "red",
}
_SHOWN_LOG_LINES = 20
_SHOWN_STRETCHES = 10


def list_(
    dest: options.Dest,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """List the backups in DEST, oldest first, and the moments that can be restored. `verify` proves them."""
    with told():
        opened = backups.repository(options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region))
        every = opened.generations()
        covered = {one.name: coverage_of(opened, one) for one in every if _was_followed(one)}
    if as_json:
        print_page([summary_of(one) | _covered_page(covered.get(one.name)) for one in every])
        return
    if not every:
        console().print("No backups yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("backup", "status", "source", "engine", "keys", "size", "took"):
        table.add_column(column, justify="right" if column in ("keys", "size", "took") else "left", no_wrap=True)
    for one in every:
        told_of = summary_of(one)
        table.add_row(
            one.name,
            f"[{_COLOURS[one.status]}]{one.status.value}[/]",
            told_of["source"] or "-",
            told_of["engine"] or "-",
            "-" if told_of["keys"] is None else f"{told_of['keys']:,}",
            in_bytes(told_of["bytes"]),
            "-" if told_of["seconds"] is None else f"{told_of['seconds']:.1f} s",
        )
    out = console()
    out.print(table)
    for coverage in covered.values():
        out.print(f"{coverage.generation.name} {_covered_line(coverage)}", markup=False, soft_wrap=True)


def show(
    dest: options.Dest,
    wanted: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Beginning of its name; default: the newest.")
    ] = None,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Show one backup: source, databases, gaps, interruptions, skipped keys; the moments that can be restored."""
    with told():
        opened = backups.repository(options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region))
        one = backups.generation(opened, wanted, tuple(Status))
        lines = _log_of(opened, one)
        covered = coverage_of(opened, one) if _was_followed(one) else None
    if as_json:
        page = summary_of(one) | {"head": one.head, "end": one.end, "problems": one.problems, "log": lines}
        print_page(page | _covered_page(covered))
        return
    _show(one, lines, covered)


def summary_of(one: Generation) -> dict[str, Any]:
    """What `list` tells of a backup, as JSON has it. Sizes of what is there, keys of what end.json says."""
    head, end = one.head, one.end
    seconds = None if not (head and end) else round((end.ended_ms - head.began_ms) / 1000, 3)
    keys = None
    if end:
        # An RDB file is not counted; then it is what INFO told.
        in_rdb = any(total.kind == "rdb" for total in end.totals)
        if not in_rdb:
            keys = sum(total.records for total in end.totals if total.kind == "base")
        elif head:
            keys = sum(head.databases.values())
    return {
        "name": one.name,
        "status": one.status.value,
        "source": head.source if head else None,
        "engine": f"{head.engine} {head.engine_version}" if head else None,
        "mode": head.mode if head else None,
        "method": head.options.get("method") if head else None,
        "began": _moment(head.began_ms) if head else None,
        "seconds": seconds,
        "keys": keys,
        "bytes": sum(one.objects.segments.values()),
        "sealed": bool(head and head.sealing),
        "gaps": [gap.reason for gap in end.gaps] if end else [],
    }


def _was_followed(one: Generation) -> bool:
    return bool(one.head and one.head.options.get("follow"))


def _covered_page(covered: Coverage | None) -> dict[str, Any]:
    """Moments as text are by this machine's clock; in ms by the source's."""
    if covered is None:
        return {}
    return {
        "follow": covered.method,
        "limits": _limits_of(covered.generation),
        "clock_ahead_ms": covered.skew_ms,
        "covered": [_span(covered, one.since_ms, one.until_ms) for one in covered.stretches],
        "uncovered": [
            _span(covered, gap.start_ms, gap.end_ms) | {"reason": gap.reason, "lane": gap.lane} for gap in covered.gaps
        ],
        "latest": None if covered.latest_ms is None else covered.ours(covered.latest_ms),
    }


def _span(covered: Coverage, since_ms: int, until_ms: int | None) -> dict[str, Any]:
    until = None if until_ms is None else covered.ours(until_ms)
    return {"since": covered.ours(since_ms), "until": until, "since_ms": since_ms, "until_ms": until_ms}


def _covered_line(covered: Coverage) -> str:
    """`followed by tracking, covers A to B in 2 parts, 1 gap`."""
    if not covered.stretches:
        return f"is followed by {covered.method}, and covers no moment yet"
    count, gaps = len(covered.stretches), len(covered.gaps)
    first, last = covered.ours(covered.stretches[0].since_ms), covered.ours(covered.stretches[-1].until_ms)
    parts = f"{count:,} moments of" if covered.method == "poll" else f"{count:,} parts of" if count > 1 else ""
    what = " ".join(filter(None, ("covers", parts, f"{first} to {last}")))
    return f"is followed by {covered.method}, {what}, {gaps:,} {'gap' if gaps == 1 else 'gaps'}"


def _show_covered(covered: Coverage) -> None:
    out = console()
    out.print(f"  {'follow':<8} {covered.method}", markup=False)
    for limit in _limits_of(covered.generation):
        out.print(f"  {'limit':<8} {limit}", markup=False, soft_wrap=True)
    if sentence := skew_told(covered.generation.head):
        out.print(f"  {'clock':<8} {sentence}", style="yellow", markup=False, soft_wrap=True)
    for stretch in covered.stretches[-_SHOWN_STRETCHES:]:
        since, until = covered.ours(stretch.since_ms), covered.ours(stretch.until_ms)
        out.print(f"  {'covers':<8} {since if since == until else f'{since} to {until}'}", markup=False)
    if (more := len(covered.stretches) - _SHOWN_STRETCHES) > 0:
        out.print(f"  {'covers':<8} and {more:,} stretches before; --json has them")
    for gap in covered.gaps[-_SHOWN_STRETCHES:]:
        end = "now" if gap.end_ms is None else covered.ours(gap.end_ms)
        lane = f" ({gap.lane})" if gap.lane else ""
        text = f"  {'gap':<8} {covered.ours(gap.start_ms)} to {end}: {gap.reason}{lane}"
        out.print(text, style="red", markup=False, soft_wrap=True)
    if (more := len(covered.gaps) - _SHOWN_STRETCHES) > 0:
        out.print(f"  {'gap':<8} and {more:,} gaps before; --json has them", style="red")
    latest = "no moment can be restored yet" if covered.latest_ms is None else covered.ours(covered.latest_ms)
    out.print(f"  {'latest':<8} {latest}", markup=False)


def _limits_of(one: Generation) -> list[str]:
    return list(one.head.options.get("limits", ())) if one.head else []


def _show(one: Generation, lines: list[dict[str, Any]], covered: Coverage | None) -> None:
    out, told_of, head, end = console(), summary_of(one), one.head, one.end
    out.print(f"[bold]{one.name}[/bold]  [{_COLOURS[one.status]}]{one.status.value}[/]")
    for name in ("source", "engine", "mode", "method", "began", "seconds", "keys"):
        if told_of[name] is not None:
            value = f"{told_of[name]:,}" if isinstance(told_of[name], int) else told_of[name]
            out.print(f"  {name:<8} {value}", markup=False, soft_wrap=True)
    out.print(f"  {'size':<8} {in_bytes(told_of['bytes'])}{', sealed' if told_of['sealed'] else ''}")
    if covered:
        _show_covered(covered)
        lines = [line for line in lines if line.get("event") != "gap"]
    for lane in head.lanes if head else ():
        out.print(f"  {'node':<8} {lane.lane}", markup=False)
    for total in end.totals if end else ():
        where = "" if total.db is None else f"db{total.db} "
        out.print(f"  {total.kind:<8} {where}{total.records:,} records, {in_bytes(total.bytes)}", markup=False)
    if end and end.vanished:
        out.print(f"  {'vanished':<8} {end.vanished:,} keys were gone when they were to be read")
    for reason, keys in (end.skipped if end else {}).items():
        out.print(f"  {'skipped':<8} {keys:,} keys: {reason}", markup=False, soft_wrap=True)
    for gap in end.gaps if end and not covered else ():
        lane_ = f" ({gap.lane})" if gap.lane else ""
        out.print(f"  gap      {gap.reason}{lane_}", style="red", markup=False, soft_wrap=True)
    for problem in one.problems:
        out.print(f"  damaged  {problem}", style="red", markup=False, soft_wrap=True)
    for line in lines[:_SHOWN_LOG_LINES]:
        out.print(f"  log      {_sentence(line)}", markup=False, soft_wrap=True)
    if len(lines) > _SHOWN_LOG_LINES:
        out.print(f"  log      and {len(lines) - _SHOWN_LOG_LINES:,} lines more; --json has them")


def _log_of(opened: Repository, one: Generation) -> list[dict[str, Any]]:
    damages: list[str] = []
    reader = GenerationReader.open(opened, one.name, unfinished=True, on_damage=lambda it: damages.append(str(it)))
    return list(reader.log_lines())


def _sentence(line: dict[str, Any]) -> str:
    """`2026-11-23T00:00:00Z to ...: interruption, why`; what else a line has behind it."""
    rest = dict(line)
    moments = [_moment(rest.pop(name)) for name in ("start_ms", "end_ms") if rest.get(name)]
    event = rest.pop("event", "note")
    reason = rest.pop("reason", "")
    others = ", ".join(f"{name} {value}" for name, value in rest.items() if value is not None)
    return " ".join(filter(None, (" to ".join(moments), f"{event}:", others, reason)))


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
