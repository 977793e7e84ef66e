"""The signed pages `/_cachekeep/topics`: GET lists a region's topics, POST changes one or tries it out.

Functions over the store; api.http puts them on the wire. A webhook's secret is in the answer that makes it, and never
in another.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachekeep.codec.subscriber import is_address, web_url
from cachekeep.domain.alarms import Channel, Subscription, Topic
from cachekeep.domain.faults import Fault, invalid_value, missing_parameter
from cachekeep.domain.notifications import TopicArn, Trial
from cachekeep.domain.ports import Store

MOST_TOPICS = 1000
MOST_SUBSCRIPTIONS = 50
LONGEST_ENDPOINT = 2000
_NO_MAIL = "no mail can be sent yet: set CACHEKEEP_SMTP_URL (smtp://user:password@host:port) and start the service anew"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}\Z")


def listed(store: Store, account: str, region: str) -> dict[str, Any]:
    """GET: `topics`, in order of their names, each with `name`, `arn`, `created_at` and `subscriptions`."""
    return {"topics": [_topic(topic, account) for topic in store.all(Topic, region)]}


async def answered(
    store: Store, trial: Trial, account: str, region: str, body: Mapping[str, object], now: float, *, mails: bool = True
) -> dict[str, Any]:
    """POST. body: decoded JSON with `action` (add, remove, test) and what it needs. Raises Fault.

    mails: a mail server is set; without one, `warning` says so to who adds an address.
    """
    match _text(body, "action"):
        case "add":
            added = add(store, account, region, body, now)
            return added if mails or body["channel"] != Channel.EMAIL else added | {"warning": _NO_MAIL}
        case "remove":
            return remove(store, region, body)
        case "test":
            return await test(store, trial, region, body)
        case other:
            raise invalid_value(f"The action must be add, remove or test, not {other[:40]!r}.")


def add(store: Store, account: str, region: str, body: Mapping[str, object], now: float) -> dict[str, Any]:
    """Subscribe `endpoint` by `channel` to topic `name`, which is made if it is not there. Subscribed twice: as it is.

    Answers `topic`, `subscription` (its id) and, for a new webhook, `secret`.
    """
    name = _name(body)
    channel, endpoint = _channel(body), _text(body, "endpoint")
    _check_endpoint(channel, endpoint)
    with store.transaction() as work:
        topic = work.get(Topic, region, name)
        if topic is None and len(work.all(Topic, region)) >= MOST_TOPICS:
            raise Fault("LimitExceeded", f"A region has at most {MOST_TOPICS} topics; remove some first.")
        before = topic or Topic(region, name, (), now)
        same = [s for s in before.subscriptions if (s.channel, s.endpoint) == (channel, endpoint)]
        if same:
            return {"topic": _topic(before, account), "subscription": same[0].id}
        if len(before.subscriptions) >= MOST_SUBSCRIPTIONS:
            raise Fault("LimitExceeded", f"A topic has at most {MOST_SUBSCRIPTIONS} subscriptions; remove some first.")
        secret = secrets.token_urlsafe(32) if channel is Channel.WEBHOOK else ""
        subscription = Subscription(uuid.uuid4().hex[:12], channel, endpoint, secret)
        after = replace(before, subscriptions=(*before.subscriptions, subscription))
        if topic is None:
            work.insert(after)
        else:
            work.replace(topic, after)
    return {"topic": _topic(after, account), "subscription": subscription.id} | ({"secret": secret} if secret else {})


def remove(store: Store, region: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Remove topic `name`, or only its `subscription`. Answers `removed`: what was."""
    name = _name(body)
    wanted = body.get("subscription")
    with store.transaction() as work:
        topic = work.get(Topic, region, name)
        if topic is None:
            raise _not_found(name, region)
        if wanted is None:
            work.delete(topic)
            return {"removed": name}
        left = tuple(subscription for subscription in topic.subscriptions if subscription.id != wanted)
        if len(left) == len(topic.subscriptions):
            raise Fault("NotFound", f"Topic {name} has no subscription {str(wanted)[:60]!r}.", 404)
        work.replace(topic, replace(topic, subscriptions=left))
    return {"removed": str(wanted)}


async def test(store: Store, trial: Trial, region: str, body: Mapping[str, object]) -> dict[str, Any]:
    """Answers `results`: `subscription`, `channel`, `endpoint` and `problem` (null where it arrived)."""
    name = _name(body)
    topic = store.get(Topic, region, name)
    if topic is None:
        raise _not_found(name, region)
    known = {subscription.id: subscription for subscription in topic.subscriptions}
    results = await trial.try_out(region, name)
    return {
        "results": [
            _subscription(known[result.subscription_id]) | {"problem": result.problem}
            for result in results
            if result.subscription_id in known
        ]
    }


def _topic(topic: Topic, account: str) -> dict[str, Any]:
    return {
        "name": topic.name,
        "arn": str(TopicArn(topic.region, account, topic.name)),
        "created_at": topic.created_at,
        "subscriptions": [_subscription(subscription) for subscription in topic.subscriptions],
    }


def _subscription(subscription: Subscription) -> dict[str, Any]:
    """Without its secret."""
    return {"id": subscription.id, "channel": subscription.channel.value, "endpoint": subscription.endpoint}


def _not_found(name: str, region: str) -> Fault:
    return Fault("NotFound", f"There is no topic {name} in {region}.", 404)


def _text(body: Mapping[str, object], field: str) -> str:
    value = body.get(field)
    if value is None:
        raise missing_parameter(field)
    if not isinstance(value, str):
        raise invalid_value(f"{field} must be a text.")
    return value


def _name(body: Mapping[str, object]) -> str:
    name = _text(body, "name")
    if not _NAME.match(name):
        raise invalid_value("A topic's name has 1 to 256 ASCII letters, digits, hyphens and underscores.")
    return name


def _channel(body: Mapping[str, object]) -> Channel:
    try:
        return Channel(_text(body, "channel"))
    except ValueError:
        raise invalid_value(f"The channel must be one of {', '.join(Channel)}.") from None


def _check_endpoint(channel: Channel, endpoint: str) -> None:
    if not 0 < len(endpoint) <= LONGEST_ENDPOINT or not endpoint.isprintable():
        raise invalid_value(f"The endpoint must have 1 to {LONGEST_ENDPOINT} printable characters.")
    if channel is Channel.WEBHOOK and web_url(endpoint) is None:
        raise invalid_value("A webhook must be an http or https URL in ASCII, without a user or password in it.")
    if channel is Channel.EMAIL and not is_address(endpoint):
        raise invalid_value("An e-mail subscriber must be one plain address, such as ops@example.com.")
    if channel is Channel.COMMAND and not endpoint.startswith("/"):
        raise invalid_value("A command must be the absolute path of a program; it gets no arguments and no shell.")
