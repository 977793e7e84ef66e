"""What pages show, and what they never contain: code, or markup that came out of names and texts."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from browser import Browser, Tags, group

from cachekeep.domain.ports import WorldError
from cachekeep.web.guard import POLICY
from cachekeep.web.metrics import NAMES
from cachekeep.web.overview import digest_of
from cachekeep.web.snippets import snippets

PAGES = ("/ui/", "/ui/rows", "/ui/group/orders", "/ui/group/orders/live", "/ui/cluster/sessions", "/ui/cost",
         "/ui/watched/aws-cache", "/ui/right-size/group/orders", "/ui/cost?node_type=", "/ui/alarms", "/ui/backups",
         "/ui/action/create",
         "/ui/action/delete?of=group/orders", "/ui/action/reboot?of=cluster/sessions")  # fmt: skip
NASTY = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_code_or_styles_within(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 200
    page = Tags(answer.text)
    assert page.code == ""
    for tag, attributes in page.tags:
        assert tag != "style"
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert not name.startswith("hx-on")
            assert name not in ("style", "hx-vars", "hx-vals")
            assert not (value or "").lower().startswith("javascript:")
        if tag in ("script", "link"):
            source = attributes.get("src") or attributes.get("href") or ""
            assert source.startswith("/ui/static/")
            assert browser.get(source).status == 200


@pytest.mark.parametrize("path", [*PAGES, "/ui", "/ui/nothing", "/ui/sign-in", "/ui/static/page.js", "/ui/static/no"])
def test_every_answer_tells_the_browser_what_is_allowed(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.header("content-security-policy") == POLICY
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "same-origin"
    assert answer.header("cache-control") == ("no-cache" if "static" in path else "no-store")


def test_a_refused_host_is_told_too(stranger: Browser) -> None:
    assert stranger.get("/ui/", host="evil").header("content-security-policy") == POLICY


def test_htmx_evaluates_nothing(browser: Browser) -> None:
    found = [
        attributes for _, attributes in Tags(browser.get("/ui/").text).tags if attributes.get("name") == "htmx-config"
    ]
    settings = json.loads(found[0]["content"] or "")
    assert (settings["allowEval"], settings["includeIndicatorStyles"]) == (False, False)


@pytest.mark.parametrize("path", ["/ui/", "/ui/group/nasty", "/ui/alarms"])
def test_markup_in_texts_is_shown_and_not_obeyed(browser: Browser, path: str) -> None:
    browser.views.groups = [group("nasty", status=NASTY, primary_endpoint=NASTY + ":1", node_type=NASTY)]
    browser.views.note = NASTY
    text = browser.get(path).text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_markup_in_answers_and_filters_is_shown_and_not_obeyed(browser: Browser) -> None:
    kept = browser.send("/ui/plan/create", id=NASTY, description=NASTY, engine="valkey", replicas="99", shards="1",
                        node_type="cache.t4g.micro", cluster_mode="disabled")  # fmt: skip
    assert kept.status == 400
    for text in (kept.text, browser.get("/ui/?q=%22%3E%3Cscript%3Ealert(1)").text):
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


def test_the_overview_shows_groups_clusters_and_targets_with_verdicts_in_words(browser: Browser) -> None:
    text = browser.get("/ui/").text
    for fact in ("orders", "sessions", "aws-cache", "no answer for 12 s", "127.64.0.1:6379", "3.0 MiB of 4.0 MiB"):
        assert fact in text
    assert '<span class="level warning">warning</span>' in text


def test_the_filter_keeps_what_has_all_words(browser: Browser) -> None:
    text = browser.get("/ui/rows?q=VALKEY+warning").text
    assert "orders" in text
    assert "sessions" not in text
    assert "1 of 3 caches shown" in text


@pytest.mark.parametrize("path", ["/ui/rows?q=", "/ui/group/orders/live?"])
def test_a_fragment_is_sent_again_only_when_it_changed(browser: Browser, path: str) -> None:
    seen = digest_of(browser.get(path).text)
    assert len(seen) == 32
    assert browser.get(f"{path}&seen={seen}").status == 204
    browser.views.level = "risk"
    assert browser.get(f"{path}&seen={seen}").status == 200


@pytest.mark.parametrize("path", ["/ui/rows?q=", "/ui/group/orders/live?"])
def test_zeros_in_texts_stay_zeros(browser: Browser, path: str) -> None:
    zeros = "0" * 32
    browser.views.groups = [group(status=zeros)]
    text = browser.get(path).text
    assert digest_of(text) != zeros
    assert zeros in text


def test_a_node_that_cannot_be_asked_is_told_and_nothing_is_called_well(browser: Browser) -> None:
    browser.views.level, browser.views.silent = "unknown", ["orders-002"]
    live = browser.get("/ui/group/orders/live").text
    assert '<td>available<br><span class="hint">does not answer</span></td>' in live
    assert live.count("does not answer") == 1
    assert "unknown, they say" in live
    assert "Nothing is at risk" not in live
    assert "orders-002: does not answer" in browser.get("/ui/rows").text
    # Nor where the level does not show it.
    browser.views.level = "safe"
    assert "Nothing is at risk" not in browser.get("/ui/group/orders/live").text
    browser.views.silent = []
    assert "Nothing is at risk" in browser.get("/ui/group/orders/live").text


def test_of_many_silent_nodes_the_overview_names_two(browser: Browser) -> None:
    browser.views.silent = ["orders-001", "orders-002", "orders-003"]
    assert "orders-001: does not answer; orders-002: does not answer; and 1 more" in browser.get("/ui/rows").text


def test_a_metric_without_a_verdict_says_why_for_its_chart(browser: Browser) -> None:
    browser.views.level = "unknown"
    tags = Tags(browser.get("/ui/group/orders/live").text).tags
    assert [a["data-why"] for _, a in tags if a.get("data-verdict") == "SwapUsage"] == ["Swap is used."]


def test_the_alarm_page_has_conditions_actions_and_history(browser: Browser) -> None:
    text = browser.get("/ui/alarms").text
    for fact in ("Average SwapUsage &gt; 5 for one period", "<td>off</td>", "full: Alarm updated from OK to ALARM"):
        assert fact in text


def test_resources_of_other_regions_are_not_shown(browser: Browser) -> None:
    browser.send("/ui/region", region="eu-west-1")
    assert "sessions" not in browser.get("/ui/").text
    assert browser.get("/ui/group/orders").status == 404


def test_what_a_page_fetches_is_of_the_region_that_the_page_names(browser: Browser) -> None:
    browser.views.groups = [group(status="of the east"), group(region="eu-west-1", status="of the west")]
    fetched = [
        attributes["hx-get"] or ""
        for path in ("/ui/", "/ui/group/orders")
        for _, attributes in Tags(browser.get(path).text).tags
        if "hx-get" in attributes
    ]
    charts = {a["data-region"] for _, a in Tags(browser.get("/ui/group/orders").text).tags if "data-chart" in a}
    browser.send("/ui/region", region="eu-west-1")
    assert len(fetched) == 3
    for path in fetched:
        text = browser.get(path.partition("seen=")[0], hx_request="true").text
        assert ("of the east" in text, "of the west" in text) == (True, False)
    assert charts == {"us-east-1"}
    browser.get("/ui/chart?region=us-east-1&resource=orders&metric=SwapUsage")
    assert browser.views.charted[0][0] == "us-east-1"
    browser.get("/ui/right-size/group/orders?region=us-east-1")
    assert browser.views.sized is not None
    assert browser.views.sized[0] == "us-east-1"
    assert browser.get("/ui/rows?region=nowhere").status == 400


def test_two_hundred_nodes_stay_a_small_page(browser: Browser) -> None:
    browser.views.groups = [group(f"g{number}") for number in range(200)]
    assert len(browser.get("/ui/rows").text) < 300_000


def test_a_group_page_has_a_chart_of_each_of_the_sixteen_metrics(browser: Browser) -> None:
    tags = Tags(browser.get("/ui/group/orders").text).tags
    assert {attributes["data-metric"] for _, attributes in tags if "data-metric" in attributes} == NAMES
    assert len(NAMES) == 16


def test_what_runs_in_place_of_the_engine_asked_for_is_told(browser: Browser) -> None:
    browser.views.groups = [group(engine="redis", version="7.1", runs="valkey 8.1")]
    assert "redis 7.1 (run by valkey 8.1)" in browser.get("/ui/group/orders").text


def test_dark_is_the_same_by_choice_and_by_system(browser: Browser) -> None:
    style = browser.get("/ui/static/style.css").text
    dark = re.findall(r":root[^{]*data-theme[^{]*\{([^}]*)\}", style)
    assert len(dark) == 2
    assert dark[0] == dark[1]


def test_a_group_page_shows_roles_lag_verdicts_and_history(browser: Browser) -> None:
    text = browser.get("/ui/group/orders").text
    for fact in ("primary", "replica", "1.0 KiB", "Take a larger node type.", "a-002 is promoted.", "nightly",
                 "not known", "Reader endpoint", "1970-01-01 00:00:00 UTC"):  # fmt: skip
        assert fact in text
    assert '<td class="number">7</td>' in text  # the keys: a mapping has a method of that name


def test_numbers_of_a_chart_are_asked_for_the_hours_until_now(browser: Browser) -> None:
    answer = browser.get("/ui/chart?resource=orders&metric=SwapUsage&hours=2")
    assert json.loads(answer.text)["series"][0]["values"] == [None]
    assert browser.views.charted == [("us-east-1", "orders", "SwapUsage", 1e6 - 7200, 1e6)]


@pytest.mark.parametrize("query", ["metric=Nothing", "metric=SwapUsage&hours=nan", "metric=SwapUsage&hours=-1",
                                   "metric=SwapUsage&hours=1e9", "metric=SwapUsage&hours=x"])  # fmt: skip
def test_absurd_charts_are_refused(browser: Browser, query: str) -> None:
    assert browser.get(f"/ui/chart?resource=orders&{query}").status == 400
    assert not browser.views.charted


def test_the_right_size_page_asks_with_the_numbers_that_were_given(browser: Browser) -> None:
    text = browser.get("/ui/right-size/group/orders?margin=40&days=7").text
    assert browser.views.sized == ("us-east-1", "orders", 40.0, 7.0)
    for fact in ("Two of cache.t4g.small hold it.", "37.96", "not known", "the keys need 1.1 GB", "confidence low"):
        assert fact in text


def test_the_cost_page_says_what_is_not_known_and_what_it_takes_here(browser: Browser) -> None:
    text = browser.get("/ui/cost").text
    for fact in ("not known", "Prices of us-east-1.", "takes 2 % of the memory: 0.80 of its 40.00 USD a month."):
        assert fact in text


def test_the_cost_page_prices_what_was_asked_for(browser: Browser) -> None:
    assert "118.99" not in browser.get("/ui/cost").text
    text = browser.get("/ui/cost?node_type=cache.m5.large&hours=10").text
    assert browser.views.priced == {
        "node_type": "cache.m5.large", "count": "1", "utilisation": "100", "hours": "10", "region": "",
    }  # fmt: skip
    for fact in ("118.99", "1 x 0.163 = 118.99 USD", "the calculator", "1 of 2 prices are shown",
                 'value="cache.m5.large"', '<option value="cache.m7g.large">'):  # fmt: skip
        assert fact in text


def test_a_count_that_is_none_is_told_beside_the_form(browser: Browser) -> None:
    answer = browser.get("/ui/cost?node_type=&count=many")
    assert answer.status == 400
    assert "the count must be a whole number of nodes, not &#39;many&#39;." in answer.text
    assert 'name="count" inputmode="numeric" value="many"' in answer.text


def test_a_margin_out_of_bounds_is_told_in_percent(browser: Browser) -> None:
    text = browser.get("/ui/right-size/group/orders?margin=1100").text
    assert "the margin, in percent, must be a number between 0 and 1000, not &#39;1100&#39;." in text


@pytest.mark.parametrize("query", ["margin=nan", "margin=much", "days=inf", "margin=-1", "days=4000"])
def test_absurd_numbers_for_the_right_size_are_refused(browser: Browser, query: str) -> None:
    assert browser.get(f"/ui/right-size/group/orders?{query}").status == 400
    assert browser.views.sized is None


def test_the_page_of_a_cache_has_the_command_that_backs_it_up(browser: Browser) -> None:
    assert "cachekeep backup run redis://127.64.0.1:6379 ./backups" in browser.get("/ui/group/orders").text
    assert "Memcached cannot be backed up." in browser.get("/ui/cluster/sessions").text


def test_a_cache_has_charts_of_the_metrics_only_that_it_can_have(browser: Browser) -> None:
    drawn = {a["data-metric"] for _, a in Tags(browser.get("/ui/cluster/sessions").text).tags if "data-metric" in a}
    assert "CacheHitRate" in drawn
    assert "EngineCPUUtilization" not in drawn


@pytest.mark.parametrize(
    "path", ["/ui/right-size/group/none", "/ui/group/none", "/ui/cluster/none", "/ui/watched/none", "/ui/odd/orders"]
)
def test_what_is_not_there_is_said_to_be_not_there(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 404
    assert "That did not work" in answer.text


def test_trouble_with_the_world_is_told_in_a_sentence(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def trouble(region: str) -> list[dict[str, object]]:
        raise WorldError("the store's disk is full; make room")

    monkeypatch.setattr(browser.views, "alarms", trouble)
    answer = browser.get("/ui/alarms")
    assert answer.status == 503
    assert "the store&#39;s disk is full; make room" in answer.text


def test_every_input_has_a_label_and_every_page_its_landmarks(browser: Browser) -> None:
    for path in ("/ui/", "/ui/group/orders", "/ui/cost", "/ui/action/create", "/ui/action/delete?of=group/orders"):
        tags = Tags(browser.get(path).text).tags
        labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
        for tag, attributes in tags:
            if tag == "select" or (tag == "input" and attributes.get("type") != "hidden"):
                assert attributes.get("id") in labelled
        names = [tag for tag, _ in tags]
        assert (names.count("main"), names.count("h1"), names.count("header")) == (1, 1, 1)
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("folder", ["cachekeep/web/static/vendor", "tests/browser/vendor"])
def test_vendored_files_are_those_that_their_list_names(folder: str) -> None:
    place = Path(__file__).parents[3] / folder
    rows = re.findall(r"^\| (\S+) \| (.*) \| (.*) \| ([0-9a-f]{64}) \|$", (place / "README.md").read_text(), re.M)
    assert {name for name, *_ in rows} == {file.name for file in place.iterdir() if file.suffix in (".js", ".css")}
    for name, package, licence, digest in rows:
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest
        assert re.search(r" \d+\.\d+\.\d+ ", package)
        assert any(file.name in licence for file in place.glob("*.LICENSE"))


def test_snippets_name_the_endpoint_in_five_languages() -> None:
    for texts in (snippets("h:1"), snippets("h:1", clustered=True), snippets("h:1", memcached=True)):
        assert len(texts) == 5
        for text in texts.values():
            assert "h" in text
            assert "{{" not in text


def serverless(name: str = "carts") -> dict[str, object]:
    """The row of the status page of what runs a serverless cache."""
    return group(f"serverless--{name}", serverless=name, cluster_mode="enabled", primary_endpoint=None,
                 configuration_endpoint="127.64.0.9:6379")  # fmt: skip


def test_a_serverless_cache_is_shown_by_its_own_name(browser: Browser) -> None:
    browser.views.groups.append(serverless())
    rows = browser.get("/ui/rows").text
    assert 'href="/ui/serverless/carts"' in rows
    assert "serverless cache" in rows
    page = browser.get("/ui/serverless/carts").text
    assert "carts-001/0001" in page
    for text in (rows, page.replace('data-resource="serverless--carts"', "")):
        assert "serverless--" not in text
    assert browser.get("/ui/serverless/carts/live").status == 200
    assert browser.get("/ui/group/serverless--carts").status == 404
    assert browser.get("/ui/serverless/none").status == 404


def test_who_a_cache_asks_for_and_its_encryption_are_shown(browser: Browser) -> None:
    assert "no TLS · open: no users, no token" in browser.get("/ui/group/orders").text
    browser.views.groups = [group(tls="required", guard="users of staff")]
    page = browser.get("/ui/group/orders").text
    assert "TLS required · users of staff" in page
    assert "cachekeep backup run rediss://127.64.0.1:6379 ./backups" in page


def test_snapshots_are_listed_on_their_page_and_on_that_of_their_cache(browser: Browser) -> None:
    for path in ("/ui/backups", "/ui/group/orders"):
        page = browser.get(path).text
        assert "nightly" in page
        assert "the daily window" in page
    assert "nightly" not in browser.get("/ui/cluster/sessions").text
