"""`cachekeep backup list` and `show`: what there is, what is in one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cachekeep import backups
from cachekeep.backup.catalog import Generation, Repository, Status
from cachekeep.backup.catalog_objects import DamagedObjectError
from cachekeep.backup.coverage import longest_between
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.lease import is_alive, moment_ms
from cachekeep.backup.moments import Coverage, coverage_of, skew_told
from cachekeep.backup.reader import GenerationReader, read_log
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.words import counted, in_duration, lane_of, where
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
_BY_THE_SOURCE = ("gap", "gap-open", "doubt")
# A run gives a sign every minute at least, while its source and its store answer.
_SILENT_MS = 120_000
_SLACK_MS = 1000  # between the clocks of the source and of this machine, after their difference is taken off


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
        captures = {name: _capture_of(opened, one) for name, one in covered.items()}
    if as_json:
        print_page([summary_of(one) | _covered_page(covered.get(one.name), captures.get(one.name)) for one in every])
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
        capture = captures[coverage.generation.name]
        state = f"; {capture['text']}" if capture else ""
        out.print(f"{coverage.generation.name} {_covered_line(coverage)}{state}", markup=False, soft_wrap=True)


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
        capture = _capture_of(opened, covered) if covered else None
    if as_json:
        page = summary_of(one) | {"head": one.head, "end": one.end, "problems": one.problems, "log": lines}
        print_page(page | _covered_page(covered, capture))
        return
    _show(one, lines, covered, capture)


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


def _capture_of(opened: Repository, covered: Coverage) -> dict[str, Any] | None:
    """Whether a run writes it: state, sentence, and the last sign of that run; None once it is finished.

    Nobody can tell a run that waits for its source or its store from a dead one: see backup.lease. Raises BlobError.
    """
    one = covered.generation
    if one.status is not Status.OPEN:
        return None
    now, (sign_ms, sealed) = now_ms(), _last_sign(opened, covered)
    if sealed:
        return {"state": "sealed", "text": "stopped, sealed", "last_sign": None}
    ago = f"(last sign {in_duration(max(0, now - sign_ms) / 1000)} ago)"
    if now - sign_ms <= _SILENT_MS:
        state, text = "following", f"being followed {ago}"
    elif is_alive(one, sign_ms, now):
        state, text = "silent", f"stopped without sealing, or waiting for its source or its store {ago}"
    else:
        state, text = "lost", f"stopped without sealing {ago}"
    return {"state": state, "text": text, "last_sign": _moment(sign_ms)}


def _last_sign(opened: Repository, covered: Coverage) -> tuple[int, bool]:
    """When it was written to last, by this machine's clock, and whether that was the line of an orderly end."""
    one, lines = covered.generation, list[dict[str, Any]]()
    if one.objects.logs:
        try:
            lines = read_log(opened, one.name, max(one.objects.logs))
        except DamagedObjectError:  # `verify` names it; the entries tell as well
            lines = []
    moments = [ms for entry in covered.entries for ms in (entry.last_ms, entry.covers and entry.covers[1]) if ms]
    entry_ms = max(moments, default=0) - covered.skew_ms
    logged_ms = max((int(line["at_ms"]) for line in lines if isinstance(line.get("at_ms"), int)), default=0)
    sealed = bool(lines) and lines[-1].get("event") == "sealed" and entry_ms <= logged_ms + _SLACK_MS
    return max(moment_ms(one.name), entry_ms, logged_ms), sealed


def _covered_page(covered: Coverage | None, capture: dict[str, Any] | None) -> dict[str, Any]:
    """Moments as text are by this machine's clock; in ms by the source's."""
    if covered is None:
        return {}
    return {
        "follow": covered.method,
        "capture": capture,
        "limits": _limits_of(covered.generation),
        "clock_ahead_ms": covered.skew_ms,
        "covered": [_span(covered, one.since_ms, one.until_ms) for one in covered.stretches],
        "uncovered": [
            _span(covered, gap.start_ms, gap.end_ms) | {"reason": gap.reason, "lane": gap.lane} for gap in covered.gaps
        ],
        "latest": None if covered.latest_ms is None else covered.ours(covered.latest_ms),
        "recovery_point_ms": _recovery_ms(covered),
    }


def _recovery_ms(covered: Coverage) -> int | None:
    """What a restore may lose, of a source that is polled."""
    return longest_between(covered.stretches) if covered.method == "poll" else None


def _span(covered: Coverage, since_ms: int, until_ms: int | None) -> dict[str, Any]:
    until = None if until_ms is None else covered.ours(until_ms)
    return {"since": covered.ours(since_ms), "until": until, "since_ms": since_ms, "until_ms": until_ms}


def _covered_line(covered: Coverage) -> str:
    """`by tracking covers 2 parts of A to B, 1 gap`."""
    if not covered.stretches:
        return f"by {covered.method} covers no moment yet"
    count, gaps = len(covered.stretches), len(covered.gaps)
    first, last = covered.ours(covered.stretches[0].since_ms), covered.ours(covered.stretches[-1].until_ms)
    parts = f"{counted(count, 'moment')} of" if covered.method == "poll" else f"{count:,} parts of" if count > 1 else ""
    what = " ".join(filter(None, ("covers", parts, f"{first} to {last}")))
    return f"by {covered.method} {what}, {counted(gaps, 'gap') if gaps else 'no gaps'}"


def _show_covered(covered: Coverage, capture: dict[str, Any] | None) -> None:
    out = console()
    state = f", {capture['text']}" if capture else ""
    out.print(f"  {'follow':<8} {covered.method}{state}", markup=False, soft_wrap=True)
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
        text = f"  {'gap':<8} {covered.ours(gap.start_ms)} to {end}: {gap.reason}{where(gap.lane)}"
        out.print(text, style="red", markup=False, soft_wrap=True)
    if (more := len(covered.gaps) - _SHOWN_STRETCHES) > 0:
        out.print(f"  {'gap':<8} and {more:,} gaps before; --json has them", style="red")
    if not covered.gaps:
        out.print(f"  {'gaps':<8} no gaps")
    if (longest_ms := _recovery_ms(covered)) is not None:
        longest = in_duration(-(-longest_ms // 1000))
        out.print(f"  recovery point: at most {longest}, the longest time between two of the last moments")
    if numbers := [entry.number for entry in covered.entries if entry.covers]:
        spread = f"#{numbers[0]} to #{numbers[-1]} each end" if len(numbers) > 1 else f"#{numbers[0]} ends"
        out.print(f"  {'segments':<8} {spread} at a moment: --at '#{numbers[-1]}'", markup=False)
    latest = "no moment can be restored yet" if covered.latest_ms is None else covered.ours(covered.latest_ms)
    out.print(f"  {'latest':<8} {latest}", markup=False)


def _limits_of(one: Generation) -> list[str]:
    return list(one.head.options.get("limits", ())) if one.head else []


def _show(
    one: Generation, lines: list[dict[str, Any]], covered: Coverage | None, capture: dict[str, Any] | None
) -> None:
    out, told_of, head, end = console(), summary_of(one), one.head, one.end
    out.print(f"[bold]{one.name}[/bold]  [{_COLOURS[one.status]}]{one.status.value}[/]")
    for name in ("source", "engine", "mode", "method", "began", "seconds", "keys"):
        if told_of[name] is not None:
            value = f"{told_of[name]:,}" if isinstance(told_of[name], int) else told_of[name]
            out.print(f"  {name:<8} {value}", markup=False, soft_wrap=True)
    out.print(f"  {'size':<8} {in_bytes(told_of['bytes'])}{', sealed' if told_of['sealed'] else ''}")
    if covered:
        _show_covered(covered, capture)
        lines = [line for line in lines if line.get("event") != "gap"]
    for lane in head.lanes if head else ():
        if lane_of(lane.lane) is None:
            continue
        out.print(f"  {'node':<8} {lane.lane}", markup=False)
    for total in end.totals if end else ():
        db = "" if total.db is None else f"db{total.db} "
        out.print(f"  {total.kind:<8} {db}{counted(total.records, 'record')}, {in_bytes(total.bytes)}", markup=False)
    if end and end.vanished:
        out.print(f"  {'vanished':<8} {counted(end.vanished, 'key was', 'keys were')} gone when to be read")
    for reason, keys in (end.skipped if end else {}).items():
        out.print(f"  {'skipped':<8} {counted(keys, 'key')}: {reason}", markup=False, soft_wrap=True)
    for gap in end.gaps if end and not covered else ():
        out.print(f"  gap      {gap.reason}{where(gap.lane)}", style="red", markup=False, soft_wrap=True)
    for problem in one.problems:
        out.print(f"  damaged  {problem}", style="red", markup=False, soft_wrap=True)
    for line in lines[:_SHOWN_LOG_LINES]:
        out.print(f"  log      {_sentence(line, covered)}", markup=False, soft_wrap=True)
    if len(lines) > _SHOWN_LOG_LINES:
        out.print(f"  log      and {counted(len(lines) - _SHOWN_LOG_LINES, 'line')} more; --json has them")


def _log_of(opened: Repository, one: Generation) -> list[dict[str, Any]]:
    damages: list[str] = []
    reader = GenerationReader.open(opened, one.name, unfinished=True, on_damage=lambda it: damages.append(str(it)))
    return list(reader.log_lines())


def _sentence(line: dict[str, Any], covered: Coverage | None) -> str:
    """`interruption 2026-11-23T00:00:00Z to ...: why`; what else a line has behind it. By this machine's clock."""
    rest = dict(line)
    # These lines have the moments of what is captured.
    ahead_ms = covered.skew_ms if covered and rest.get("event") in _BY_THE_SOURCE else 0
    written_ms = rest.pop("at_ms", None)
    moments = [_moment(ms - ahead_ms) for name in ("start_ms", "end_ms") if isinstance(ms := rest.pop(name, None), int)]
    if not moments and isinstance(written_ms, int):
        moments = [_moment(written_ms)]
    event, reason = str(rest.pop("event", "note")), str(rest.pop("reason", None) or "")
    if lane := lane_of(rest.pop("lane", None)):
        rest["lane"] = lane
    others = [
        f"{name.removesuffix('_ms')} {_moment(value)}" if name.endswith("_ms") else f"{name} {value}"
        for name, value in rest.items()
        if value is not None
    ]
    said = ", ".join([*others, *([reason] if reason else [])])
    text = " ".join([event, " to ".join(moments)]).strip()
    return f"{text}: {said}" if said else text


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
