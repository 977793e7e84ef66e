"""Hypothesis strategies that make inputs and outputs from botocore's own reading of a service model.

Deliberately not from codec.aws_model: what is tested must not choose its own questions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

quick = settings(
    deadline=None,
    database=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
thorough = settings(quick, max_examples=300)

# Every character that both a form and XML 1.0 can carry; the others have tests of their own.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
XML_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], min_codepoint=0x20, exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>\"'"),
    max_size=12,
)


@cache
def botocore_model(name: str, api_version: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2", api_version=api_version), name)


ELASTICACHE = botocore_model("elasticache", "2015-02-02")
STS = botocore_model("sts", "2011-06-15")
OPERATIONS = [(service, op) for service in (ELASTICACHE, STS) for op in service.operation_names]
OPERATION_IDS = [op for _, op in OPERATIONS]

_cache: dict[tuple[int, str, bool], st.SearchStrategy[Any]] = {}


def values_of(shape: Shape, for_request: bool) -> st.SearchStrategy[Any]:
    """Values that the shape allows. In answers botocore checks nothing, but enums are kept to all the same."""
    key = (id(shape._shape_resolver), f"{shape.name}/{shape.type_name}", for_request)
    made = _cache.get(key)
    if made is None:
        made = _cache[key] = _make(shape, for_request)
    return made


def _make(shape: Shape, for_request: bool) -> st.SearchStrategy[Any]:
    match shape.type_name:
        case "structure":
            members = {name: values_of(member, for_request) for name, member in shape.members.items()}
            required = {name: members[name] for name in shape.required_members if for_request}
            optional = {name: value for name, value in members.items() if name not in required}
            # A structure without fields leaves no trace in a form.
            return _structures(required, optional, fewest=int(for_request and not required))
        case "list":
            low = shape.metadata.get("min", 0)
            return st.lists(values_of(shape.member, for_request), min_size=low, max_size=low + 2)
        case "string":
            return _strings(shape, for_request)
        case "integer" | "long":
            low = shape.metadata.get("min", -(2**31))
            return st.integers(low, shape.metadata.get("max", 2**31 - 1))
        case "double" | "float":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "timestamp":
            return st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
        case other:
            raise AssertionError(f"no strategy for {other}")


@st.composite
def _structures(draw: st.DrawFn, required: dict[str, Any], optional: dict[str, Any], fewest: int) -> dict[str, Any]:
    names = list(optional)
    chosen = draw(st.lists(st.sampled_from(names), unique=True, min_size=fewest, max_size=6)) if names else []
    return {name: draw(strategy) for name, strategy in [*required.items(), *((n, optional[n]) for n in chosen)]}


def _strings(shape: Shape, for_request: bool) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    if not for_request:
        return XML_TEXT
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max")
    longest = low + 5 if high is None else min(high, low + 5)
    pattern = shape.metadata.get("pattern")
    if pattern is None or "\\p{" in pattern:  # a dialect that Python lacks
        return st.text("aZ0 é.", min_size=low, max_size=longest) if low or high else TEXT
    if low > 1 or high is not None:
        return st.text("1234567890", min_size=max(low, 1), max_size=longest)  # every such pattern allows digits
    return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: "\x00" not in text)


def to_milliseconds(value: object) -> object:
    """What of a result an answer carries: times in milliseconds."""
    if isinstance(value, dict):
        return {name: to_milliseconds(member) for name, member in value.items()}
    if isinstance(value, list):
        return [to_milliseconds(item) for item in value]
    if isinstance(value, datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value
