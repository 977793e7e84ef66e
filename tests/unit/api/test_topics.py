"""The pages of topics: subscribe, list, remove, try out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cachekeep.api.topics import answered, listed
from cachekeep.domain.alarms import Topic
from cachekeep.domain.faults import Fault
from cachekeep.domain.notifications import TrialResult
from cachekeep.store.sqlite import SqliteStore

REGION, ACCOUNT = "eu-west-1", "000000000000"
HOOK = {"action": "add", "name": "ops", "channel": "webhook", "endpoint": "https://example.com/in"}


class Trier:
    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def try_out(self, region: str, name: str) -> Sequence[TrialResult]:
        topic = self._store.get(Topic, region, name)
        assert topic is not None
        return [TrialResult(subscription.id, "it is down") for subscription in topic.subscriptions]


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.sqlite")


def ask(store: SqliteStore, body: Mapping[str, object]) -> dict[str, object]:
    return asyncio.run(answered(store, Trier(store), ACCOUNT, REGION, body, 7.0))


def test_a_new_webhook_shows_its_secret_once_and_never_again(store: SqliteStore) -> None:
    first = ask(store, HOOK)
    secret = str(first["secret"])
    assert len(secret) >= 32
    assert "secret" not in ask(store, HOOK)
    assert secret not in str(listed(store, ACCOUNT, REGION))
    assert secret not in str(ask(store, {"action": "test", "name": "ops"}))
    assert listed(store, ACCOUNT, REGION) == {
        "topics": [
            {
                "name": "ops",
                "arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:ops",
                "created_at": 7.0,
                "subscriptions": [
                    {"id": first["subscription"], "channel": "webhook", "endpoint": "https://example.com/in"}
                ],
            }
        ]
    }


def test_topics_of_another_region_are_not_listed(store: SqliteStore) -> None:
    ask(store, HOOK)
    assert listed(store, ACCOUNT, "us-east-1") == {"topics": []}


def test_a_subscription_is_removed_and_then_the_topic(store: SqliteStore) -> None:
    made = ask(store, HOOK)
    ask(store, {**HOOK, "channel": "email", "endpoint": "ops@example.com"})
    ask(store, {"action": "remove", "name": "ops", "subscription": made["subscription"]})
    topic = store.get(Topic, REGION, "ops")
    assert topic is not None
    assert [subscription.endpoint for subscription in topic.subscriptions] == ["ops@example.com"]
    assert ask(store, {"action": "remove", "name": "ops"}) == {"removed": "ops"}
    assert store.get(Topic, REGION, "ops") is None


def test_an_address_without_a_mail_server_is_warned_of_and_subscribed(store: SqliteStore) -> None:
    mail = {**HOOK, "channel": "email", "endpoint": "ops@example.com"}

    def add(body: Mapping[str, object]) -> dict[str, object]:
        return asyncio.run(answered(store, Trier(store), ACCOUNT, REGION, body, 7.0, mails=False))

    assert "set CACHEKEEP_SMTP_URL" in str(add(mail)["warning"])
    assert "warning" not in add(HOOK)
    assert "warning" not in ask(store, mail)
    topic = store.get(Topic, REGION, "ops")
    assert topic is not None
    assert [subscription.endpoint for subscription in topic.subscriptions] == ["ops@example.com", HOOK["endpoint"]]


def test_a_trial_names_the_subscriber_and_its_problem(store: SqliteStore) -> None:
    made = ask(store, HOOK)
    told = {"id": made["subscription"], "channel": "webhook", "endpoint": HOOK["endpoint"], "problem": "it is down"}
    assert ask(store, {"action": "test", "name": "ops"}) == {"results": [told]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "burn", "name": "ops"},
        {"action": "remove", "name": "none"},
        {"action": "test", "name": "none"},
        {**HOOK, "name": "a b"},
        {**HOOK, "name": ""},
        {**HOOK, "name": 7},
        {**HOOK, "channel": "pager"},
        {**HOOK, "endpoint": "ftp://example.com"},
        {**HOOK, "endpoint": "http://user:pass@example.com"},
        {**HOOK, "endpoint": "http://example.com/\r\nX-A: b"},
        {**HOOK, "endpoint": "http://example.com:port/"},
        {**HOOK, "channel": "email", "endpoint": "a@b, c@d"},
        {**HOOK, "channel": "email", "endpoint": "-oX@b"},
        {**HOOK, "channel": "command", "endpoint": "reboot"},
    ],
)
def test_what_is_wrong_is_a_fault_and_stores_nothing(store: SqliteStore, body: Mapping[str, object]) -> None:
    with pytest.raises(Fault):
        ask(store, body)
    assert store.all(Topic) == []


def test_a_topic_has_a_bounded_number_of_subscriptions(store: SqliteStore) -> None:
    for number in range(50):
        ask(store, {**HOOK, "endpoint": f"https://example.com/{number}"})
    with pytest.raises(Fault, match="at most 50"):
        ask(store, {**HOOK, "endpoint": "https://example.com/more"})
