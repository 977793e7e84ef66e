"""Actions: planned first, confirmed once, refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from browser import PLAN, Answer, Browser, group, hidden, node

from cachekeep.domain.faults import Fault
from cachekeep.plan.previews import words
from cachekeep.web.agreement import still_holds
from cachekeep.web.sessions import PLAN_S, Plan

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
    assert "Fail over of orders: accepted." in browser.get("/ui/group/orders").text
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


def made_again(browser: Browser) -> None:
    browser.views.groups = [group(created_at=2e5)]


def roles_swapped(browser: Browser) -> None:
    browser.views.groups = [group(nodes=[node("orders-001", "replica", 5000), node("orders-002", "primary", 5000)])]


def other_step(browser: Browser) -> None:
    browser.operator.preview = PLAN | {"steps": ["orders-001 takes over."]}


def other_warning(browser: Browser) -> None:
    browser.operator.preview = PLAN | {"warnings": ["No replica is left."]}


def more_replicas(browser: Browser) -> None:
    """The same form means another request by now."""
    nodes = [node(f"orders-00{n}", "replica" if n > 1 else "primary", 5000) for n in (1, 2, 3, 4)]
    browser.views.groups = [group(nodes=nodes)]


@pytest.mark.parametrize("change", [made_again, roles_swapped, other_step, other_warning, more_replicas])
def test_a_plan_that_would_be_another_by_now_is_shown_anew(browser: Browser, change: Any) -> None:
    planned = browser.send("/ui/plan/replicas", of="group/orders", replicas="2")
    change(browser)
    answer = confirm(browser, planned)
    assert answer.status == 409
    assert "orders has changed since this plan was made, and nothing was done" in answer.text
    assert browser.operator.performed == []
    assert confirm(browser, planned).status == 409
    assert confirm(browser, answer).status == 303
    assert len(browser.operator.performed) == 1


def test_a_group_made_again_under_its_name_is_not_deleted(browser: Browser) -> None:
    planned = browser.send("/ui/plan/delete", of="group/orders")
    made_again(browser)
    assert confirm(browser, planned, typed="orders").status == 409
    assert browser.operator.performed == []


def test_a_group_that_has_gone_is_told(browser: Browser) -> None:
    planned = browser.send("/ui/plan/delete", of="group/orders")
    browser.views.groups = []
    answer = confirm(browser, planned, typed="orders")
    assert (answer.status, "orders not found" in answer.text) == (404, True)
    assert browser.operator.performed == []


def told(*, size: float, clients: int, seconds: float) -> dict[str, Any]:
    """As the real preview words what it measured."""
    cut = f"{words.several(clients, 'connection')} to what leaves {words.do(clients, 'are')} cut."
    return PLAN | {
        "steps": [f"a-002 copies {words.size(size)} (about {words.seconds(seconds)})."],
        "warnings": [
            *([cut] if clients else []),
            f"Every connection is cut once{f' ({clients} now)' if clients else ''}.",
            f"All data of a ({words.size(size)} as last seen) is lost.",
        ],
        "gaps": [{"least_ms": seconds, "most_ms": 2 * seconds, "what": "writes", "source": "disk", "times": 1}],
    }


@pytest.mark.parametrize("measured", [(3.5e3, 1, 0.2), (7e9, 20, 300.0), (12.0, 0, 8.0)])
def test_a_plan_holds_while_only_what_is_measured_moves(measured: tuple[float, int, float]) -> None:
    size, clients, seconds = measured
    shown = Plan("delete", "group/a", "us-east-1", {}, {}, told(size=5e6, clients=5, seconds=2.0))
    assert still_holds(shown, replace(shown, preview=told(size=size, clients=clients, seconds=seconds)))


def test_a_plan_is_too_old_after_ten_minutes(browser: Browser) -> None:
    planned = browser.send("/ui/plan/fail-over", of="group/orders", shard="0001")
    browser.time += PLAN_S + 1
    answer = confirm(browser, planned)
    assert (answer.status, "older than 10 minutes" in answer.text) == (409, True)
    assert browser.operator.performed == []


def test_a_form_is_for_the_region_that_it_names(browser: Browser) -> None:
    browser.views.groups = [group(), group(region="eu-west-1")]
    form = browser.get("/ui/action/delete?of=group/orders")
    assert "Delete: orders in us-east-1" in form.text
    browser.send("/ui/region", region="eu-west-1")
    for region in (hidden(form, "region"), ""):
        answer = browser.send("/ui/plan/delete", of="group/orders", region=region)
        assert (answer.status, "eu-west-1 is chosen; nothing was done" in answer.text) == (409, True)
    assert browser.operator.rehearsed == []
    assert browser.get("/ui/action/delete?of=group/orders&region=us-east-1").status == 409


def test_what_was_planned_in_one_region_is_done_and_shown_there(browser: Browser) -> None:
    planned = browser.send("/ui/plan/fail-over", of="group/orders", shard="0001")
    assert "Fail over of orders in us-east-1" in planned.text
    browser.send("/ui/region", region="eu-west-1")
    assert confirm(browser, planned).header("location") == "/ui/group/orders"
    assert browser.operator.performed[0][0] == "us-east-1"
    assert "Fail over of orders: accepted." in browser.get("/ui/group/orders").text


def test_links_of_a_page_name_its_region(browser: Browser) -> None:
    assert "/ui/action/delete?of=group/orders&amp;region=us-east-1" in browser.get("/ui/group/orders").text


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
    answer = browser.send("/ui/plan/replicas", of="group/orders", replicas="1")
    assert "orders has 1 replica already in each shard; nothing would change" in answer.text


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


@pytest.mark.parametrize(
    ("of", "sent"),
    [
        ("group/orders", {"Action": "CreateSnapshot", "SnapshotName": "monday", "ReplicationGroupId": "orders"}),
        (
            "serverless/carts",
            {
                "Action": "CreateServerlessCacheSnapshot",
                "ServerlessCacheSnapshotName": "monday",
                "ServerlessCacheName": "carts",
            },
        ),
    ],
)
def test_a_cache_is_backed_up_by_a_snapshot(browser: Browser, of: str, sent: dict[str, str]) -> None:
    browser.views.groups.append(group("serverless--carts", serverless="carts"))
    planned = browser.send("/ui/plan/back-up", of=of, snapshot="monday")
    assert browser.operator.rehearsed == [sent]
    assert browser.send("/ui/confirm", plan=hidden(planned, "plan")).header("location") == f"/ui/{of}"
    assert browser.operator.performed[0][2] == sent


def test_memcached_is_not_offered_a_snapshot(browser: Browser) -> None:
    assert "/ui/action/back-up" not in browser.get("/ui/cluster/sessions").text
    assert "/ui/action/back-up" in browser.get("/ui/group/orders").text


def test_a_new_group_can_begin_with_a_snapshot_that_is_available(browser: Browser) -> None:
    assert "<option>nightly</option>" in browser.get("/ui/action/create").text
    answers = {"id": "again", "description": "d", "engine": "valkey", "node_type": "cache.t4g.micro",
               "cluster_mode": "disabled", "shards": "1", "replicas": "0"}  # fmt: skip
    browser.send("/ui/plan/create", of="", snapshot="nightly", **answers)
    assert browser.operator.rehearsed[0]["SnapshotName"] == "nightly"


@pytest.mark.parametrize(
    ("of", "operation", "name"),
    [
        ("group/orders", "DeleteReplicationGroup", "FinalSnapshotIdentifier"),
        ("cluster/sessions", "DeleteCacheCluster", "FinalSnapshotIdentifier"),
        ("serverless/carts", "DeleteServerlessCache", "FinalSnapshotName"),
    ],
)
def test_a_final_snapshot_is_asked_for_by_its_name(browser: Browser, of: str, operation: str, name: str) -> None:
    browser.views.groups.append(group("serverless--carts", serverless="carts"))
    browser.send("/ui/plan/delete", of=of, final="last")
    browser.send("/ui/plan/delete", of=of)
    last, none = browser.operator.rehearsed
    assert (last["Action"], last[name]) == (operation, "last")
    assert name not in none
