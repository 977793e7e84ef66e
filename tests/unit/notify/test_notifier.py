"""A notifier whose subscribers hang and fail: queues, tries, drops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from subscribers import ACCOUNT, ARN, REGION, SECRET, Clock, Eventually, Web

from cachekeep.domain.alarms import Alarm, Channel, Comparison, HistoryKind, Subscription, Topic
from cachekeep.monitor.notify import Notifier
from cachekeep.notify.deliver import Deliveries
from cachekeep.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.sqlite")


def put_topic(store: SqliteStore, *urls: str) -> None:
    hooks = tuple(Subscription(f"s{n}", Channel.WEBHOOK, url, SECRET) for n, url in enumerate(urls))
    with store.transaction() as work:
        work.insert(Topic(REGION, "ops", hooks))
        work.insert(Alarm(REGION, "hot", (), 1, 1, 0.5, Comparison.GREATER, 0.0, 0.0, 0.0))


def failures(store: SqliteStore) -> list[str]:
    items = store.alarm_history(REGION, "hot", since=0, until=9e9, kind=HistoryKind.ACTION)
    return [item.summary for item in items]


def run(notifier: Notifier, story: Callable[[], Awaitable[object]]) -> None:
    async def both() -> None:
        running = asyncio.create_task(notifier.run())
        try:
            await story()
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(both())


def test_a_subscriber_that_hangs_delays_nobody_else(
    web: Web, other_web: Web, store: SqliteStore, eventually: Eventually
) -> None:
    web.released.clear()
    put_topic(store, web.url, other_web.url)
    deliveries = Deliveries(None, Clock().now, webhook_s=60)
    notifier = Notifier(store, deliveries, Clock(), ACCOUNT)

    async def story() -> None:
        for number in range(5):
            assert notifier.publish(ARN, f"n{number}", "text", "hot") is None
        await eventually(lambda: len(other_web.got) == 5)
        assert len(web.got) == 1

    run(notifier, story)
    assert [json.loads(body)["Subject"] for _, body in other_web.got] == [f"n{n}" for n in range(5)]
    deliveries.close()


def test_a_subscriber_that_fails_first_is_tried_again(
    web: Web, store: SqliteStore, deliveries: Deliveries, eventually: Eventually
) -> None:
    web.statuses = [500, 503, 200]
    put_topic(store, web.url)
    notifier = Notifier(store, deliveries, Clock(), ACCOUNT, pauses_s=(0.01,) * 4)

    async def story() -> None:
        notifier.publish(ARN, "n", "text", "hot")
        await eventually(lambda: len(web.got) == 3)
        notifier.publish(ARN, "next", "text", "hot")
        await eventually(lambda: len(web.got) == 4)

    run(notifier, story)
    assert [json.loads(body)["Subject"] for _, body in web.got] == ["n", "n", "n", "next"]
    assert failures(store) == []


def test_after_five_tries_a_notice_is_dropped_and_the_history_says_so(
    web: Web, store: SqliteStore, deliveries: Deliveries, eventually: Eventually
) -> None:
    web.statuses = [500]
    put_topic(store, web.url)
    notifier = Notifier(store, deliveries, Clock(), ACCOUNT, pauses_s=(0.01,) * 4)

    async def story() -> None:
        notifier.publish(ARN, "n", "text", "hot")
        await eventually(lambda: failures(store))

    run(notifier, story)
    assert len(web.got) == 5
    [summary] = failures(store)
    assert summary.startswith(f"Failed to execute action {ARN}: webhook s0 of topic ops was not told")
    assert summary.endswith("answered HTTP 500")


def test_a_full_queue_drops_what_comes_and_says_so(store: SqliteStore, deliveries: Deliveries) -> None:
    put_topic(store, "http://127.0.0.1:9/")
    notifier = Notifier(store, deliveries, Clock(), ACCOUNT, most_waiting=2)
    for _ in range(3):
        notifier.publish(ARN, "n", "text", "hot")
    [summary] = failures(store)
    assert "2 notices wait for it already" in summary


def test_what_is_lost_with_the_end_of_the_service_is_in_the_history(
    web: Web, store: SqliteStore, eventually: Eventually
) -> None:
    web.released.clear()
    put_topic(store, web.url)
    deliveries = Deliveries(None, Clock().now, webhook_s=60)
    notifier = Notifier(store, deliveries, Clock(), ACCOUNT)

    async def story() -> None:
        for alarm in ("hot", "hot", ""):
            notifier.publish(ARN, "n", "text", alarm)
        await eventually(lambda: web.got)

    run(notifier, story)
    summaries = failures(store)
    assert len(summaries) == 2, "of the alarm; the third was an event"
    assert all("webhook s0 of topic ops was not told: the service ended" in summary for summary in summaries)
    deliveries.close()


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        (ARN + "2", "there is no topic"),
        (ARN.replace(ACCOUNT, "111111111111"), "there is no topic"),
        ("arn:aws:automate:eu-west-1:ec2:stop", "not the ARN of a topic"),
    ],
)
def test_what_is_no_topic_of_ours_is_told_to_the_publisher(
    store: SqliteStore, deliveries: Deliveries, arn: str, words: str
) -> None:
    put_topic(store, "http://127.0.0.1:9/")
    problem = Notifier(store, deliveries, Clock(), ACCOUNT).publish(arn, "n", "text")
    assert words in str(problem)


def test_a_trial_tells_of_every_subscriber(
    web: Web, other_web: Web, store: SqliteStore, deliveries: Deliveries
) -> None:
    other_web.statuses = [404]
    put_topic(store, web.url, other_web.url)
    results = asyncio.run(Notifier(store, deliveries, Clock(), ACCOUNT).try_out(REGION, "ops"))
    assert [result.problem is None for result in results] == [True, False]
    assert "HTTP 404" in str(results[1].problem)
