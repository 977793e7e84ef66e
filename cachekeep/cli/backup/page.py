"""JSON pages: keys and other bytes as text where they are text, else as base64 under `b64:`."""

from __future__ import annotations

import base64
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec
import typer


def print_page(page: object) -> None:
    """One JSON object on stdout."""
    typer.echo(msgspec.json.encode(plain(page)).decode())


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """Dataclasses, structs, bytes, enums and the like as JSON has them; keys of objects as text."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.value
        case str():
            return value
        case bytes():
            return text_of(value)
        case dict():
            return {str(plain(key)): plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one) for one in value]
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)


def text_of(data: bytes) -> str:
    """The text, or `b64:` and base64 where it is none (or would be taken for that)."""
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        text = "b64:"
    return f"b64:{base64.b64encode(data).decode()}" if text.startswith("b64:") else text
