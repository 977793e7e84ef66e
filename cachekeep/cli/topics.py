"""`cachekeep topics`: whom alarms and events are told: webhooks, e-mail addresses, commands."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cachekeep.cli import options
from cachekeep.cli.connect import connect
from cachekeep.cli.console import print_lines
from cachekeep.cli.refusal import MISUSE, Refused

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The topic; its ARN stands in alarms and groups.")]


@app.callback(invoke_without_command=True)
def topics(
    context: typer.Context,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Whom alarms and ElastiCache events are told. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_topics(state_dir, region, as_json)


@app.command("list")
def list_topics(
    state_dir: options.StateDir = None, region: options.Region = None, as_json: options.Json = False
) -> None:
    """List topics with their ARNs and subscribers."""
    page = connect(state_dir, region).topics()
    if as_json:
        typer.echo(json.dumps(page))
        return
    print_lines(lines_of(page))


@app.command()
def add(
    name: Name,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="POST there, signed.")] = None,
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Mail there; needs smtp_url.")] = None,
    command: Annotated[str | None, typer.Option(metavar="PATH", help="Run it, JSON on its stdin.")] = None,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Subscribe one webhook, address or command to a topic, which is made if it is not there.

    Of a new webhook the signing secret is printed, this once.
    """
    channel, endpoint = subscriber(webhook, email, command)
    wish = {"action": "add", "name": name, "channel": channel, "endpoint": endpoint}
    page = connect(state_dir, region).change_topics(wish)
    if as_json:
        typer.echo(json.dumps(page))
        return
    print_lines(added_lines(page))


@app.command()
def remove(
    name: Name,
    subscription: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this subscription, not the whole topic.")
    ] = None,
    state_dir: options.StateDir = None,
    region: options.Region = None,
) -> None:
    """Remove a topic, or one of its subscriptions."""
    wish = {"action": "remove", "name": name} | ({"subscription": subscription} if subscription else {})
    page = connect(state_dir, region).change_topics(wish)
    print_lines([f"Removed {page['removed']}"])


@app.command("test")
def try_out(
    name: Name,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Send a test notification to every subscriber and tell what became of it. Exit code 1 when one failed."""
    page = connect(state_dir, region).change_topics({"action": "test", "name": name})
    if as_json:
        typer.echo(json.dumps(page))
    else:
        print_lines(result_lines(name, page))
    if any(result["problem"] is not None for result in page["results"]):
        raise typer.Exit(1)


def subscriber(webhook: str | None, email: str | None, command: str | None) -> tuple[str, str]:
    """Channel and endpoint. Raises Refused unless exactly one is given."""
    given = [(c, e) for c, e in (("webhook", webhook), ("email", email), ("command", command)) if e is not None]
    if len(given) != 1:
        raise Refused("say one of --webhook URL, --email ADDRESS, --command PATH", MISUSE)
    return given[0]


def lines_of(page: dict[str, Any]) -> list[str]:
    lines = []
    for topic in page["topics"]:
        lines.append(f"{topic['name']}  {topic['arn']}")
        lines += [f"  {s['id']}  {s['channel']}  {s['endpoint']}" for s in topic["subscriptions"]]
    return lines or ["There is no topic yet; `cachekeep topics add NAME --webhook URL` makes one"]


def added_lines(page: dict[str, Any]) -> list[str]:
    arn = page["topic"]["arn"]
    lines = [f"Subscribed {page['subscription']} to {arn}"]
    if "secret" in page:
        lines += [f"Signing secret, shown this once: {page['secret']}"]
    if "warning" in page:
        lines += [f"Warning: {page['warning']}"]
    return [*lines, f"Name it in an alarm (--alarm-actions {arn}) or a group (--notification-topic-arn {arn})"]


def result_lines(name: str, page: dict[str, Any]) -> list[str]:
    lines = [
        f"{r['channel']} {r['endpoint']}: {'delivered' if r['problem'] is None else r['problem']}"
        for r in page["results"]
    ]
    return lines or [f"Topic {name} has no subscribers"]
