"""NotificationTopicArn and NotificationTopicStatus: which topics can be named, and how they are shown."""

from __future__ import annotations

import pytest
from desk import REGION, Desk

from cachekeep.domain.alarms import Topic

BEFORE = f"arn:aws:sns:{REGION}:000000000000:"
OPS = BEFORE + "ops"


@pytest.fixture(autouse=True)
def _topic(desk: Desk) -> None:
    with desk.store.transaction() as work:
        work.insert(Topic(REGION, "ops"))


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        ("ops", "Invalid topic ARN"),
        (f"arn:aws:sqs:{REGION}:000000000000:ops", "Invalid topic ARN"),
        ("arn:aws:sns:us-east-1:000000000000:ops", "same account and region"),
        (f"arn:aws:sns:{REGION}:111111111111:ops", "same account and region"),
        (BEFORE + "nobody", "cachekeep topics add nobody"),
    ],
)
def test_a_topic_that_cannot_be_told_is_refused(desk: Desk, arn: str, words: str) -> None:
    more = {"ReplicationGroupDescription": "x", "NotificationTopicArn": arn}
    code, text = desk.refused("CreateReplicationGroup", ReplicationGroupId="g", **more)
    assert (code, words in text) == ("InvalidParameterValue", True)
    code, text = desk.refused("CreateCacheCluster", CacheClusterId="c", Engine="valkey", NotificationTopicArn=arn)
    assert (code, words in text) == ("InvalidParameterValue", True)
    desk.create_group()
    code, text = desk.refused("ModifyReplicationGroup", ReplicationGroupId="g", NotificationTopicArn=arn)
    assert (code, words in text) == ("InvalidParameterValue", True)


def test_the_topic_is_shown_with_its_status(desk: Desk) -> None:
    desk.create_cluster("c", NotificationTopicArn=OPS)
    shown = desk.ask("ModifyCacheCluster", CacheClusterId="c", NotificationTopicStatus="inactive")["CacheCluster"]
    assert shown["NotificationConfiguration"] == {"TopicArn": OPS, "TopicStatus": "inactive"}
    shown = desk.ask("ModifyCacheCluster", CacheClusterId="c", NotificationTopicArn=OPS)["CacheCluster"]
    assert shown["NotificationConfiguration"]["TopicStatus"] == "active"


def test_a_topic_that_is_gone_stays_named_and_stands_in_the_way_of_nothing(desk: Desk) -> None:
    desk.create_cluster("c", NotificationTopicArn=OPS)
    with desk.store.transaction() as work:
        work.delete(Topic(REGION, "ops"))
    asked = {"CacheClusterId": "c", "NotificationTopicArn": OPS, "AutoMinorVersionUpgrade": False}
    assert desk.ask("ModifyCacheCluster", **asked)["CacheCluster"]["AutoMinorVersionUpgrade"] is False
    shown = desk.ask("ModifyCacheCluster", CacheClusterId="c", NotificationTopicArn="")["CacheCluster"]
    assert "NotificationConfiguration" not in shown
