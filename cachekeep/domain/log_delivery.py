"""Log delivery: which log of a group's or cluster's nodes is brought where, in which format, and how that goes. Pure.

Words and limits: ElastiCache guide, "Log delivery"; botocore elasticache 2015-02-02.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

# CloudWatch Logs and Firehose: what a log group and a delivery stream may be called (their API references).
_LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}\Z")
_STREAM = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")


class LogType(StrEnum):
    SLOW = "slow-log"
    ENGINE = "engine-log"


class DestinationType(StrEnum):
    CLOUDWATCH_LOGS = "cloudwatch-logs"
    FIREHOSE = "kinesis-firehose"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogStatus(StrEnum):
    ENABLING = "enabling"
    ACTIVE = "active"
    MODIFYING = "modifying"
    DISABLING = "disabling"
    ERROR = "error"


@dataclass(frozen=True)
class LogDelivery:
    """One log's way. destination: name of the log group or delivery stream. message: what is wrong, "" for nothing.

    Raises ValueError for a name that the destination could not have.
    """

    log_type: LogType
    destination_type: DestinationType
    destination: str
    log_format: LogFormat
    status: LogStatus = LogStatus.ENABLING
    message: str = ""

    def __post_init__(self) -> None:
        pattern = _LOG_GROUP if self.destination_type is DestinationType.CLOUDWATCH_LOGS else _STREAM
        if not pattern.match(self.destination):
            raise ValueError(f"{self.destination[:60]!r} is no name of a {self.destination_type.value} destination")

    @property
    def is_wanted(self) -> bool:
        return self.status is not LogStatus.DISABLING

    @property
    def route(self) -> LogDelivery:
        """What it is without how it goes: two of the same route need the same work."""
        return replace(self, status=LogStatus.ENABLING, message="")


@dataclass(frozen=True)
class LogLine:
    """A line ready to be delivered. at_ms: when it was logged, milliseconds since 1970."""

    at_ms: int
    text: str


Position = Mapping[str, str | int]
"""How far a log was read, in the words of whoever reads it; empty: not at all."""


@dataclass(frozen=True)
class SlowEntry:
    """An entry of SLOWLOG GET. command: its name alone, upper case; arguments: how many there were."""

    number: int
    at_s: int
    duration_us: int
    command: str
    arguments: int
    client_address: str = ""
    client_name: str = ""


@dataclass(frozen=True)
class SlowRead:
    """entries: oldest first. run_id: of the engine's process; numbers begin anew with each.
    lost: entries between the last one read and the oldest that the engine still had."""

    run_id: str
    entries: tuple[SlowEntry, ...] = ()
    lost: int = 0


@dataclass(frozen=True)
class EngineLogRead:
    """lines: whole lines of engine.log, oldest first, each with the position after it."""

    lines: tuple[tuple[str, Position], ...] = field(default=())
