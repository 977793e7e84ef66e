"""What `cachekeep topics` prints, and what it refuses."""

from __future__ import annotations

import pytest

from cachekeep.cli.console import print_lines
from cachekeep.cli.refusal import Refused
from cachekeep.cli.topics import added_lines, lines_of, result_lines, subscriber

ARN = "arn:aws:sns:eu-west-1:000000000000:ops"
TOPIC = {
    "name": "ops",
    "arn": ARN,
    "subscriptions": [{"id": "1a", "channel": "webhook", "endpoint": "https://example.com/in"}],
}


def test_topics_are_listed_with_their_arns_and_subscribers() -> None:
    assert lines_of({"topics": [TOPIC]}) == [f"ops  {ARN}", "  1a  webhook  https://example.com/in"]


def test_what_a_mail_server_says_is_never_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    page = {"results": [{"channel": "email", "endpoint": "a@example.com", "problem": "550 \x1b[2J[bold]no[/bold]"}]}
    print_lines(result_lines("ops", page))
    assert capsys.readouterr().out == "email a@example.com: 550 ?[2J[bold]no[/bold]\n"


def test_no_topic_tells_how_to_make_one() -> None:
    assert "cachekeep topics add" in lines_of({"topics": []})[0]


def test_a_new_secret_is_shown_and_an_old_one_is_not() -> None:
    page = {"topic": TOPIC, "subscription": "1a"}
    assert "Signing secret, shown this once: xyz" in added_lines({**page, "secret": "xyz"})
    assert not any("secret" in line for line in added_lines(page))


def test_what_the_service_warns_of_is_told() -> None:
    page = {"topic": TOPIC, "subscription": "1a", "warning": "no mail can be sent yet"}
    assert "Warning: no mail can be sent yet" in added_lines(page)


def test_a_trial_says_who_was_told_and_why_others_were_not() -> None:
    results = [
        {"channel": "webhook", "endpoint": "https://example.com/in", "problem": None},
        {"channel": "command", "endpoint": "/bin/told", "problem": "it ended with status 3"},
    ]
    assert result_lines("ops", {"results": results}) == [
        "webhook https://example.com/in: delivered",
        "command /bin/told: it ended with status 3",
    ]


@pytest.mark.parametrize("given", [(None, None, None), ("http://a/", "a@b", None), ("http://a/", None, "/bin/x")])
def test_exactly_one_subscriber_must_be_named(given: tuple[str | None, str | None, str | None]) -> None:
    with pytest.raises(Refused, match="say one of"):
        subscriber(*given)


def test_the_one_that_is_named_is_taken() -> None:
    assert subscriber(None, "a@b", None) == ("email", "a@b")
