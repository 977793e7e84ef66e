"""The options that are settings, each defined once. Secrets are no options: every user can read an argv.

All are text here and None when not given: `settings.load` reads them, and says what is wrong in one sentence,
in the same words whether a value came from an option, the environment or the file.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cachekeep.settings import ENVIRONMENT, Settings, load

SETTINGS = "Settings (option, then environment, then the TOML file that CACHEKEEP_CONFIG names)"


def _help(name: str, text: str) -> str:
    return f"{text} [dim]{ENVIRONMENT[name]}[/dim]"


StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="PATH",
        help=_help("state_dir", "Everything that Cachekeep keeps; ~/.local/state/cachekeep."),
        rich_help_panel=SETTINGS,
    ),
]
Port = Annotated[
    str | None,
    typer.Option(
        "--port", metavar="N", help=_help("port", "TCP port of the API on 127.0.0.1; 8600."), rich_help_panel=SETTINGS
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="NAME",
        help=_help("region", "The region to work in; us-east-1."),
        rich_help_panel=SETTINGS,
    ),
]
AccountId = Annotated[
    str | None,
    typer.Option(
        "--account-id",
        metavar="DIGITS",
        help=_help("account_id", "AWS account id in ARNs, 12 digits; 000000000000."),
        rich_help_panel=SETTINGS,
    ),
]
AddressRange = Annotated[
    str | None,
    typer.Option(
        "--address-range",
        metavar="CIDR",
        help=_help("address_range", "Loopback network for nodes and endpoints; 127.64.0.0/16."),
        rich_help_panel=SETTINGS,
    ),
]
Overcommit = Annotated[
    str | None,
    typer.Option(
        "--overcommit",
        metavar="FACTOR",
        help=_help("overcommit", "How many times the machine's memory may be promised to nodes; 8."),
        rich_help_panel=SETTINGS,
    ),
]
RedisStandIn = Annotated[
    bool | None,
    typer.Option(
        "--redis-stand-in/--no-redis-stand-in",
        help=_help("redis_stand_in", "Let Valkey run where Redis is asked for and not installed; no."),
        rich_help_panel=SETTINGS,
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help=_help("log_level", "debug, info, warning or error; info."),
        rich_help_panel=SETTINGS,
    ),
]
HangTimeout = Annotated[
    str | None,
    typer.Option(
        "--hang-timeout",
        metavar="SECONDS",
        help=_help("hang_timeout", "An engine that does not answer for so long counts as hung and is replaced; 5."),
        rich_help_panel=SETTINGS,
    ),
]
RollbackHours = Annotated[
    str | None,
    typer.Option(
        "--rollback-hours",
        metavar="HOURS",
        help=_help("rollback_hours", "How long the engines of before an upgrade are kept for a rollback; 1."),
        rich_help_panel=SETTINGS,
    ),
]
SyncTimeout = Annotated[
    str | None,
    typer.Option(
        "--sync-timeout",
        metavar="SECONDS",
        help=_help("sync_timeout", "A new engine that is not in sync after so long ends its upgrade; 600."),
        rich_help_panel=SETTINGS,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def settings_from(**options: str | bool | None) -> Settings:
    """Settings from the options that were given, the environment, the file and the defaults.

    Raises SettingsError.
    """
    return load(options)


def needed_options(settings: Settings, *names: str) -> list[str]:
    """The options that lead to the same settings from any shell: those of `names` that are no defaults."""
    defaults = load({}, environment={})
    words: list[str] = []
    for name in names:
        value = getattr(settings, name)
        if value != getattr(defaults, name):
            words += ["--" + name.replace("_", "-"), str(value)]
    return words
