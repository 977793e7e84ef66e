"""`cachekeep audit`: who changed what, and who was refused; read from the files, whether or not the service runs."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cachekeep.access.trail_file import LOST, read_trail
from cachekeep.cli import options
from cachekeep.cli.console import print_lines
from cachekeep.cli.refusal import Refused

app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def audit(
    hours: Annotated[float | None, typer.Option(metavar="HOURS", min=0, help="Only of the last hours.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this user, or of this key id.")] = None,
    action: Annotated[str | None, typer.Option(metavar="TEXT", help="Only actions with this in their name.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="The newest N; 1000.")] = 1000,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Tell who changed what, when, from where, and who was refused; oldest first."""
    since = time.time() - hours * 3600 if hours is not None else 0.0
    newest: deque[dict[str, Any]] = deque(maxlen=limit)
    try:
        for page in read_trail(options.settings_from(state_dir=state_dir).state_dir):
            if _is_meant(page, since, user, action, refused):
                newest.append(page)
    except OSError as error:
        raise Refused(f"the audit log cannot be read: {error}") from error
    if as_json:
        for page in newest:
            typer.echo(json.dumps(page))
        return
    print_lines(line_of(page) for page in newest)


def _is_meant(page: Mapping[str, Any], since: float, user: str | None, action: str | None, refused: bool) -> bool:
    at = page.get("at")
    if not isinstance(at, int | float) or at < since:
        return False
    if user is not None and user not in (page.get("user"), page.get("key")):
        return False
    if action is not None and action.lower() not in str(page.get("action", "")).lower():
        return False
    return not refused or page.get("outcome", "ok") != "ok"


def line_of(page: Mapping[str, Any]) -> str:
    when = f"{datetime.fromtimestamp(page['at'], UTC):%Y-%m-%d %H:%M:%S}"
    if page.get("action") == LOST:
        return f"{when}  {page.get('count')} lines could not be written here"
    who = str(page.get("user") or page.get("key") or "unknown")
    where = str(page.get("source") or "-")
    resources = " ".join(str(name).removeprefix("arn:aws:elasticache:") for name in page.get("resources") or ())
    what = str(page.get("action") or "no good signature")
    return "  ".join(filter(None, [when, who, where, what, resources, str(page.get("outcome", ""))]))
