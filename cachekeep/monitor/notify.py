"""Brings notices to the subscribers of topics: a bounded queue for each, so that one that hangs delays nobody else.

Implements domain.notifications.Publisher and Trial. ElastiCache events go through here too (`EventTeller`).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from cachekeep.domain.alarms import HistoryItem, HistoryKind, Subscription, Topic
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.notifications import Delivery, Notice, Publisher, TopicArn, TrialResult
from cachekeep.domain.ports import Clock, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.notice import event_message, event_name

log = structlog.get_logger()

# Waits between the five tries.
PAUSES_S = (1.0, 5.0, 25.0, 125.0)
# Of each subscriber. What comes when it is full is dropped: the oldest news are told first.
MOST_WAITING = 200
# Of one try, above whatever deadlines the channels have themselves.
DEADLINE_S = 60.0
# An event may be stored after one that came later.
LATE_S = 60.0
MOST_SEEN = 10_000
# Of a trial: whoever asked for it waits for the answer, and the service, when it ends, waits 5 s for requests.
TRIAL_S = 4.5


@dataclass
class _Line:
    """The notices that wait for one subscriber, and who brings them."""

    subscription: Subscription
    waiting: deque[Notice] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


class Notifier:
    """Deliveries begin once `run` does; until then notices wait."""

    def __init__(
        self,
        store: Store,
        delivery: Delivery,
        clock: Clock,
        account: str,
        *,
        pauses_s: Sequence[float] = PAUSES_S,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._clock = clock
        self._account = account
        self._pauses_s = tuple(pauses_s)
        self._most_waiting = most_waiting
        self._lines: dict[tuple[TopicArn, str], _Line] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled. What still waits then is lost: the log says so, and the history of alarms."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for key in list(self._lines):
                    self._work(key)
                await asyncio.Event().wait()
        finally:
            self._group = None
            left = [(key[0], line.subscription, notice) for key, line in self._lines.items() for notice in line.waiting]
            self._lines.clear()
            if left:
                log.warning("notices are lost with the end of the service", notices=len(left))
                self._record(left, "the service ended before it was known to have arrived")

    def publish(self, topic_arn: str, subject: str, message: str, alarm: str = "") -> str | None:
        arn = TopicArn.parse(topic_arn)
        topic = None if arn is None else self._store.get(Topic, arn.region, arn.name)
        if arn is None:
            return f"{topic_arn[:300]} is not the ARN of a topic (arn:aws:sns:REGION:ACCOUNT:NAME)"
        if topic is None or arn.account != self._account:
            return f"there is no topic {topic_arn}; `cachekeep topics add {arn.name}` makes it"
        if not topic.subscriptions:
            return f"topic {arn.name} has no subscribers"
        notice = Notice(str(uuid.uuid4()), topic_arn, self._clock.now(), subject, message, alarm)
        for subscription in topic.subscriptions:
            self._enqueue((arn, subscription.id), subscription, notice)
        return None

    async def try_out(self, region: str, name: str) -> Sequence[TrialResult]:
        topic = self._store.get(Topic, region, name)
        if topic is None:
            return []
        arn = str(TopicArn(region, self._account, name))
        text = json.dumps({"Cachekeep:Test": name, "Message": "This is a test of the topic."})
        notice = Notice(str(uuid.uuid4()), arn, self._clock.now(), f"Test of topic {name}"[:100], text)
        problems = await asyncio.gather(
            *(self._try(subscription, notice, TRIAL_S) for subscription in topic.subscriptions)
        )
        return [
            TrialResult(subscription.id, problem)
            for subscription, problem in zip(topic.subscriptions, problems, strict=True)
        ]

    def _enqueue(self, key: tuple[TopicArn, str], subscription: Subscription, notice: Notice) -> None:
        line = self._lines.setdefault(key, _Line(subscription))
        if len(line.waiting) >= self._most_waiting:
            self._drop(key[0], subscription, notice, f"{len(line.waiting)} notices wait for it already")
            return
        line.waiting.append(notice)
        if line.worker is None:
            self._work(key)

    def _work(self, key: tuple[TopicArn, str]) -> None:
        if self._group is not None:
            self._lines[key].worker = self._group.create_task(self._bring(key))

    async def _bring(self, key: tuple[TopicArn, str]) -> None:
        """Until nothing waits for this subscriber."""
        line = self._lines[key]
        while line.waiting:
            notice = line.waiting[0]
            await self._insist(key, notice)
            line.waiting.popleft()
        del self._lines[key]

    async def _insist(self, key: tuple[TopicArn, str], notice: Notice) -> None:
        problem: str | None = ""
        for number in range(len(self._pauses_s) + 1):
            subscription = self._subscription(key)
            if subscription is None:
                return
            problem = await self._try(subscription, notice)
            if problem is None:
                return
            log.info(
                "a notice did not arrive", topic=key[0].name, subscription=key[1], reason=problem, tries=number + 1
            )
            if number < len(self._pauses_s):
                await asyncio.sleep(self._pauses_s[number])
        subscription = self._subscription(key)
        if subscription is not None and problem:
            self._drop(key[0], subscription, notice, problem)

    def _subscription(self, key: tuple[TopicArn, str]) -> Subscription | None:
        """As it is stored now; None when it was removed meanwhile."""
        topic = self._store.get(Topic, key[0].region, key[0].name)
        subscriptions = topic.subscriptions if topic is not None else ()
        return next((found for found in subscriptions if found.id == key[1]), None)

    async def _try(self, subscription: Subscription, notice: Notice, deadline_s: float = DEADLINE_S) -> str | None:
        """Why it did not arrive, or None."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._delivery.deliver(subscription, notice)
        except WorldError as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {deadline_s:g} s"
        except Exception as error:
            log.exception("a delivery failed", subscription=subscription.id)
            return f"internal failure ({type(error).__name__})"
        return None

    def _drop(self, arn: TopicArn, subscription: Subscription, notice: Notice, why: str) -> None:
        log.warning("a notice is dropped", subscriber=_who(arn, subscription), subject=notice.subject, reason=why)
        self._record([(arn, subscription, notice)], why)

    def _record(self, lost: Sequence[tuple[TopicArn, Subscription, Notice]], why: str) -> None:
        """In the histories of the alarms that they are of."""
        of_alarms = [one for one in lost if one[2].alarm]
        if not of_alarms:
            return
        try:
            with self._store.transaction() as work:
                for arn, subscription, notice in of_alarms:
                    failure = f"{_who(arn, subscription)} was not told: {why}"
                    work.add_history(
                        action_item(self._clock.now(), arn.region, notice.alarm, notice.topic_arn, failure)
                    )
        except WorldError as error:
            names = sorted({notice.alarm for _, _, notice in of_alarms})
            log.warning("the history of alarms cannot be written", alarms=names, reason=str(error))


def _who(arn: TopicArn, subscription: Subscription) -> str:
    return f"{subscription.channel.value} {subscription.id} of topic {arn.name}"


def action_item(at: float, region: str, alarm: str, arn: str, failure: str | None = None) -> HistoryItem:
    """The line of an alarm's history on one of its actions."""
    done = "Successfully executed" if failure is None else "Failed to execute"
    state = "Succeeded" if failure is None else "Failed"
    data = {"actionState": state, "notificationResource": arn} | ({"error": failure} if failure else {})
    summary = f"{done} action {arn}" + (f": {failure}" if failure else "")
    return HistoryItem(at, region, alarm, HistoryKind.ACTION, summary[:1000], json.dumps(data))


class EventTeller:
    """Publishes the events of groups and clusters that name a topic. Looks after each change of the store."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._since = clock.now()
        self._seen: dict[Event, None] = {}
        self._topics: dict[tuple[str, SourceType, str], str] = {}
        self._there: set[tuple[str, SourceType, str]] = set()
        self._changed = asyncio.Event()
        store.subscribe(self._note)
        self._look_up_topics()

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, (ReplicationGroup, CacheCluster)) for resource in touched):
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self.tell()

    def tell(self) -> None:
        """Publish what has happened since the last call. A clock that was set back begins anew."""
        before, there = self._topics, self._there
        self._look_up_topics()
        # What was just deleted has a last event, and no topic any more; what was made inactive has no more of them.
        topics = {key: arn for key, arn in before.items() if key not in self._there} | self._topics
        for event in self._new_events({region for region, _, _ in self._there | there}):
            arn = topics.get((event.region, event.source_type, event.source_id))
            if arn is not None:
                problem = self._publisher.publish(arn, event_name(event), event_message(event))
                if problem is not None:
                    log.warning("an event is not told", source=event.source_id, reason=problem)

    def _new_events(self, regions: Iterable[str]) -> list[Event]:
        """Those not seen before, of whomever: an event that nobody was to be told of is not told later."""
        now = self._clock.now()
        if now < self._since:
            self._since = now - LATE_S
        events = [
            event
            for region in sorted(regions)
            for event in self._store.events(region, since=self._since, until=now, source_type=None, source_id=None)
            if event not in self._seen
        ]
        self._since = max([self._since, *(event.at - LATE_S for event in events)])
        self._seen |= dict.fromkeys(events)
        for event in list(self._seen)[:-MOST_SEEN]:
            del self._seen[event]
        return events

    def _look_up_topics(self) -> None:
        found: dict[tuple[str, SourceType, str], str] = {}
        owners: dict[tuple[str, str], str] = {}
        self._there = set()
        for group in self._store.all(ReplicationGroup):
            self._there.add((group.region, SourceType.REPLICATION_GROUP, group.id))
            if group.upkeep.notification_topic and group.upkeep.notification_active:
                owners[group.region, group.id] = group.upkeep.notification_topic
                found[group.region, SourceType.REPLICATION_GROUP, group.id] = group.upkeep.notification_topic
        for cluster in self._store.all(CacheCluster):
            self._there.add((cluster.region, SourceType.CACHE_CLUSTER, cluster.id))
            own = cluster.upkeep.notification_topic if cluster.upkeep.notification_active else None
            owner = owners.get((cluster.region, cluster.replication_group_id or ""))
            topic = owner if cluster.replication_group_id else own
            if topic:
                found[cluster.region, SourceType.CACHE_CLUSTER, cluster.id] = topic
        self._topics = found
