"""Commands whose modules are imported when they are called, or when help lists them: the others start faster."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class Late:
    """module, attribute: where a typer app with the command, or a group of commands, stands."""

    module: str
    attribute: str
    panel: str
    short_help: str


class LateGroup(TyperGroup):
    """A group with commands of its own, and those that come late. late: by name, set by whoever makes the group."""

    late: ClassVar[dict[str, Late]] = {}

    # Any: the context is of click or of typer's own copy of it, as the version of typer has it.
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        return [*super().list_commands(ctx), *self.late]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        late = self.late.get(cmd_name)
        if late is None:
            return super().get_command(ctx, cmd_name)
        app: typer.Typer = getattr(import_module(late.module), late.attribute)
        command: Any = get_command(app)
        command.name, command.short_help = cmd_name, late.short_help
        command.rich_help_panel = late.panel
        return command
