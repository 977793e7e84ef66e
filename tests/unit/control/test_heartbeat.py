"""The real heartbeat over a simulated machine: silence counts while it was asked, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from cachekeep.control.heartbeat import Heartbeat
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.ports import WorldError
from cachekeep.domain.world import NotAskedError
from tests.properties.machine import FOREVER
from tests.properties.machine import World as Machine
from tests.properties.simulated import FakeAdmin
from tests.properties.stored import REGION, address_of, cluster_of, specs_of

HANG_S = 3.0
KEY = NodeKey(REGION, "a")


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


class BusyAdmin(FakeAdmin):
    """An engine that a script keeps busy until it is told to end it, if it lets itself be told."""

    def __init__(self, machine: Machine, *, has_written: bool) -> None:
        super().__init__(machine)
        self.has_written = has_written
        self.busy = True
        self.told = 0

    async def ping(self, address: Address, timeout_s: float) -> None:
        if self.busy:
            raise WorldError("BUSY Valkey is busy running a script")

    async def interrupt(self, address: Address) -> None:
        self.told += 1
        if self.has_written:
            raise WorldError("UNKILLABLE Sorry the script already executed write commands")
        self.busy = False


def _machine() -> Machine:
    machine = Machine()
    for spec in specs_of(cluster_of("a", 1)).values():
        machine.start(spec, keep_data=False)
    return machine


def _beat(heart: Heartbeat, times: int) -> None:
    async def beats() -> None:
        for _ in range(times):
            await heart.beat(1.0)

    asyncio.run(beats())


def test_silence_adds_up_and_wakes_once_it_counts_as_hung() -> None:
    machine, woken = _machine(), list[NodeKey]()
    heart = Heartbeat(FakeAdmin(machine), HANG_S, woken.append)
    heart.watch(KEY, address_of(1))
    machine.running[KEY].silent = FOREVER
    _beat(heart, 2)
    assert (heart.silent_s(KEY), woken) == (2.0, [])
    _beat(heart, 1)
    assert (heart.silent_s(KEY), woken) == (3.0, [KEY])


def test_an_answer_ends_the_silence_and_is_told() -> None:
    machine, woken = _machine(), list[NodeKey]()
    heart = Heartbeat(FakeAdmin(machine), HANG_S, woken.append)
    heart.watch(KEY, address_of(1))
    machine.running[KEY].silent = FOREVER
    _beat(heart, 1)
    machine.running[KEY].silent = 0
    _beat(heart, 2)
    assert (heart.silent_s(KEY), woken) == (0.0, [KEY])


def test_a_process_that_is_gone_is_asked_no_more() -> None:
    machine, woken = _machine(), list[NodeKey]()
    heart = Heartbeat(FakeAdmin(machine), HANG_S, woken.append)
    heart.watch(KEY, address_of(1))
    machine.running[KEY].silent = FOREVER
    _beat(heart, 2)
    heart.forget(KEY)
    _beat(heart, 5)
    assert (heart.silent_s(KEY), woken) == (0.0, [])


def test_a_script_is_told_to_end_once_and_in_time() -> None:
    admin, woken = BusyAdmin(_machine(), has_written=False), list[NodeKey]()
    heart = Heartbeat(admin, 4.0, woken.append)
    heart.watch(KEY, address_of(1))
    _beat(heart, 1)
    assert admin.told == 0
    _beat(heart, 2)
    assert admin.told == 1
    assert heart.silent_s(KEY) == 0.0


def test_a_script_that_has_written_cannot_be_ended_and_counts_as_hung() -> None:
    admin, woken = BusyAdmin(_machine(), has_written=True), list[NodeKey]()
    heart = Heartbeat(admin, 4.0, woken.append)
    heart.watch(KEY, address_of(1))
    _beat(heart, 4)
    assert (admin.told, woken) == (1, [KEY])


class BlindAdmin(FakeAdmin):
    async def ping(self, address: Address, timeout_s: float) -> None:
        raise NotAskedError("cannot read the authority")


def test_what_could_not_be_asked_is_not_held_against_a_node() -> None:
    woken = list[NodeKey]()
    heart = Heartbeat(BlindAdmin(_machine()), HANG_S, woken.append)
    heart.watch(KEY, address_of(1))
    _beat(heart, 10)
    assert (heart.silent_s(KEY), woken) == (0.0, [])
