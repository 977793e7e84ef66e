"""The way of a group to TLS and back, step by step: what is done in which order, and when it is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec
from cachekeep.domain.transit import Listening, Transit, engine_directives, internal_ports
from cachekeep.plan.transit import transit_drift

AT = Address("127.64.0.7", 6379)
VERSION = EngineVersion((7, 0, 15))


def _spec(transit: Transit, *, moves: bool = True) -> NodeSpec:
    key = NodeKey("us-east-1", "g-001")
    return NodeSpec(key, Engine.REDIS, VERSION, AT, transit=transit, transit_moves=moves)


def _runs(transit: Transit) -> NodeFacts:
    return NodeFacts("7.0.15", config=dict(engine_directives(transit, AT.port)))


@pytest.mark.parametrize("now", list(Transit))
@pytest.mark.parametrize("wanted", list(Transit))
def test_an_engine_is_told_all_at_once_or_nothing(now: Transit, wanted: Transit) -> None:
    told = transit_drift(_spec(wanted), _runs(now))
    assert told == ({} if now is wanted else engine_directives(wanted, AT.port))


def test_an_engine_that_has_always_had_its_mode_is_left_alone() -> None:
    assert transit_drift(_spec(Transit.REQUIRED, moves=False), _runs(Transit.OFF)) == {}


def test_one_that_does_not_answer_or_loads_is_told_nothing() -> None:
    assert transit_drift(_spec(Transit.REQUIRED), None) == {}
    assert transit_drift(_spec(Transit.REQUIRED), replace(_runs(Transit.OFF), loading=True)) == {}


@pytest.mark.parametrize("port", [1, 6379, 11211, 35535, 35536, 65535])
def test_internal_ports_are_ports_and_keep_out_of_the_way(port: int) -> None:
    mine = {*internal_ports(port)}
    assert len(mine) == 2
    assert all(0 < one < 65536 for one in mine)
    assert not mine & {port, port + 10_000, port - 10_000}


@pytest.mark.parametrize("transit", list(Transit))
def test_where_an_engine_listens_is_read_from_what_it_was_told(transit: Transit) -> None:
    assert Listening.of(engine_directives(transit, 6379)) == Listening.wanted(transit, 6379)


def test_a_configuration_without_ports_tells_nothing() -> None:
    assert Listening.of({"maxmemory": "1"}) is None
