"""What AWS's service models say, in a form that is quick to use. Pure after loading.

botocore ships the models (JSON) that every AWS SDK is generated from. Walking its shape objects for each request
is slow and keeps half a megabyte of documentation alive, hence this reading of it: once per service, only what the
wire needs, every shape made once and shared. Called by codec.query, codec.xml and by the surfaces' dispatch.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import botocore

# The versions that clients send. ElastiCache also has a 2014 model, which no current client speaks.
_VERSIONS = {"elasticache": "2015-02-02", "sts": "2011-06-15", "monitoring": "2010-08-01", "tagging": "2017-01-26"}
# botocore's folder where it is not the service's name in the scope of credentials.
_MODELS = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}
# The operations to read, where most of a model is of no use here; all of a service that is not named.
_ONLY = {
    "monitoring": frozenset(
        {
            "DeleteAlarms",
            "DescribeAlarmHistory",
            "DescribeAlarms",
            "DescribeAlarmsForMetric",
            "DisableAlarmActions",
            "EnableAlarmActions",
            "GetMetricData",
            "GetMetricStatistics",
            "ListMetrics",
            "ListTagsForResource",
            "PutMetricAlarm",
            "SetAlarmState",
            "TagResource",
            "UntagResource",
        }
    ),
    # Without tag policies, which are of AWS Organizations.
    "tagging": frozenset({"GetResources", "GetTagKeys", "GetTagValues", "TagResources", "UntagResources"}),
}
_SCALARS = frozenset({"string", "character", "boolean", "integer", "long", "float", "double", "timestamp"})


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """A type of the model. Compared by identity: each is made once per service.

    type is the model's word: structure, list, map, string, character, boolean, integer, long, float, double, timestamp.
    minimum and maximum bound the value of a number, the length of a string and the count of a list.
    item: of a list its item, of a map its value; the keys of a map are strings.
    """

    name: str
    type: str
    members: Mapping[str, Member] = field(default_factory=dict)
    item: Member | None = None
    enum: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A member of a structure or the item of a list; wire is its name in requests and responses."""

    name: str
    wire: str
    shape: Shape
    required: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """One operation. faults holds the codes, as they stand on the wire, that the model declares for it."""

    name: str
    input: Shape | None
    output: Shape | None
    result_wrapper: str | None
    faults: frozenset[str]


@dataclass(frozen=True, eq=False, slots=True)
class Service:
    """One AWS service; namespace is the XML namespace of its answers, "" for one that never answers in XML.

    name: in the scope of credentials. model: what AWS calls its model. target: what stands before an operation's name
    where it is not a field of a form (`X-Amz-Target`), "" for a service that is asked by forms alone. fault_names: the
    shape of a fault by its code on the wire, where they differ. json_version: of AWS JSON. was_query: clients of its
    other protocols are told the codes of the Query protocol too.
    """

    name: str
    model: str
    api_version: str
    namespace: str
    operations: Mapping[str, Operation]
    statuses: Mapping[str, int]
    target: str = ""
    fault_names: Mapping[str, str] = field(default_factory=dict)
    json_version: str = "1.0"
    was_query: bool = False


@cache
def load_service(name: str) -> Service:
    """Read the model of `elasticache`, `sts`, `monitoring` or `tagging` from botocore's data (some 25 ms, once).

    Raises KeyError for a name without a model, and ValueError for a model that uses something the Query codec does
    not know (blobs, flattened lists, recursion): better at start than in the middle of a request.
    """
    called = _MODELS.get(name, name)
    model = _read(f"{called}/{_VERSIONS[name]}/service-2")
    metadata = model["metadata"]
    shapes = _Shapes(model["shapes"])
    wanted = _ONLY.get(name, frozenset(model["operations"]))
    operations = {op: _operation(raw, shapes) for op, raw in model["operations"].items() if op in wanted}
    return Service(
        name=name,
        model=called,
        api_version=str(metadata["apiVersion"]),
        namespace=str(metadata.get("xmlNamespace", "")),
        operations=MappingProxyType(operations),
        statuses=MappingProxyType(_statuses(model["shapes"])),
        target=str(metadata.get("targetPrefix", "")),
        fault_names=MappingProxyType(_fault_names(model["shapes"])),
        json_version=str(metadata.get("jsonVersion", "1.0")),
        was_query="awsQueryCompatible" in metadata,
    )


@cache
def known_regions() -> frozenset[str]:
    """The regions of all partitions of AWS. Source: botocore/data/partitions.json."""
    partitions = _read("partitions")["partitions"]
    return frozenset(r for p in partitions for r in p["regions"] if not r.endswith("-global"))


def _read(name: str) -> Any:  # noqa: ANN401 - JSON as it comes
    """A file of botocore's data. Not by botocore's Loader: to import that takes as long as the rest of a command,
    it looks at every service's folder first, and it would take a user's own models from ~/.aws/models for AWS's."""
    packed = Path(botocore.__file__).parent / "data" / f"{name}.json.gz"
    if packed.exists():
        return json.loads(gzip.decompress(packed.read_bytes()))
    return json.loads(packed.with_suffix("").read_bytes())


def fault_statuses(service: Service) -> Mapping[str, int]:
    """Return the HTTP status of every fault of the model, by its code on the wire."""
    return service.statuses


def _statuses(raw: Mapping[str, Any]) -> dict[str, int]:
    """The codes are irregular (`CacheClusterNotFoundFault` is sent as `CacheClusterNotFound`): never derive one."""
    return {
        _wire_code(name, shape): int(shape.get("error", {}).get("httpStatusCode", 400))
        for name, shape in raw.items()
        if shape.get("exception")
    }


def _fault_names(raw: Mapping[str, Any]) -> dict[str, str]:
    codes = {name: _wire_code(name, shape) for name, shape in raw.items() if shape.get("exception")}
    return {code: name for name, code in codes.items() if code != name}


def _wire_code(name: str, shape: Mapping[str, Any]) -> str:
    return str(shape.get("error", {}).get("code", name))


def _operation(raw: Mapping[str, Any], shapes: _Shapes) -> Operation:
    given, answer = raw.get("input"), raw.get("output")
    return Operation(
        name=str(raw["name"]),
        input=shapes.get(given["shape"]) if given else None,
        output=shapes.get(answer["shape"]) if answer else None,
        result_wrapper=answer.get("resultWrapper") if answer else None,
        faults=frozenset(_wire_code(e["shape"], shapes.raw[e["shape"]]) for e in raw.get("errors", ())),
    )


class _Shapes:
    """Makes shapes by name, each once."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self._made: dict[str, Shape] = {}
        self._making: set[str] = set()

    def get(self, name: str) -> Shape:
        made = self._made.get(name)
        if made is None:
            if name in self._making:
                raise ValueError(f"shape {name} contains itself; the Query codec knows no recursion")
            self._making.add(name)
            made = self._made[name] = self._make(name, self.raw[name])
            self._making.discard(name)
        return made

    def _make(self, name: str, raw: Mapping[str, Any]) -> Shape:
        kind = str(raw["type"])
        if kind == "structure":
            required = frozenset(raw.get("required", ()))
            members = {n: self._member(n, ref, n, n in required) for n, ref in raw["members"].items()}
            return Shape(name, kind, members=MappingProxyType(members))
        if kind == "list" and not raw.get("flattened"):
            item = self._member("", raw["member"], "member", required=False)
            return Shape(name, kind, item=item, minimum=raw.get("min"), maximum=raw.get("max"))
        if kind == "map" and "value" in raw and not raw.get("flattened"):
            # Under the names `entry`, `key` and `value`, which no map of these models changes.
            return Shape(name, kind, item=self._member("", raw["value"], "value", required=False))
        if kind not in _SCALARS:
            raise ValueError(f"shape {name} is a {kind} that the Query codec does not know")
        return Shape(
            name,
            kind,
            enum=tuple(raw.get("enum", ())),
            pattern=_pattern(raw.get("pattern")),
            minimum=raw.get("min"),
            maximum=raw.get("max"),
        )

    def _member(self, name: str, ref: Mapping[str, Any], default: str, required: bool) -> Member:
        # A name on the reference wins over one on the type, which wins over the default: botocore's rule.
        # PendingLogDeliveryConfigurationList is the one type that brings a name of its own.
        wire = ref.get("locationName") or self.raw[ref["shape"]].get("locationName") or default
        return Member(name, str(wire), self.get(ref["shape"]), required)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    r"""Compile a pattern of the model, or return None for one in a dialect that Python lacks (`\p{L}`, STS tags).

    ASCII, as in the dialect of the models, where \d and \w mean ASCII. DOTALL: `.*\S.*` on a long text with a
    line break would otherwise take quadratic time, which a caller could use against us.
    """
    if text is None:
        return None
    try:
        return re.compile(text, re.ASCII | re.DOTALL)
    except re.error:
        return None
