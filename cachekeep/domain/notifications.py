"""Whom alarms and events are told, and how: notices, and the doors to metric values and to the outside. Pure.

Adapters: notify.deliver (Delivery). Services: monitor.notify (Publisher, Trial), monitor.alarms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cachekeep.domain.alarms import MetricQuery, Subscription

# An evaluation point: its value, or None where the period has no data.
Values = Sequence[float | None]

_TOPIC_ARN = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,256})\Z")


@dataclass(frozen=True)
class TopicArn:
    """`arn:aws:sns:REGION:ACCOUNT:NAME`, taken apart."""

    region: str
    account: str
    name: str

    def __str__(self) -> str:
        return f"arn:aws:sns:{self.region}:{self.account}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> TopicArn | None:
        """None for anything else than the ARN of a topic."""
        found = _TOPIC_ARN.match(text)
        return None if found is None else cls(found[1], found[2], found[3])


@dataclass(frozen=True)
class Notice:
    """One message to a topic. at: seconds since 1970. message: text, mostly JSON, as AWS would publish it.
    alarm: the name of the alarm that it is of, "" for an event or a trial."""

    id: str
    topic_arn: str
    at: float
    subject: str
    message: str
    alarm: str = ""


@dataclass(frozen=True)
class Smtp:
    """A mail server. tls: from the first byte (smtps); starttls: after greeting, and never without it when asked for.
    The password is never part of a text."""

    host: str
    port: int
    sender: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    starttls: bool = False
    ca_file: str = ""


class AlarmValues(Protocol):
    """What alarms are judged by. Thread-safe: called from a thread of its own."""

    def values(self, region: str, queries: Sequence[MetricQuery], start: int, end: int, period: int) -> Values:
        """The values of the one query that has return_data, one for each period of `period` seconds that begins in
        start <= t < end (both multiples of it, seconds since 1970), oldest first. Raises Fault for queries that cannot
        be evaluated, WorldError for what may work the next time."""
        ...


class Delivery(Protocol):
    """Brings one notice to one subscriber, once."""

    async def deliver(self, subscription: Subscription, notice: Notice) -> None:
        """Raises WorldError when it is not known to have arrived; the text never has a secret. Ends within 40 s."""
        ...


class Publisher(Protocol):
    """Takes notices for topics and delivers them later."""

    def publish(self, topic_arn: str, subject: str, message: str, alarm: str = "") -> str | None:
        """None when it is on its way to all subscribers; else a sentence that says why it is not. Never waits."""
        ...


@dataclass(frozen=True)
class TrialResult:
    """problem: None when the subscriber took the notice."""

    subscription_id: str
    problem: str | None


class Trial(Protocol):
    """Sends a notice to try a topic out."""

    async def try_out(self, region: str, name: str) -> Sequence[TrialResult]:
        """Tell every subscriber of the topic now, once. Empty when there is none, or no such topic."""
        ...
