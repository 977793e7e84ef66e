"""Who gets in, for how long, and what cookies and forms must carry."""

from __future__ import annotations

import pytest
from browser import HOST, Browser

from cachekeep.web.attempts import FREE_ATTEMPTS, Attempts
from cachekeep.web.sessions import ABSOLUTE_S, IDLE_S, MOST_PLANS, Plan, Sessions

PAGES = ("/ui", "/ui/", "/ui/rows", "/ui/group/orders", "/ui/group/orders/live", "/ui/action/create", "/ui/cost",
         "/ui/alarms", "/ui/backups")  # fmt: skip


@pytest.mark.parametrize("path", PAGES[1:])
def test_who_is_not_signed_in_is_sent_to_the_form(stranger: Browser, path: str) -> None:
    answer = stranger.get(path)
    assert (answer.status, answer.header("location")) == (303, "/ui/sign-in")


def test_a_fragment_without_session_sends_the_whole_page_to_the_form(stranger: Browser) -> None:
    answer = stranger.get("/ui/rows", hx_request="true")
    assert (answer.status, answer.header("hx-redirect")) == (401, "/ui/sign-in")
    assert stranger.get("/ui/chart?metric=SwapUsage").status == 401


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


def test_each_further_failure_doubles_the_wait() -> None:
    attempts = Attempts(lambda: 0.0)
    waits = []
    for _ in range(FREE_ATTEMPTS + 2):
        attempts.failed("a")
        waits.append(attempts.wait_s("a"))
    assert waits[-4:] == [0.0, 2.0, 4.0, 8.0]
    assert attempts.wait_s("b") == 0.0


def test_addresses_that_are_remembered_are_bounded() -> None:
    attempts = Attempts(lambda: 0.0, most=2)
    for address in ("a", "a", "a", "a", "a", "b", "c"):
        attempts.failed(address)
    assert attempts.wait_s("a") == 0.0


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


@pytest.mark.parametrize("token", ["", "x", "ü"])
def test_a_form_without_the_sessions_token_does_nothing(browser: Browser, token: str) -> None:
    for path in ("/ui/region", "/ui/sign-out", "/ui/plan/delete", "/ui/confirm"):
        answer = browser.post(path, {"csrf": token, "region": "eu-west-1", "of": "group/orders"})
        assert answer.status == 403
        assert "not from your session" in answer.text
    assert not browser.operator.rehearsed
    assert browser.get("/ui/").status == 200


def test_the_token_may_come_in_a_header(browser: Browser) -> None:
    token = browser.hidden("/ui/", "csrf")
    assert browser.post("/ui/region", {"region": "eu-west-1"}, x_csrf_token=token).status == 303
    assert "Caches in eu-west-1" in browser.get("/ui/").text


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
