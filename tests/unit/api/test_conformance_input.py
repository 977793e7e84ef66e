"""Every operation of AWS's model, asked wrongly: each field left out or spoilt in each way that the model knows of.

A right request (happy_requests) is spoilt in one place. It is refused with AWS's code and the field's name where the
model forbids the value, and otherwise by a fault that the model declares, or answered: what is answered is undone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from happy_requests import RIGHT
from stage import MODEL, Stage

VALUE, MISSING, MALFORMED = "InvalidParameterValue", "MissingParameter", "MalformedQueryString"
OPERATIONS = sorted(RIGHT)
# Of a field's name, so much stands in a message.
_ECHOED = 100
# What no value of the type may look like.
_NO_VALUE: Mapping[str, tuple[str, ...]] = {
    "integer": ("many", "", " ", "1.5", "1e3", "0x10", "2147483648", "-2147483649", "9" * 30, "٣", "true", "--1"),
    "boolean": ("maybe", "", "1", "0", "yes", "truefalse", " true"),
    "timestamp": ("yesterday", "", "2026-02-30T00:00:00Z", "2026-13-01", "-1", "9" * 20, "2026-01-01T25:00:00Z"),
    "double": ("much", "", "1e999", "nan", "inf", "0x1"),
    "list": ("x",),
    "structure": ("x",),
}
# Numbers that are numbers, and may be far from any that is meant.
_NUMBERS = ("-1", "0", "2147483647")
_TEXTS = ("", "a" * 10_000, "../x", "é\n\x07", "arn:aws:elasticache")
_MORE_TEXTS = (
    " ", "0",    "-a", "1a", "a--b", "a.b", "/etc/passwd", "a b", "a\nb", "٣abc", "<a>&amp;",
    "a'; DROP TABLE resource; --", "{}", "%s%n", "${x}", "*", "\ud7ff", "\U0001f980",
    "/", "\t", "a" * 256, "=cmd", "\\",
)  # fmt: skip


def members(shape: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Each place of an input, with its shape: `Tags.Tag.1.Key`."""
    if shape.type_name == "structure" and depth < 6:
        for name, member in shape.members.items():
            place = f"{path}.{member.serialization.get('name', name)}" if path else name
            yield place, member
            yield from members(member, place, depth + 1)
    elif shape.type_name == "list":
        place = f"{path}.{shape.member.serialization.get('name', 'member')}.1"
        yield place, shape.member
        yield from members(shape.member, place, depth + 1)


def input_of(operation: str) -> Any:
    return MODEL.operation_model(operation).input_shape


def without(fields: Mapping[str, str], place: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name != place and not name.startswith(f"{place}.")}


def put(fields: Mapping[str, str], place: str, value: str) -> dict[str, str]:
    """The fields with one more: nothing of its own parts, and nothing in place of what it is a part of."""
    rest = without(fields, place)
    parts = place.split(".")
    above = {".".join(parts[:n]) for n in range(1, len(parts))}
    return {**{name: text for name, text in rest.items() if name not in above}, place: value}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_what_is_required(stage: Stage, operation: str) -> None:
    """Answered, or refused by a fault that says what else is wanted."""
    fields = stage.fields(operation, RIGHT[operation])
    needed = ["Action", "Version", *input_of(operation).required_members]
    only = {name: value for name, value in fields.items() if name.split(".")[0] in needed}
    with stage.scene() as scene:
        code, message = scene.refusal(only)
    assert code != MISSING
    assert not code or message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_required_field_left_out(stage: Stage, operation: str) -> None:
    before = stage.everything()
    fields = stage.fields(operation, RIGHT[operation])
    for name in input_of(operation).required_members:
        code, message = stage.refusal(without(fields, name))
        assert (code, name in message) == (MISSING, True), (name, message)
    for place, shape in members(input_of(operation)):
        if shape.type_name != "structure" or not shape.required_members:
            continue
        for name in shape.required_members:
            others = [n for n in shape.members if n != name]
            code, message = stage.refusal(put(fields, f"{place}.{others[0]}", "x") if others else fields)
            assert code in (MISSING, VALUE), (place, name, message)
    assert stage.everything() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_type_enum_and_pattern_wrong(stage: Stage, operation: str) -> None:
    before = stage.everything()
    fields = stage.fields(operation, RIGHT[operation])
    for place, shape in members(input_of(operation)):
        wrong = list(_NO_VALUE.get(shape.type_name, ()))
        enum, metadata = shape.metadata.get("enum", ()), shape.metadata
        if enum:
            wrong += ["no such word", "", enum[0].swapcase(), f"{enum[0]} "]
        if metadata.get("max") and shape.type_name == "string":
            wrong.append("a" * (metadata["max"] + 1))
        for text in wrong:
            code, message = stage.refusal(put(fields, place, text))
            assert code == VALUE, (place, text, code, message)
            assert place[:_ECHOED] in message, (place, text, message)
        if shape.type_name not in ("list", "structure"):
            code, message = stage.refusal(put(fields, f"{place}.Part", "x"))
            assert (code, place[:_ECHOED] in message) == (VALUE, True), (place, message)
    assert stage.everything() == before


@pytest.mark.parametrize("many", [_TEXTS, pytest.param(_MORE_TEXTS, marks=pytest.mark.slow)], ids=["few", "more"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_value_far_from_any_that_is_meant(stage: Stage, operation: str, many: tuple[str, ...]) -> None:
    """A declared fault, or an answer: never an error of ours, and never a message as long as the value."""
    fields = stage.fields(operation, RIGHT[operation])
    for place, shape in members(input_of(operation)):
        texts = {"integer": _NUMBERS, "double": _NUMBERS, "string": many}.get(shape.type_name, ())
        for text in texts if not shape.metadata.get("enum") else ():
            with stage.scene() as scene:
                scene.refusal(put(fields, place, text))
        if shape.type_name == "list":
            item = shape.member.serialization.get("name", "member")
            for number in ("0", "-1", "many", "1001", "01", ""):
                code, _ = stage.refusal(put(fields, f"{place}.{item}.{number}", "x"))
                assert code == VALUE, (place, number, code)
            with stage.scene() as scene:
                scene.refusal(put(fields, place, ""))
