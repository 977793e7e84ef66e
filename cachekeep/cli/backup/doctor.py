"""`cachekeep backup doctor`: what an endpoint allows, and what a copy of it would do."""

from __future__ import annotations

from rich.table import Table

from cachekeep import backups
from cachekeep.backup.copy import CopyOptions, choose
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.console import console, in_bytes

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
    """Say what SOURCE is and allows, and how it would be copied and why. Reads and writes no key."""
    with told():
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        seen = options.endpoint_of("SOURCE", source, timeout_s, access).survey
        method, why = choose(seen, CopyOptions(), backups.scratch())
    if as_json:
        print_page({"survey": seen, "method": method, "why": why})
        return
    _show(seen, method, why)


def _show(seen: Survey, method: str, why: str) -> None:
    out = console()
    out.print(f"[bold]{seen.name}[/bold]  {seen.server}, {seen.mode}, {seen.role}", soft_wrap=True)
    sizes = ", ".join(f"db{number} {size.keys:,}" for number, size in sorted(seen.databases.items())) or "no keys"
    out.print(f"  {seen.keys:,} keys ({sizes}), {in_bytes(seen.used_bytes)}", soft_wrap=True)
    if seen.mode == "cluster":
        for node in seen.nodes:
            slots = sum(last - first + 1 for first, last in node.slots)
            out.print(f"  primary {node.lane} with {slots:,} slots")
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
