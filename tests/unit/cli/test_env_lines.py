"""The lines of `cachekeep env`, as a shell reads them."""

from __future__ import annotations

import subprocess

from cachekeep.cli.env import OVERRULING, lines
from cachekeep.credentials import AccessKey

URL = "http://127.0.0.1:8600"


def evaluated(environment: dict[str, str], spelled: str = "secret") -> dict[str, str]:
    """The environment of a shell that ran our lines in this one."""
    script = "\n".join(lines(URL, "eu-west-1", AccessKey("AKID", spelled), environment)) + "\nenv -0"
    done = subprocess.run(["/bin/sh", "-euc", script], env=environment, capture_output=True, check=True)
    return dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)


def test_clients_find_endpoint_region_and_keys() -> None:
    after = evaluated({})
    for service in ("ELASTICACHE", "CLOUDWATCH", "STS", "RESOURCE_GROUPS_TAGGING_API"):
        assert after[f"AWS_ENDPOINT_URL_{service}"] == URL
    assert after["AWS_REGION"] == after["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert (after["AWS_ACCESS_KEY_ID"], after["AWS_SECRET_ACCESS_KEY"]) == ("AKID", "secret")


def test_a_secret_with_signs_of_the_shell_arrives_whole() -> None:
    secret = "a'b\"c $(touch x) `y` \\ z+/="
    assert evaluated({}, secret)["AWS_SECRET_ACCESS_KEY"] == secret


def test_what_would_overrule_the_keys_is_unset() -> None:
    after = evaluated(dict.fromkeys(OVERRULING, "x"))
    assert not set(OVERRULING) & set(after)


def test_a_proxy_is_not_asked_for_our_address() -> None:
    after = evaluated({"http_proxy": "http://proxy:3128", "no_proxy": "example.org"})
    assert after["no_proxy"] == after["NO_PROXY"] == "example.org,127.0.0.1"
    assert "no_proxy" not in evaluated({})
    kept = evaluated({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "localhost,127.0.0.1"})
    assert kept["no_proxy"] == "localhost,127.0.0.1"
