"""`cachekeep watch`: endpoints that are not ours and that are only measured, an AWS cache for one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cachekeep.cli import options
from cachekeep.cli.connect import connect
from cachekeep.cli.console import in_bytes, print_lines
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.codec.target_url import TargetUrlError, parse_target_url

PASSWORD_VARIABLE = "CACHEKEEP_WATCH_PASSWORD"  # noqa: S105  # its name, not itself
_WAYS = f"pipe it in with --password-stdin, or set {PASSWORD_VARIABLE}"
_LONGEST = 1024

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Stands as ReplicationGroupId and CacheClusterId.")]


@app.callback(invoke_without_command=True)
def watch(
    context: typer.Context,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Measure caches that Cachekeep does not run, read-only. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_targets(state_dir, region, as_json)


@app.command("list")
def list_targets(
    state_dir: options.StateDir = None, region: options.Region = None, as_json: options.Json = False
) -> None:
    """List watched endpoints with engine, nodes, memory, and what is wrong."""
    page = connect(state_dir, region).page("watch", "list what is watched")
    if as_json:
        typer.echo(json.dumps(page))
        return
    print_lines(lines_of(page))


@app.command()
def add(
    name: Name,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="redis://, rediss://, valkey(s)://, memcached(s)://HOST:PORT")
    ],
    node_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Such as cache.r7g.large, for cost and right-sizing.")
    ] = None,
    username: Annotated[str | None, typer.Option(metavar="USER", help="Who logs in; the default user.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help=f"Read the password from stdin. [dim]{PASSWORD_VARIABLE}[/dim]")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Whom a certificate must be signed by; the system's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Add it even though it does not answer.")] = False,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Watch an endpoint and all nodes behind it. Added again with the same URL: with a new user or password."""
    refuse_password_in(url)
    wish = {
        "action": "add",
        "name": name,
        "url": url,
        "node_type": node_type,
        "username": username,
        "password": password(from_stdin=password_stdin),
        "ca_file": str(ca_file.expanduser().absolute()) if ca_file else None,
        "force": force,
    }
    page = connect(state_dir, region).change("watch", wish, f"watch {name[:60]}")
    if as_json:
        typer.echo(json.dumps(page))
        return
    print_lines(added_lines(page))


@app.command()
def remove(
    name: Name,
    state_dir: options.StateDir = None,
    region: options.Region = None,
) -> None:
    """Watch an endpoint no longer. What was measured stays until it is too old."""
    page = connect(state_dir, region).change("watch", {"action": "remove", "name": name}, f"remove {name[:60]}")
    print_lines([f"{page['removed']} is not watched any more"])


def refuse_password_in(url: str) -> None:
    """An argv can be read by every user of the machine. Raises Refused, which never shows the URL."""
    try:
        parse_target_url(url)
    except TargetUrlError as error:
        raise Refused(f"{error}: {_WAYS}" if "password" in str(error) else str(error), MISUSE) from None


def password(*, from_stdin: bool) -> str:
    """ "" for none. Raises Refused."""
    if not from_stdin:
        return os.environ.get(PASSWORD_VARIABLE, "")
    text = sys.stdin.readline(_LONGEST + 2).rstrip("\r\n")
    if not text or len(text) > _LONGEST:
        raise Refused(f"stdin holds no password of 1 to {_LONGEST} characters in its first line", MISUSE)
    return text


def lines_of(page: dict[str, Any]) -> list[str]:
    lines = []
    for target in page["targets"]:
        lines.append(f"{target['id']}  {_what(target)}")
        lines += [f"  {line}" for line in _troubles(target)]
        lines += [f"  {_node(node)}" for node in target["nodes"]]
    return lines or ["Nothing is watched yet; `cachekeep watch add NAME URL` begins with one"]


def added_lines(page: dict[str, Any]) -> list[str]:
    target = page["target"]
    if page["problem"] is not None:
        return [f"{target['id']} was added, but does not answer: {page['problem']}"]
    count = len(target["nodes"])
    nodes = "1 node" if count == 1 else f"{count} nodes"
    told = [f"  note: {target['note']}"] if target["note"] else []
    return [f"Watching {target['id']}: {target['engine']} {target['version']}, {nodes}; metrics within a minute", *told]


def _what(target: dict[str, Any]) -> str:
    engine = f"{target['engine']} {target['version']}" if target["engine"] else "engine not known yet"
    memory = ""
    if target["used_memory"] is not None:
        limit = f" of {in_bytes(target['maxmemory'])}" if target["maxmemory"] else ""
        memory = in_bytes(target["used_memory"]) + limit
    words = [target["url"], engine, target["role"] or "", target["node_type"] or "", memory]
    return "  ".join(word for word in words if word)


def _troubles(target: dict[str, Any]) -> list[str]:
    return [f"{word}: {target[word]}" for word in ("trouble", "note") if target[word]]


def _node(node: dict[str, Any]) -> str:
    shard = f"shard {node['shard']}" if node["shard"] else ""
    words = [f"{node['id']}/{node['node_id']}", node["address"], shard, node["role"] or "", node["status"]]
    return "  ".join(word for word in [*words, in_bytes(node["used_memory"])] if word and word != "-")
