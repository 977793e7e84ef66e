"""Which nodes cannot be asked, and why, by the group that they are of."""

from __future__ import annotations

from cachekeep.domain.metrics import Current, Subject
from cachekeep.report.health_members import STALE_S, troubles

NOW = 1000.0
REGION = "us-east-1"


class Seen(dict[Subject, Current]):
    """Implements domain.metric_ports.Gauges."""

    def current(self, subject: Subject) -> Current | None:
        return self.get(subject)

    def subjects(self) -> list[Subject]:
        return sorted(self)

    def place(self, subject: Subject) -> None:
        return None


def node(name: str, at: float = NOW, trouble: str | None = None, region: str = REGION) -> tuple[Subject, Current]:
    current = Current(at, {}, {"replication_group": "demo"}, trouble)
    return Subject(region, name, "0001"), current


def test_nodes_that_do_not_answer_are_told_by_their_group() -> None:
    gauges = Seen([node("demo-001"), node("demo-002", trouble="no answer for 3 s"), node("x", NOW, "far", "eu-west-1")])
    assert troubles(gauges, REGION, NOW) == {"demo": ["demo-002: no answer for 3 s"]}


def test_a_node_that_is_asked_no_more_is_told() -> None:
    gauges = Seen([node("demo-001", NOW - STALE_S - 5)])
    assert troubles(gauges, REGION, NOW) == {"demo": ["demo-001: it was not asked for 20 s"]}


def test_who_answers_is_no_trouble() -> None:
    assert troubles(Seen([node("demo-001"), node("demo-002")]), REGION, NOW) == {}
