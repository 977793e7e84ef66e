"""Actions: planned first, confirmed once, refused with a reason."""

from __future__ import annotations

import pytest
from browser import Answer, Browser, group, hidden

from cachekeep.domain.faults import Fault

CREATE = {"id": "new", "description": "d", "engine": "valkey", "version": "", "node_type": "cache.t4g.micro",
          "cluster_mode": "disabled", "shards": "1", "replicas": "1"}  # fmt: skip


def confirm(browser: Browser, planned: Answer, **fields: str) -> Answer:
    return browser.send("/ui/confirm", plan=hidden(planned, "plan"), **fields)


def test_a_plan_says_steps_pause_memory_and_way_back_and_does_nothing(browser: Browser) -> None:
    text = browser.send("/ui/plan/replicas", of="group/orders", replicas="2").text
    for fact in ("Make a replica in shard 0001.", "20 ms to 1.5 s", "3.0 MiB", "Decrease the number", "lose their"):
        assert fact in text
    assert browser.operator.rehearsed == [
        {"Action": "IncreaseReplicaCount", "ReplicationGroupId": "orders", "NewReplicaCount": "2",
         "ApplyImmediately": "true"}
    ]  # fmt: skip
    assert browser.operator.performed == []


def test_what_was_planned_is_carried_out_once(browser: Browser) -> None:
    planned = browser.send("/ui/plan/fail-over", of="group/orders", shard="0001")
    answer = confirm(browser, planned)
    assert (answer.status, answer.header("location")) == (303, "/ui/group/orders")
    fields = {"Action": "TestFailover", "ReplicationGroupId": "orders", "NodeGroupId": "0001"}
    assert browser.operator.performed == [("us-east-1", "AKIA1", fields)]
    assert "Fail over: accepted." in browser.get("/ui/group/orders").text
    assert "accepted" not in browser.get("/ui/group/orders").text
    assert confirm(browser, planned).status == 409
    assert len(browser.operator.performed) == 1


def test_nothing_is_carried_out_without_a_plan(browser: Browser) -> None:
    assert browser.send("/ui/confirm", plan="guessed", Action="DeleteReplicationGroup").status == 409
    assert browser.operator.performed == []


def test_a_plan_is_of_the_session_that_saw_it(browser: Browser) -> None:
    planned = browser.send("/ui/plan/fail-over", of="group/orders", shard="0001")
    browser.sign_in()
    assert confirm(browser, planned).status == 409
    assert browser.operator.performed == []


@pytest.mark.parametrize("typed", ["", "Orders", "order"])
def test_deleting_needs_the_name_typed(browser: Browser, typed: str) -> None:
    planned = browser.send("/ui/plan/delete", of="group/orders")
    answer = confirm(browser, planned, typed=typed)
    assert answer.status == 400
    assert "Type orders to confirm" in answer.text
    assert browser.operator.performed == []
    assert confirm(browser, answer, typed="orders").header("location") == "/ui/"
    assert browser.operator.performed[0][2] == {"Action": "DeleteReplicationGroup", "ReplicationGroupId": "orders"}


def test_a_refusal_brings_the_form_back_as_it_was(browser: Browser) -> None:
    browser.operator.fault = Fault("ReplicationGroupAlreadyExists", "There is one of that name.")
    answer = browser.send("/ui/plan/create", **CREATE | {"id": "kept-name"})
    assert answer.status == 400
    assert "There is one of that name." in answer.text
    assert hidden(answer, "id") == "kept-name"


def test_a_refusal_while_confirming_is_shown_with_the_plan(browser: Browser) -> None:
    planned = browser.send("/ui/plan/fail-over", of="group/orders", shard="0001")
    browser.operator.fault = Fault("InvalidReplicationGroupState", "It is being modified.")
    answer = confirm(browser, planned)
    assert "It is being modified." in answer.text
    browser.operator.fault = None
    assert confirm(browser, answer).status == 303


@pytest.mark.parametrize(
    ("answers", "fields"),
    [
        ({}, {"NumCacheClusters": "2", "AutomaticFailoverEnabled": "true"}),
        ({"replicas": "0"}, {"NumCacheClusters": "1", "AutomaticFailoverEnabled": "false"}),
        ({"shards": "3"}, {"ClusterMode": "enabled", "NumNodeGroups": "3", "ReplicasPerNodeGroup": "1"}),
        ({"version": "8.0"}, {"EngineVersion": "8.0"}),
    ],
)
def test_a_new_group_is_asked_for_as_the_form_says(
    browser: Browser, answers: dict[str, str], fields: dict[str, str]
) -> None:
    assert browser.send("/ui/plan/create", **CREATE | answers).status == 200
    asked = browser.operator.rehearsed[0]
    assert asked["ReplicationGroupId"] == "new"
    assert asked | fields == asked


@pytest.mark.parametrize(
    "wrong",
    [{"id": ""}, {"shards": "0"}, {"replicas": "6"}, {"replicas": "-1"}, {"shards": "²"}, {"engine": "other"},
     {"description": "x" * 600}],
)  # fmt: skip
def test_wrong_answers_are_refused_before_they_are_rehearsed(browser: Browser, wrong: dict[str, str]) -> None:
    assert browser.send("/ui/plan/create", **CREATE | wrong).status == 400
    assert browser.operator.rehearsed == []


def test_fewer_replicas_is_another_request_and_as_many_none(browser: Browser) -> None:
    browser.send("/ui/plan/replicas", of="group/orders", replicas="0")
    assert browser.operator.rehearsed[0]["Action"] == "DecreaseReplicaCount"
    assert "nothing would change" in browser.send("/ui/plan/replicas", of="group/orders", replicas="1").text


def test_replicas_are_counted_per_shard(browser: Browser) -> None:
    shards = [{"id": "0001", "members": ["a", "b", "c"]}, {"id": "0002", "members": ["d", "e", "f"]}]
    browser.views.groups = [group(shards=shards)]
    browser.send("/ui/plan/replicas", of="group/orders", replicas="3")
    assert browser.operator.rehearsed[0]["Action"] == "IncreaseReplicaCount"
    assert "<option>0002</option>" in browser.get("/ui/action/fail-over?of=group/orders").text


def test_only_nodes_of_the_resource_are_rebooted(browser: Browser) -> None:
    assert browser.send("/ui/plan/reboot", of="group/orders", node="other/0001").status == 400
    browser.send("/ui/plan/reboot", of="group/orders", node="orders-002/0001")
    assert browser.operator.rehearsed == [
        {"Action": "RebootCacheCluster", "CacheClusterId": "orders-002", "CacheNodeIdsToReboot.CacheNodeId.1": "0001"}
    ]


def test_clusters_of_no_group_have_requests_of_their_own(browser: Browser) -> None:
    browser.send("/ui/plan/node-type", of="cluster/sessions", node_type="cache.m7g.large")
    browser.send("/ui/plan/delete", of="cluster/sessions")
    assert [fields["Action"] for fields in browser.operator.rehearsed] == ["ModifyCacheCluster", "DeleteCacheCluster"]


@pytest.mark.parametrize("of", ["watched/aws-cache", "group/none", "", "cluster/sessions"])
def test_an_action_is_only_for_what_it_is_meant_for(browser: Browser, of: str) -> None:
    assert browser.send("/ui/plan/fail-over", of=of, shard="0001").status in (400, 404)
    assert browser.operator.rehearsed == []


def test_there_is_no_other_action(browser: Browser) -> None:
    assert browser.get("/ui/action/shutdown").status == 404
    assert browser.send("/ui/plan/shutdown").status == 404


def test_shards_are_added_and_the_last_ones_removed(browser: Browser) -> None:
    shards = [{"id": f"000{n}", "members": [f"orders-000{n}-001"], "primary": f"orders-000{n}-001"} for n in (1, 2, 3)]
    browser.views.groups = [group(shards=[*shards, {"id": "0004", "members": [], "leaving": True}])]
    browser.send("/ui/plan/shards", of="group/orders", shards="5")
    browser.send("/ui/plan/shards", of="group/orders", shards="1")
    more, fewer = browser.operator.rehearsed
    assert more["NodeGroupCount"] == "5"
    assert not [name for name in more if name.startswith("NodeGroupsToRemove")]
    assert fewer["NodeGroupsToRemove.NodeGroupToRemove.1"] == "0002"
    assert fewer["NodeGroupsToRemove.NodeGroupToRemove.2"] == "0003"
    assert "nothing would change" in browser.send("/ui/plan/shards", of="group/orders", shards="3").text


def test_shards_are_offered_in_cluster_mode_only(browser: Browser) -> None:
    assert "Change number of shards" not in browser.get("/ui/group/orders").text
    answer = browser.send("/ui/plan/shards", of="group/orders", shards="2")
    assert "cluster mode is disabled" in answer.text
