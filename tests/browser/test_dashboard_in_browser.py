"""The dashboard in Chromium: the story of a group from its creation to its end, and what every page must be like.

The tests of this file run in this order on one service: what one leaves behind the next one finds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ..scenarios.conftest import connect, gone, group_status
from .chromium import ENTER, TAB, Chromium
from .conftest import GROUP, REGION, Dashboard

# Whether a canvas has pixels in more than one colour.
_DRAWN = """
const canvas = document.querySelector('[data-metric="' + arguments[0] + '"] canvas');
if (!canvas) return false;
const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return new Set(new Uint32Array(pixels.buffer)).size > 3;
"""
# Keeps what is written on each canvas from now on, by metric, and has all of it drawn anew.
_WRITTEN = """
const write = CanvasRenderingContext2D.prototype.fillText;
window.written = {};
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  (window.written[this.canvas.closest('[data-metric]').dataset.metric] ??= []).push(text);
  return write.call(this, text, ...place);
};
document.dispatchEvent(new Event("cachekeep:theme"));
"""
# Asks for the live part of the group's page, whether it has changed or not.
_RENEW = "htmx.ajax('GET', '/ui/group/' + arguments[0] + '/live', {target: '#live', swap: 'outerHTML'})"
PAGES = ("/", f"/group/{GROUP}", "/action/create", f"/action/delete?of=group/{GROUP}", "/alarms", "/backups",
         "/cost", "/cost?node_type=cache.m5.large",
         f"/right-size/group/{GROUP}", "/group/nothing")  # fmt: skip


def test_nobody_gets_in_with_a_wrong_key(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.open(dashboard.service.url)
    assert chromium.until(lambda: chromium.path) == "/ui/sign-in"
    chromium.type("#access_key", dashboard.key.id)
    chromium.type("#secret", "not-the-secret")
    chromium.click("button", "Sign in")
    chromium.until(lambda: chromium.has("The access key ID or its secret is wrong."))
    dashboard.shot(chromium, "wrong key")
    assert chromium.axe() == []
    chromium.open(dashboard.url("/alarms"))
    assert chromium.path == "/ui/sign-in"
    # A refused key is an error for the console, too.
    assert [text for text in chromium.complaints() if " 403 " not in text] == []


def test_the_keyboard_is_enough_to_sign_in(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.open(dashboard.url("/sign-in"))
    assert chromium.script("return document.activeElement.id") == "access_key"
    chromium.press(*dashboard.key.id, TAB, *dashboard.key.secret, ENTER)
    chromium.until(lambda: chromium.path == "/ui/")
    assert chromium.has("No caches yet.")
    chromium.press(TAB)
    assert chromium.script("return document.activeElement.className") == "skip"


def test_a_group_is_created_after_its_plan_was_shown(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.click("a", "Create replication group")
    chromium.type("#field-id", GROUP)
    chromium.click("button", "Show the plan")
    chromium.until(lambda: chromium.path == "/ui/plan/create")
    assert chromium.texts(".fault") == []
    assert chromium.texts("h1") == [f"Plan: Create replication group {GROUP} in {REGION}"]
    assert chromium.texts("ol li")
    ec = dashboard.service.client()
    assert gone(ec, "group", GROUP)  # a plan does nothing
    dashboard.shot(chromium, "plan of a creation")
    chromium.click("button", "Create replication group")
    chromium.until(lambda: chromium.has(": accepted."))
    # The page renews itself: nobody reloads it.
    chromium.until(lambda: "available" in chromium.texts("#rows td"), 60)
    assert group_status(ec, GROUP) == "available"
    dashboard.shot(chromium, "overview")


def test_charts_are_drawn_with_bands(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.devtools("Emulation.setTimezoneOverride", timezoneId="America/New_York")
    chromium.open(dashboard.url(f"/group/{GROUP}"))
    verdicts = "#live section[aria-labelledby=verdicts] tbody th"
    chromium.until(lambda: len(chromium.texts(verdicts)) == 16)
    # Only what is on the screen is fetched.
    chromium.script("document.querySelector('[data-metric=CPUUtilization]').scrollIntoView()")
    chromium.until(lambda: chromium.script(_DRAWN, "CPUUtilization"))
    chromium.click('[data-metric="CPUUtilization"] summary')
    caption = chromium.until(lambda: chromium.texts('[data-metric="CPUUtilization"] caption'))[0]
    assert "warning from 60 % to 80 %, risk from 80 %" in caption
    heads = chromium.texts('[data-metric="CPUUtilization"] thead th')
    assert heads == ["Time (UTC)", f"{GROUP}-001", f"{GROUP}-002"]
    # In UTC wherever the reader is, so that it can be laid beside the events.
    newest = chromium.texts('[data-metric="CPUUtilization"] [data-table] tbody th')[0]
    drawn_at = datetime.strptime(newest, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - drawn_at).total_seconds()) < 3600
    legend = "return getComputedStyle(document.querySelector('.u-legend th')).borderBottomWidth"
    assert chromium.script(legend) == "0px"
    # Redis says nothing of fragmentation that matters below 64 MiB: the chart says why it has no verdict.
    chromium.script("document.querySelector('[data-metric=MemoryFragmentationRatio]').scrollIntoView()")
    why = "[data-metric=MemoryFragmentationRatio] p[data-why]"
    chromium.until(lambda: chromium.texts(why) != [""])
    assert "64 MiB" in chromium.texts(why)[0]
    chromium.script("document.querySelector('[data-metric=SwapUsage]').scrollIntoView()")
    chromium.until(lambda: chromium.script("return !!document.querySelector('[data-metric=SwapUsage] canvas')"))
    chromium.script(_WRITTEN)
    ticks = chromium.until(lambda: chromium.script("return window.written.SwapUsage"))
    assert [text for text in ticks if "B" in text] == ["0 B", "1 B"]
    times = [text for text in ticks if "B" not in text]
    assert times
    assert all(re.fullmatch(r"[0-2]\d:[0-5]\d|\d{4}-\d\d-\d\d", text) for text in times), times
    dashboard.shot(chromium, "group")
    assert chromium.complaints() == []


def test_a_replica_takes_over_after_the_plan_was_confirmed(chromium: Chromium, dashboard: Dashboard) -> None:
    ec = dashboard.service.client()
    chromium.open(dashboard.url(f"/group/{GROUP}"))
    assert _roles(chromium)[f"{GROUP}-001"] == "primary"
    chromium.click(".actions a", "Fail over")
    chromium.click("button", "Show the plan")
    chromium.until(lambda: chromium.path == "/ui/plan/fail-over")
    dashboard.shot(chromium, "plan of a failover")
    chromium.click("button", "Fail over")
    chromium.until(lambda: chromium.has(": accepted."))
    chromium.until(lambda: _roles(chromium).get(f"{GROUP}-002") == "primary", 60)
    shard = ec.describe_replication_groups(ReplicationGroupId=GROUP)["ReplicationGroups"][0]["NodeGroups"][0]
    endpoint = next(m for m in shard["NodeGroupMembers"] if m["CacheClusterId"] == f"{GROUP}-002")["ReadEndpoint"]
    role: Any = connect(endpoint).role()
    assert role[0] == "master"


def test_every_page_is_accessible_and_keeps_to_the_policy(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.prefer("light")
    found = {}
    for page in PAGES:
        chromium.open(dashboard.url(page))
        found[page] = [*chromium.axe(), *(text for text in chromium.complaints() if " 404 " not in text)]
    assert not any(found.values()), found


def test_texts_can_be_read_in_the_dark(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.prefer("dark")
    found = {}
    for page in ("/", f"/group/{GROUP}", "/action/create", "/group/nothing"):
        chromium.open(dashboard.url(page))
        dashboard.shot(chromium, f"dark {page}")
        found[page] = chromium.axe("color-contrast")
    assert not any(found.values()), found


def test_a_narrow_window_shows_all_of_it(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.resize(400, 900)
    for page in ("/", "/cost?node_type=cache.m5.large", f"/group/{GROUP}"):
        chromium.open(dashboard.url(page))
        assert chromium.script("return document.documentElement.scrollWidth") <= 400
        dashboard.shot(chromium, f"narrow {page}")
        # Nothing has to be moved sideways to be read.
        hidden = "return [...document.querySelectorAll('.wide')].filter(at => at.scrollWidth > at.clientWidth).length"
        assert chromium.script(hidden) == 0
    assert chromium.axe() == []
    chromium.resize(0, 0)


def test_the_chosen_theme_outlives_the_page(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.prefer("light")
    chromium.open(dashboard.url("/"))
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = chromium.script(ground)
    chromium.click("[data-theme-toggle]")
    dark = chromium.script(ground)
    assert dark != light
    chromium.open(dashboard.url("/alarms"))
    assert chromium.script(ground) == dark


def test_a_renewal_keeps_the_place_of_the_reader(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.resize(720, 900)
    chromium.open(dashboard.url(f"/group/{GROUP}"))
    table = "document.getElementById('topology-table')"
    chromium.until(lambda: chromium.script(f"return window.htmx && {table} && {table}.tabIndex === 0"))
    chromium.script(f"{table}.scrollLeft = 40; {table}.focus(); window.former = {table}; {_RENEW}", GROUP)
    chromium.until(lambda: chromium.script(f"return {table} !== window.former"))
    chromium.until(lambda: chromium.script(f"return {table} === document.activeElement && {table}.scrollLeft === 40"))
    chromium.resize(0, 0)


def test_what_cannot_be_renewed_is_said_to_be_old(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.open(dashboard.url(f"/group/{GROUP}"))
    chromium.devtools("Network.enable")
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    chromium.devtools("Network.emulateNetworkConditions", offline=True, **network)
    chromium.until(lambda: "does not answer" in "".join(chromium.texts("#stale")))
    assert chromium.axe() == []
    chromium.devtools("Network.emulateNetworkConditions", offline=False, **network)
    chromium.until(lambda: chromium.script("return document.getElementById('stale').hidden"))

    def asked_for_nothing() -> bool:
        # Each time anew: the page renews itself in between, and then takes it back.
        chromium.script(_RENEW, "nothing")
        return chromium.has("This is not there any more.")

    chromium.until(asked_for_nothing)
    chromium.complaints()  # of the network, wanted here


def test_a_group_is_deleted_only_when_its_name_was_typed(chromium: Chromium, dashboard: Dashboard) -> None:
    ec = dashboard.service.client()
    chromium.until(lambda: group_status(ec, GROUP) == "available", 60)
    chromium.open(dashboard.url(f"/group/{GROUP}"))
    chromium.click(".actions a", "Delete")
    chromium.click("button", "Show the plan")
    chromium.type("#typed", "another")
    chromium.click("button", "Delete")
    chromium.until(lambda: chromium.has("nothing was done"))
    assert group_status(ec, GROUP) == "available"
    chromium.type("#typed", GROUP)
    dashboard.shot(chromium, "deletion confirmed")
    chromium.click("button", "Delete")
    chromium.until(lambda: gone(ec, "group", GROUP), 60)
    chromium.until(lambda: chromium.has("No caches yet."))


def test_signing_out_ends_the_session(chromium: Chromium, dashboard: Dashboard) -> None:
    chromium.click("button", "Sign out")
    chromium.until(lambda: chromium.path == "/ui/sign-in")
    chromium.open(dashboard.url("/"))
    assert chromium.path == "/ui/sign-in"


def _roles(chromium: Chromium) -> dict[str, str]:
    """By cluster, as the topology shows them now."""
    rows = chromium.script(
        "return [...document.querySelectorAll('#live section[aria-labelledby=topology] tbody tr')]"
        ".map(row => [row.cells[0].innerText, row.cells[2].innerText])"
    )
    return {name.partition("/")[0]: role for name, role in rows}
