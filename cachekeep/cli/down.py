"""`cachekeep down`: service and engines end, the data stays (or goes, with --delete-data)."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cachekeep.cli import options
from cachekeep.cli.console import console
from cachekeep.cli.engines import NODES_FOLDER, STORE_FILE, access_of, primaries_of_record, running_nodes
from cachekeep.cli.refusal import Refused
from cachekeep.cli.service import LOCK_FILE, find_service, keep_out, stop_service
from cachekeep.cli.stopping import Stopped, stop_all
from cachekeep.host.local import LocalHost

# By one of these a state directory is known; by all of these patterns, what in it is ours to delete.
_SIGNS = (STORE_FILE, LOCK_FILE, NODES_FOLDER)
_OURS = (
    "store.sqlite*",
    "metrics.sqlite*",
    "service.*",
    "credentials",
    "credentials.partial",
    "metrics-token*",
    "engine-password*",
    "keys.*",
    "audit.log*",
    "audit-refused.log*",
    "ca",
    "agent",
    "modules",
    "logs",
    "log-positions*",
    "snapshots",
    "continuous",
    "restores",
    "prices.csv",
    "prices.*.partial",
    NODES_FOLDER,
)


def down(
    delete_data: Annotated[
        bool,
        typer.Option(
            "--delete-data", help="Save nothing, and delete all caches, snapshots, settings and keys for good."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Stop the service and every engine; the next `up` brings the keys back.

    Also cleans up after a service that was killed. An engine whose data cannot be saved runs on, and is named.
    Memcached keeps nothing, here as everywhere.
    """
    state = options.settings_from(state_dir=state_dir).state_dir
    out = console()
    if delete_data:
        _confirm(state, yes=yes)
    service = find_service(state)
    if service is not None:
        orderly = stop_service(service)
        out.print(f"Service stopped (pid {service.pid}){'' if orderly else ': it had to be killed'}")
    elif not (state / NODES_FOLDER).is_dir() and not delete_data:
        out.print(f"Nothing runs, and nothing was ever started with {state}", soft_wrap=True)
        return
    else:
        out.print("The service does not run")
    if not state.is_dir():
        return
    with keep_out(state):
        stopped = _stop_engines(state, out, save=not delete_data)
        _tell(out, stopped)
        if delete_data and not stopped.failures:
            _delete(state, out)
    if stopped.failures:
        raise Refused(f"{len(stopped.failures)} of the engines could not be stopped as asked (see above)", 1)


def _stop_engines(state: Path, out: Console, *, save: bool) -> Stopped:
    if not (state / NODES_FOLDER).is_dir():
        return Stopped()
    host = LocalHost(state / NODES_FOLDER)
    nodes = running_nodes(host, state)
    primaries = primaries_of_record(state) if save else {}
    return asyncio.run(
        stop_all(
            host,
            nodes,
            primaries,
            save=save,
            told=lambda text: out.print(text, style="dim"),
            access=access_of(state),
        )
    )


def _tell(out: Console, stopped: Stopped) -> None:
    count = len(stopped.saved) + len(stopped.plain)
    if not count and not stopped.failures:
        out.print("No engine runs")
        return
    saved = "; the data is saved, replicas will copy it from their primary" if stopped.saved else ""
    out.print(f"{count} {'process' if count == 1 else 'processes'} of nodes stopped{saved}")
    errors = console(stderr=True)
    for failure in stopped.failures:
        errors.print(f"cachekeep: {failure}", style="red", markup=False, soft_wrap=True)


def _confirm(state: Path, *, yes: bool) -> None:
    """Before anything is stopped: is this a state directory of ours, and is it meant?"""
    if not state.is_dir():
        raise Refused(f"{state} is no directory: nothing to delete")
    if not any((state / sign).exists() for sign in _SIGNS):
        raise Refused(f"{state} does not look like a state directory of Cachekeep: nothing is deleted there")
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("--delete-data asks first, and there is no terminal to ask on: add --yes")
    typer.confirm(f"Delete all caches, snapshots, settings and keys in {state}?", abort=True)


def _delete(state: Path, out: Console) -> None:
    """Only what we put there: a state directory may have been pointed at a folder that holds other things."""
    for pattern in _OURS:
        for path in state.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    left = sorted(path.name for path in state.iterdir())
    if left:
        out.print(f"Deleted what Cachekeep kept in {state}; not ours, and left: {', '.join(left)}", soft_wrap=True)
        return
    state.rmdir()
    out.print(f"Deleted {state}", soft_wrap=True)
