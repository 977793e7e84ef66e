"""`cachekeep backup doctor`: what an endpoint allows, how it would be copied, and how it would be followed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cachekeep import backups
from cachekeep.backup.copy import CopyOptions, choose
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.words import counted
from cachekeep.cli.console import console, in_bytes
from cachekeep.domain.remote import RemoteError, RemoteFault, ScratchEngines
from cachekeep.follow.choose import Rung, ladder
from cachekeep.follow.choose import choose as choose_follow
from cachekeep.follow.types import Choice, FollowOptions

_WITHOUT = {
    Ability.DUMP: "no copy by SCAN is possible",
    Ability.RESTORE: "nothing can be restored to it",
    Ability.PEXPIRETIME: "expiry is read by a script, or about right",
    Ability.SCRIPTS: "sizes are asked key by key; before 7.0 expiry is about right",
    Ability.PSYNC: "a copy takes SCAN",
    Ability.NO_TOUCH: "a copy makes every key look used, which matters to LRU and LFU eviction",
    Ability.NO_EVICT: "maxmemory-clients may cut a copy off",
    Ability.WATCH: "big keys are read at once, which stalls the server",
    Ability.FUNCTIONS: "functions are missing from a copy by SCAN",
    Ability.OBJECT: "big keys are told by MEMORY USAGE alone",
    Ability.MEMORY: "big keys are told by their number of elements alone",
    Ability.TIME: "times of capture are by this machine's clock",
}


def doctor(
    source: options.Source,
    user: options.User = None,
    password_file: options.PasswordFile = None,
    ca: options.Ca = None,
    cert: options.Cert = None,
    cert_key: options.CertKey = None,
    insecure: options.Insecure = False,
    timeout_s: options.TimeoutS = 30.0,
    as_json: options.Json = False,
) -> None:
    """Say what SOURCE is and allows, how it would be copied and followed, and why. Reads and writes no key."""
    with told():
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        found, scratch = options.endpoint_of("SOURCE", source, timeout_s, access), backups.scratch()
        seen = found.survey
        method, why = choose(seen, CopyOptions(), scratch)
        rungs = ladder(found.remote, seen, scratch)
        chosen = _chosen(found, scratch)
        limits = _limits(found, scratch, rungs, chosen)
    if as_json:
        print_page({"survey": seen, "method": method, "why": why, "follow": _page(rungs, chosen, limits)})
        return
    out = console()
    _show(out, seen, method, why)
    _show_follow(out, rungs, chosen, limits)


def _chosen(found: backups.Endpoint, scratch: ScratchEngines) -> Choice | str:
    """How it would be followed, or a sentence why it cannot be. Raises RemoteError when the source went away."""
    try:
        return choose_follow(found.remote, found.survey, FollowOptions(), scratch)
    except RemoteError as error:
        if error.fault is not RemoteFault.DENIED:
            raise
        return error.what


def _limits(
    found: backups.Endpoint, scratch: ScratchEngines, rungs: list[Rung], chosen: Choice | str
) -> dict[str, tuple[str, ...]]:
    """What each possible method does not see, the one that is taken first. Raises RemoteError."""
    limits: dict[str, tuple[str, ...]] = {}
    if not isinstance(chosen, str):
        limits[chosen.method] = chosen.limits
    for rung in rungs:
        if rung.reason is None and rung.method not in limits:
            asked = FollowOptions(source=rung.method)
            limits[rung.method] = choose_follow(found.remote, found.survey, asked, scratch).limits
    return limits


def _possible(rung: Rung) -> str:
    if rung.reason is not None:
        return "no"
    return "yes" if rung.certain else "unproved"


def _page(rungs: list[Rung], chosen: Choice | str, limits: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    ladder_of = [
        {
            "method": rung.method,
            "possible": _possible(rung),
            "reason": rung.reason,
            "limits": limits.get(rung.method, ()),
        }
        for rung in rungs
    ]
    if isinstance(chosen, str):
        return {"ladder": ladder_of, "method": None, "why": chosen, "limits": []}
    return {"ladder": ladder_of, "method": chosen.method, "why": chosen.why, "limits": chosen.limits}


def _show_follow(out: Console, rungs: list[Rung], chosen: Choice | str, limits: dict[str, tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run --follow by", "possible", "why not"):
        table.add_column(column)
    for rung in rungs:
        possible, why_not = _possible(rung), rung.reason or ""
        if possible == "unproved":
            why_not = "whether every change is announced is proved by passes over all keys only"
        table.add_row(rung.method, Text(possible, style="green" if possible == "yes" else "yellow"), Text(why_not))
    out.print()
    out.print(table)
    if isinstance(chosen, str):
        out.print(chosen, style="yellow", markup=False, soft_wrap=True)
        return
    out.print(Text.assemble("--follow takes ", (chosen.method, "bold"), f": {chosen.why}"), soft_wrap=True)
    if {"tracking", "keyspace"} & set(limits):
        out.print("guard takes tracking first, then keyspace: these tell which keys clients write after an upgrade")
    for method, sentences in limits.items():
        for limit in sentences:
            out.print(f"  limit of {method}: {limit}", markup=False, soft_wrap=True)


def _show(out: Console, seen: Survey, method: str, why: str) -> None:
    out.print(f"[bold]{seen.name}[/bold]  {seen.server}, {seen.mode}, {seen.role}", soft_wrap=True)
    sizes = ", ".join(f"db{number} {size.keys:,}" for number, size in sorted(seen.databases.items())) or "no keys"
    out.print(f"  {counted(seen.keys, 'key')} ({sizes}), {in_bytes(seen.used_bytes)}", soft_wrap=True)
    if seen.mode == "cluster":
        for node in seen.nodes:
            slots = sum(last - first + 1 for first, last in node.slots)
            out.print(f"  primary {node.lane} with {counted(slots, 'slot')}")
    if abs(seen.clock_ahead_ms) > 1000:
        out.print(f"  its clock is {seen.clock_ahead_ms / 1000:+.1f} s from this machine's", style="yellow")
    if seen.modules:
        out.print(f"  modules: {', '.join(seen.modules)}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("command", "allowed", "what that means"):
        table.add_column(column)
    for ability in Ability:
        reason = seen.denied.get(ability)
        meaning = "" if reason is None else f"{_WITHOUT[ability]} ({reason})"
        table.add_row(ability.value, "[green]yes[/]" if reason is None else "[yellow]no[/]", meaning)
    out.print(table)
    out.print(f"A copy takes [bold]{method}[/bold]: {why}", soft_wrap=True)
