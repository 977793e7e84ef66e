"""`cachekeep keys`: further access keys, what each may do, and how they are rotated. Works while the service is down.

A running service sees every change at its next request.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cachekeep import credentials
from cachekeep.access import key_changes, key_file
from cachekeep.access.key_file import Key, KeyFile, KeyFileError
from cachekeep.access.trail_file import TrailFile
from cachekeep.cli import options
from cachekeep.cli.console import print_lines
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.codec.policy_document import PolicyError, read_policy
from cachekeep.domain.identity import ROOT, TrailEntry

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user that the key stands for.")]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A policy in IAM's JSON; what it may say: docs/keys.md.")
]
Full = Annotated[bool, typer.Option("--full", help="May do everything.")]
_MOST_OVERLAP_H = 24 * 365.0


@app.callback(invoke_without_command=True)
def keys(context: typer.Context, state_dir: options.StateDir = None, as_json: options.Json = False) -> None:
    """Give others access keys, and say what each may do. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_keys(state_dir, as_json)


@app.command("list")
def list_keys(
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="With the secrets, which are not shown else.")] = False,
) -> None:
    """List users with the ids of their keys."""
    state, now = _state(state_dir), time.time()
    content = _read(state)
    rows = [_row(user.name, key, user.policy is not None, now) for user in content.users for key in user.keys]
    own = credentials.load(state)
    root = [Key(own.id, own.secret, 0.0), *content.former_root]
    rows = [*(_row(ROOT, key, False, now) for key in root), *rows]
    shown = {key.id: key.secret for key in (*root, *content.all_keys())} if secrets else {}
    page = [row | ({"secret": shown[str(row["key"])]} if secrets else {}) for row in rows]
    if as_json:
        typer.echo(json.dumps({"keys": page}))
        return
    print_lines(_line(row) for row in page)


@app.command()
def add(
    name: Name,
    policy: PolicyFile = None,
    full: Full = False,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Make a user with a key, and print both parts of it, this once."""
    document, made, now = _document(policy, full), credentials.new_key(), time.time()
    key = Key(made.id, made.secret, now)
    _change(_state(state_dir), "AddKey", name, lambda content: key_changes.add(content, name, key, document))
    _tell(name, key, as_json)


@app.command()
def rotate(
    name: Name,
    overlap: Annotated[
        float, typer.Option(metavar="HOURS", help="For how long the old key is good beside the new one; 24.")
    ] = 24.0,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Make a new key for a user, or for `root`, and print it; the old one ends after the overlap."""
    if not 0 <= overlap <= _MOST_OVERLAP_H:
        raise Refused(f"--overlap must be between 0 and {_MOST_OVERLAP_H:g} hours", MISUSE)
    state, made, now = _state(state_dir), credentials.new_key(), time.time()
    key, until = Key(made.id, made.secret, now), now + overlap * 3600
    if name == ROOT:
        own = credentials.load(state)
        # First the old one is good as a former one, then the new one takes its place: at no moment is there none.
        old = Key(own.id, own.secret, now, until)
        _change(state, "RotateKey", name, lambda content: key_changes.retire_root(content, old))
        credentials.write_key(state, made)
    else:
        _change(state, "RotateKey", name, lambda content: key_changes.rotate(content, name, key, until))
    _tell(name, key, as_json)


@app.command()
def remove(
    name: Name,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only this key, not the whole user.")] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Remove a user with its keys, or one key; no request is let in with them any more."""
    _change(_state(state_dir), "RemoveKey", name, lambda content: key_changes.remove(content, name, key))
    print_lines([f"Removed {key or name}"])


@app.command()
def policy(
    name: Name,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The new policy; without it, print it.")] = None,
    full: Full = False,
    state_dir: options.StateDir = None,
) -> None:
    """Print the policy of a user, or set another."""
    state = _state(state_dir)
    if file is None and not full:
        found = _found(_read(state), name)
        print_lines(found.splitlines() if found is not None else [f"{name} may do everything"])
        return
    document = _document(file, full)
    _change(state, "SetPolicy", name, lambda content: key_changes.set_policy(content, name, document))
    print_lines([f"{name} may do {'everything' if document is None else 'what the policy allows'}"])


def _state(state_dir: str | None) -> Path:
    return options.settings_from(state_dir=state_dir).state_dir


def _read(state: Path) -> KeyFile:
    try:
        return key_file.read(state / key_file.FILE_NAME)
    except KeyFileError as error:
        raise Refused(str(error)) from error


def _found(content: KeyFile, name: str) -> str | None:
    try:
        return key_changes.find(content, name).policy
    except KeyFileError as error:
        raise Refused(str(error)) from error


def _document(file: Path | None, full: bool) -> str | None:
    """The text of the policy, checked; None for everything. Raises Refused."""
    if (file is None) != full:
        raise Refused("say what it may do: --policy FILE, or --full for everything", MISUSE)
    if file is None:
        return None
    try:
        text = file.read_text("utf-8")
        read_policy(text)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} cannot be read: {error}") from error
    except PolicyError as error:
        raise Refused(f"{file}: {error}") from error
    return text


def _change(state: Path, action: str, name: str, changed: Callable[[KeyFile], KeyFile]) -> None:
    """Under the lock, whole or not at all; written down where requests are. Raises Refused."""
    path = state / key_file.FILE_NAME
    try:
        with key_file.locked(state):
            key_file.write(path, changed(key_file.read(path)))
    except KeyFileError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}; the keys are as they were", 1) from error
    entry = TrailEntry(time.time(), str(uuid.uuid4()), "", "owner", "", "", f"cachekeep:{action}", (name,))
    trail = TrailFile(state, most_bytes=1 << 62)  # turning the files over is the service's
    trail.write(entry)
    trail.close()


def _row(name: str, key: Key, limited: bool, now: float) -> dict[str, object]:
    return {"name": name, "key": key.id, "limited": limited, "until": key.until, "good": key.is_good(now)}


def _line(row: Mapping[str, object]) -> str:
    until = row["until"]
    end = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC" if isinstance(until, float) else ""
    state = f"good until {end}" if end and row["good"] else f"ended {end}" if end else ""
    may = "by its policy" if row["limited"] else "everything"
    return "  ".join(filter(None, [str(row["name"]), str(row["key"]), may, state, str(row.get("secret", ""))]))


def _tell(name: str, key: Key, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "key": key.id, "secret": key.secret}))
        return
    print_lines([f"[{name}]", f"aws_access_key_id = {key.id}", f"aws_secret_access_key = {key.secret}"])
