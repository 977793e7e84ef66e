"""Rounds on asyncio's own loop: when they look, which tasks go on, and what is left when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cachekeep.rounds import Rounds, woken

DEADLINE_S = 10.0
NEVER_S = 3600.0


class Looks:
    """Counts them, and does what it is told at each. A test waits for so many of them."""

    def __init__(self, each: Callable[[], None] = lambda: None) -> None:
        self.count, self._each = 0, each

    def __call__(self) -> None:
        self.count += 1
        self._each()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.count < count:
                await asyncio.sleep(0)


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def _end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_wake_brings_the_next_look_at_once() -> None:
    async def test() -> None:
        rounds, looks = Rounds[str](NEVER_S), Looks()
        running = asyncio.create_task(rounds.run(looks))
        await looks.reach(1)
        rounds.wake()
        await looks.reach(2)
        await _end(running)

    _run(test)


def test_a_wake_during_a_look_brings_another_one() -> None:
    async def test() -> None:
        rounds = Rounds[str](NEVER_S)
        looks = Looks(lambda: rounds.wake() if looks.count < 3 else None)
        running = asyncio.create_task(rounds.run(looks))
        await looks.reach(3)
        await _end(running)

    _run(test)


def test_without_a_wake_the_next_look_comes_after_its_time() -> None:
    async def test() -> None:
        looks = Looks()
        running = asyncio.create_task(Rounds[str](0.001).run(looks))
        await looks.reach(3)
        await _end(running)

    _run(test)


def test_of_one_key_one_task_goes_on_and_a_new_one_begins_when_it_has_ended() -> None:
    async def test() -> None:
        rounds, begun, may_end = Rounds[str](NEVER_S), list[int](), asyncio.Event()

        async def work() -> None:
            begun.append(looks.count)
            await may_end.wait()
            rounds.wake()

        looks = Looks(lambda: rounds.begin("key", work, "work"))
        running = asyncio.create_task(rounds.run(looks))
        for count in (1, 2, 3):
            await looks.reach(count)
            rounds.wake()
        await looks.reach(4)
        assert begun == [1]
        may_end.set()
        async with asyncio.timeout(DEADLINE_S):
            while len(begun) < 2:
                await asyncio.sleep(0)
        await _end(running)

    _run(test)


def test_a_task_that_fails_ends_neither_the_others_nor_the_looks() -> None:
    async def test() -> None:
        rounds, others_end = Rounds[str](NEVER_S), asyncio.Event()

        async def fail() -> None:
            try:
                raise ValueError("of this one alone")
            finally:
                rounds.wake()

        async def other() -> None:
            try:
                await asyncio.sleep(NEVER_S)
            finally:
                others_end.set()

        def each() -> None:
            if looks.count == 1:
                rounds.begin("fails", fail, "fails")
                rounds.begin("other", other, "other")

        looks = Looks(each)
        running = asyncio.create_task(rounds.run(looks))
        await looks.reach(2)
        assert list(rounds.under_way()) == ["other"]
        assert not others_end.is_set()
        await _end(running)
        assert others_end.is_set()

    # What a task raised is asyncio's to tell, when nobody else asks for it.
    async def quiet() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await test()

    _run(quiet)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_when_rounds_end_their_tasks_have_ended_to_the_last_step(how: str) -> None:
    async def test() -> None:
        rounds, done = Rounds[int](NEVER_S), list[int]()

        async def work(number: int) -> None:
            try:
                await asyncio.sleep(NEVER_S)
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                done.append(number)

        def each() -> None:
            if looks.count == 2:
                raise ValueError("the look fails")
            for number in range(3):
                rounds.begin(number, lambda number=number: work(number), "work")  # type: ignore[misc]

        looks = Looks(each)
        running = asyncio.create_task(rounds.run(looks))
        await looks.reach(1)
        await asyncio.sleep(0)
        if how == "failed":
            rounds.wake()
            with pytest.raises(ValueError, match="the look fails"):
                await running
        else:
            await _end(running)
        assert sorted(done) == [0, 1, 2]
        assert not rounds.under_way()

    _run(test)


def test_one_that_is_cancelled_is_under_way_until_it_has_ended() -> None:
    async def test() -> None:
        rounds, may_end, under_way = Rounds[str](NEVER_S), asyncio.Event(), dict[int, bool]()

        async def work() -> None:
            try:
                await asyncio.sleep(NEVER_S)
            finally:
                await may_end.wait()
                rounds.wake()

        def each() -> None:
            under_way[looks.count] = "key" in rounds.under_way()
            if looks.count == 1:
                rounds.begin("key", work, "work")
            if looks.count == 2:
                rounds.cancel("key")

        looks = Looks(each)
        running = asyncio.create_task(rounds.run(looks))
        for count in (1, 2):
            await looks.reach(count)
            rounds.wake()
        await looks.reach(3)
        may_end.set()
        await looks.reach(4)
        assert under_way == {1: False, 2: True, 3: True, 4: False}
        await _end(running)

    _run(test)


def test_whoever_waits_is_told_whether_it_was_woken() -> None:
    async def test() -> None:
        wake = asyncio.Event()
        async with asyncio.timeout(DEADLINE_S):
            assert not await woken(wake, 0.001)
        wake.set()
        assert await woken(wake, NEVER_S)

    _run(test)
