"""Who gets in, for how long, and what cookies and forms must carry."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest
from browser import FORM, HOST, Answer, Browser, Message, arriving

from cachekeep.web import loopback_hosts
from cachekeep.web.attempts import FREE_ATTEMPTS, LONGEST_SHARED_WAIT_S, LONGEST_WAIT_S, Attempts, sources_of
from cachekeep.web.sessions import ABSOLUTE_S, IDLE_S, MOST_PLANS, PLAN_S, Plan, Sessions

PAGES = ("/ui", "/ui/", "/ui/rows", "/ui/group/orders", "/ui/group/orders/live", "/ui/action/create", "/ui/cost",
         "/ui/alarms", "/ui/backups")  # fmt: skip


@pytest.mark.parametrize("path", PAGES[1:])
def test_who_is_not_signed_in_is_sent_to_the_form(stranger: Browser, path: str) -> None:
    answer = stranger.get(path)
    assert (answer.status, answer.header("location")) == (303, "/ui/sign-in")


def test_a_fragment_without_session_sends_the_whole_page_to_the_form(stranger: Browser) -> None:
    answer = stranger.get("/ui/rows", hx_request="true")
    assert (answer.status, answer.header("hx-redirect")) == (401, "/ui/sign-in")
    assert stranger.get("/ui/chart?metric=SwapUsage", hx_request="true").header("hx-redirect") == "/ui/sign-in"


def test_the_right_key_gets_in_and_signing_out_ends_it(stranger: Browser) -> None:
    assert stranger.sign_in().header("location") == "/ui/"
    cookie = stranger.cookie
    assert stranger.get("/ui/").status == 200
    assert stranger.send("/ui/sign-out").header("location") == "/ui/sign-in"
    stranger.cookie = cookie
    assert stranger.get("/ui/").status == 303


def test_a_wrong_secret_is_refused_without_a_session(stranger: Browser) -> None:
    answer = stranger.sign_in("wrong")
    assert (answer.status, answer.header("set-cookie")) == (403, "")
    assert "is wrong" in answer.text
    assert 'value="wrong"' not in answer.text


def test_the_cookie_is_closed_to_scripts_and_other_sites(stranger: Browser) -> None:
    cookie = stranger.sign_in().header("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/ui" in cookie
    assert "Secure" not in cookie


def test_over_https_the_cookie_is_secure(stranger: Browser) -> None:
    form = {"access_key": "AKIA1", "secret": "right"}
    assert "Secure" in stranger.post("/ui/sign-in", form, scheme="https").header("set-cookie")


def test_after_some_failures_even_the_right_key_waits(stranger: Browser) -> None:
    for _ in range(FREE_ATTEMPTS):
        assert stranger.sign_in("wrong").status == 403
    answer = stranger.sign_in()
    assert (answer.status, answer.header("retry-after")) == (429, "2")
    stranger.time += 2
    assert stranger.sign_in().status == 303


def test_forms_that_end_together_are_counted_one_by_one(stranger: Browser) -> None:
    async def all_at_once() -> list[Answer]:
        gate = asyncio.Event()
        bodies = [urlencode({"access_key": "AKIA1", "secret": f"guess {n}"}).encode() for n in range(30)]
        asked = [stranger.ask("POST", "/ui/sign-in", FORM, arriving(body, gate)) for body in bodies]
        async with asyncio.TaskGroup() as tasks:
            begun = [tasks.create_task(ask) for ask in asked]
            await asyncio.sleep(0)  # every one is half there
            gate.set()
        return [task.result() for task in begun]

    statuses = sorted(answer.status for answer in asyncio.run(all_at_once()))
    assert statuses == [403] * FREE_ATTEMPTS + [429] * (30 - FREE_ATTEMPTS)
    assert len(stranger.operator.verified) == FREE_ATTEMPTS


def test_each_further_failure_doubles_the_wait() -> None:
    attempts = Attempts(lambda: 0.0)
    address, key = sources_of("192.0.2.1", "AKIA1")
    waits = []
    for _ in range(FREE_ATTEMPTS + 2):
        attempts.failed(address, key)
        waits.append(attempts.wait_s(address))
    assert waits[-4:] == [0.0, 2.0, 4.0, 8.0]
    assert attempts.wait_s(*sources_of("192.0.2.2", "AKIA2")) == 0.0


def test_addresses_of_this_machine_are_one(stranger: Browser) -> None:
    for number in range(FREE_ATTEMPTS):
        stranger.address = f"127.0.0.{number + 1}"
        assert stranger.sign_in("wrong", f"key-{number}").status == 403
    for address in ("127.9.9.9", "::1", "::ffff:127.0.0.1", ""):
        stranger.address = address
        assert stranger.sign_in("wrong", "another").status == 429


def test_tries_of_one_key_are_counted_wherever_they_come_from(stranger: Browser) -> None:
    for number in range(FREE_ATTEMPTS):
        stranger.address = f"192.0.2.{number + 1}"
        assert stranger.sign_in("wrong").status == 403
    stranger.address = "192.0.2.99"
    assert stranger.sign_in().status == 429
    assert stranger.sign_in("wrong", "AKIA2").status == 403


def test_nobody_can_lock_the_owner_out_for_long() -> None:
    attempts = Attempts(lambda: 0.0)
    here, far = sources_of("127.0.0.1", "AKIA1"), sources_of("192.0.2.1", "AKIA1")
    for _ in range(40):
        attempts.failed(*here)
        attempts.failed(*far)
    assert attempts.wait_s(*here) == LONGEST_SHARED_WAIT_S
    assert attempts.wait_s(*far) == LONGEST_WAIT_S
    assert attempts.wait_s(*sources_of("192.0.2.2", "AKIA1")) == LONGEST_SHARED_WAIT_S


def test_sources_that_are_remembered_are_bounded() -> None:
    attempts = Attempts(lambda: 0.0, most=2)
    first, _ = sources_of("192.0.2.1", "")
    for _ in range(FREE_ATTEMPTS):
        attempts.failed(first)
    assert attempts.wait_s(first) > 0
    attempts.failed(*sources_of("192.0.2.2", "x" * 10_000))
    assert attempts.wait_s(first) == 0.0
    assert len(sources_of("192.0.2.2", "x" * 10_000)[1].name) < 200


def test_a_session_ends_by_idling(browser: Browser) -> None:
    browser.time += IDLE_S - 1
    assert browser.get("/ui/").status == 200
    browser.time += IDLE_S + 1
    assert browser.get("/ui/").status == 303


def test_what_a_page_fetches_by_itself_keeps_no_session_alive(browser: Browser) -> None:
    browser.time += IDLE_S - 1
    assert browser.get("/ui/rows", hx_request="true").status == 200
    browser.time += 2
    assert browser.get("/ui/").status == 303


def test_a_session_in_use_ends_by_age() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    token, _ = sessions.begin("AKIA1", "us-east-1")
    while now < ABSOLUTE_S:
        assert sessions.find(token) is not None
        now += IDLE_S / 2
    now += 1
    assert sessions.find(token) is None


def test_sessions_and_plans_are_bounded() -> None:
    sessions = Sessions(lambda: 0.0, most=2)
    tokens = [sessions.begin("AKIA1", "us-east-1")[0] for _ in range(3)]
    assert [sessions.find(token) is not None for token in tokens] == [False, True, True]
    session = sessions.find(tokens[2])
    assert session is not None
    for _ in range(MOST_PLANS + 5):
        session.keep_plan(Plan("delete", "", "us-east-1", {}, {}, {}))
    assert len(session.plans) == MOST_PLANS


def test_a_plan_is_kept_for_ten_minutes() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    token, session = sessions.begin("AKIA1", "us-east-1")
    plan = session.keep_plan(Plan("delete", "", "us-east-1", {}, {}, {}))
    now = PLAN_S
    sessions.find(token)
    assert session.find_plan(plan) is not None
    now += 1
    sessions.find(token)
    assert session.find_plan(plan) is None
    assert session.find_plan("guessed") is None
    assert not session.plans


@pytest.mark.parametrize("token", ["", "x", "ü"])
def test_a_form_without_the_sessions_token_does_nothing(browser: Browser, token: str) -> None:
    for path in ("/ui/region", "/ui/sign-out", "/ui/plan/delete", "/ui/confirm"):
        answer = browser.post(path, {"csrf": token, "region": "eu-west-1", "of": "group/orders"})
        assert answer.status == 403
        assert "not from your session" in answer.text
    assert not browser.operator.rehearsed
    assert browser.get("/ui/").status == 200


def test_an_unknown_region_is_refused(browser: Browser) -> None:
    assert browser.send("/ui/region", region="<b>").status == 400


@pytest.mark.parametrize("path", PAGES)
def test_a_foreign_host_name_is_not_answered(browser: Browser, path: str) -> None:
    for host in ("evil.example", "127.0.0.1:1", f"{HOST}.evil.example", ""):
        answer = browser.get(path, host=host)
        assert answer.status == 421
        assert "orders" not in answer.text


def test_forms_of_other_origins_are_refused(stranger: Browser) -> None:
    form = {"access_key": "AKIA1", "secret": "right"}
    assert stranger.post("/ui/sign-in", form, origin="http://evil.example").status == 403
    assert stranger.post("/ui/sign-in", form, origin="null").status == 403
    assert stranger.post("/ui/sign-in", form, sec_fetch_site="cross-site").status == 403
    assert stranger.post("/ui/sign-in", form, origin=f"http://{HOST}", sec_fetch_site="same-origin").status == 303


def test_long_or_foreign_bodies_are_refused(stranger: Browser) -> None:
    assert stranger.post("/ui/sign-in", {"access_key": "x" * 70000}).status == 413
    assert stranger.post("/ui/sign-in", {}, content_type="text/plain").status == 415


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/confirm"])
def test_a_form_that_does_not_arrive_ends_with_its_connection(path: str) -> None:
    browser = Browser(form_deadline_s=0.02)
    browser.sign_in()
    never = asyncio.run(_half_sent(browser, path))
    assert (never.status, never.header("connection")) == (408, "close")
    assert "did not arrive within" in never.text


async def _half_sent(browser: Browser, path: str) -> Answer:
    return await browser.ask("POST", path, FORM, arriving(b"access_key=AKIA1", asyncio.Event()))


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/confirm"])
def test_a_browser_that_goes_away_meanwhile_is_no_error(browser: Browser, path: str) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    assert asyncio.run(browser.ask("POST", path, FORM, gone)).status == 400


def test_services_on_two_ports_have_cookies_of_their_own(stranger: Browser) -> None:
    assert stranger.sign_in().header("set-cookie").startswith("cachekeep_session_6380=")


def test_the_usual_port_may_be_left_out_of_the_host() -> None:
    assert {"localhost", "localhost:80", "127.0.0.1", "[::1]"} <= loopback_hosts(80)
    assert loopback_hosts(8600) == {"127.0.0.1:8600", "localhost:8600", "[::1]:8600"}
