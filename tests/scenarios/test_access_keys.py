"""Keys with policies on a real service: what each may do on every surface, live changes, rotation, the trail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cachekeep.access.trail_file import FILE_NAME, read_trail
from cachekeep.credentials import AccessKey

from .conftest import Service
from .test_authentication import send, signed_request

ARN = "arn:aws:elasticache:us-east-1:000000000000:"


class Owner:
    """The owner of an installation at the command line."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self._folder = service, folder

    def run(self, *arguments: str, code: int = 0) -> str:
        made = subprocess.run(
            [sys.executable, "-m", "cachekeep", *arguments],
            env=self.service.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == code, made.stderr
        return made.stdout if code == 0 else made.stderr

    def policy(self, *statements: dict[str, Any]) -> str:
        path = self._folder / "policy.json"
        path.write_text(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))
        return str(path)

    def add(self, name: str, *statements: dict[str, Any]) -> AccessKey:
        made = json.loads(self.run("keys", "add", name, "--policy", self.policy(*statements), "--json"))
        return AccessKey(made["key"], made["secret"])

    def client(self, key: AccessKey, name: str = "elasticache", region: str = "us-east-1") -> Any:
        return boto3.client(
            name,
            endpoint_url=self.service.url,
            region_name=region,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=Config(retries={"max_attempts": 1}),
        )


@pytest.fixture
def owner(service: Service, tmp_path: Path) -> Owner:
    """Of the shared service: the names of users and of what they make are the test's own."""
    return Owner(service, tmp_path)


@pytest.fixture
def lone_owner(new_service: Callable[..., Service], tmp_path: Path) -> Owner:
    return Owner(new_service().start(), tmp_path)


def allow(action: str | list[str], resource: str | list[str] = "*", **others: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | others


def denied(ask: Callable[[], Any]) -> str:
    """The message of an AccessDenied."""
    with pytest.raises(ClientError) as caught:
        ask()
    assert caught.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), caught.value
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(caught.value.response["Error"]["Message"])


def _group(name: str, **others: Any) -> dict[str, Any]:
    return {"CacheParameterGroupName": name, "CacheParameterGroupFamily": "valkey8", "Description": "x"} | others


def test_a_key_may_do_what_its_policy_allows_and_nothing_else(owner: Owner) -> None:
    key = owner.add(
        "ci",
        allow(["elasticache:Describe*", "elasticache:List*"]),
        allow("elasticache:*CacheParameterGroup", ARN + "parametergroup:ci-*"),
        {"Effect": "Deny", "Action": "elasticache:Delete*", "Resource": ARN + "parametergroup:ci-keep"},
    )
    ec = owner.client(key)
    assert ec.describe_replication_groups()["ReplicationGroups"] == []
    ec.create_cache_parameter_group(**_group("ci-one"))
    ec.create_cache_parameter_group(**_group("CI-Keep"))
    who = "User: arn:aws:iam::000000000000:user/ci is not authorized to perform: elasticache:"
    what = "CreateCacheParameterGroup"
    assert denied(lambda: ec.create_cache_parameter_group(**_group("other"))) == (
        f"{who}{what} on resource: {ARN}parametergroup:other "
        f"because no identity-based policy allows the elasticache:{what} action"
    )
    assert denied(lambda: ec.delete_cache_parameter_group(CacheParameterGroupName="ci-KEEP")) == (
        f"{who}DeleteCacheParameterGroup on resource: {ARN}parametergroup:ci-keep "
        "with an explicit deny in an identity-based policy"
    )
    ec.delete_cache_parameter_group(CacheParameterGroupName="ci-one")
    identity = owner.client(key, "sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::000000000000:user/ci"
    assert identity["UserId"].startswith("AIDA")


def test_tags_and_regions_decide(owner: Owner) -> None:
    key = owner.add(
        "team",
        allow("elasticache:Create*", Condition={"StringEquals": {"aws:RequestTag/team": "a"}}),
        allow("elasticache:*", Condition={"StringEquals": {"aws:ResourceTag/team": "a"}}),
        {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}},
        },
    )
    root, ec = owner.service.client(), owner.client(key)
    root.create_cache_parameter_group(**_group("theirs", Tags=[{"Key": "team", "Value": "b"}]))
    ec.create_cache_parameter_group(**_group("ours", Tags=[{"Key": "team", "Value": "a"}]))
    denied(lambda: ec.create_cache_parameter_group(**_group("else")))
    ec.describe_cache_parameters(CacheParameterGroupName="ours", MaxRecords=20)
    denied(lambda: ec.describe_cache_parameters(CacheParameterGroupName="theirs", MaxRecords=20))
    # It cannot give itself what is not its own.
    arn = ARN + "parametergroup:theirs"
    denied(lambda: ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "team", "Value": "a"}]))
    elsewhere = owner.client(key, region="eu-west-1")
    tagged = _group("ours", Tags=[{"Key": "team", "Value": "a"}])
    assert "explicit deny" in denied(lambda: elsewhere.create_cache_parameter_group(**tagged))


def _page(owner: Owner, key: AccessKey, path: str, body: bytes = b"", scope: str = "cachekeep") -> tuple[int, str]:
    method = "POST" if body else "GET"
    reply = send(owner.service, signed_request(owner.service, body, key=key, scope=scope, method=method, path=path))
    return reply.status, reply.text


def test_no_surface_lets_a_key_do_what_its_policy_does_not_allow(owner: Owner) -> None:
    key = owner.add("narrow", allow("elasticache:DescribeReplicationGroups"))
    ec, cloudwatch = owner.client(key), owner.client(key, "cloudwatch")
    ec.describe_replication_groups()
    denied(lambda: ec.describe_cache_clusters())
    assert "cloudwatch:ListMetrics on resource: *" in denied(lambda: cloudwatch.list_metrics())
    denied(lambda: cloudwatch.delete_alarms(AlarmNames=["x"]))
    denied(lambda: cloudwatch.tag_resource(ResourceARN="arn:aws:cloudwatch:us-east-1:000000000000:alarm:x", Tags=[]))
    for path in ("status", "journal?name=x", "health?name=x", "cost", "right-size?name=x", "topics", "watch"):
        status, text = _page(owner, key, f"/_cachekeep/{path}")
        assert (status, json.loads(text)["code"]) == (403, "AccessDenied"), path
    wish = b'{"action":"add","name":"t","channel":"command","endpoint":"/bin/true"}'
    status, text = _page(owner, key, "/_cachekeep/topics", wish)
    assert (status, "cachekeep:ChangeTopics" in text) == (403, True)
    status, text = _page(owner, key, "/metrics")
    assert (status, "AccessDenied" in text) == (401, True)
    # A rehearsal of what it may not do, under either scope, and the query form of a request.
    delete = b"Action=DeleteReplicationGroup&Version=2015-02-02&ReplicationGroupId=x"
    for scope in ("cachekeep", "elasticache"):
        rehearse = {"x-cachekeep-rehearse": "true", "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        reply = send(owner.service, signed_request(owner.service, delete, key=key, scope=scope, headers=dict(rehearse)))
        assert (reply.status, reply.code) == (403, "AccessDenied")
    status, text = _page(owner, key, f"/?{delete.decode()}", scope="elasticache")
    assert (status, "<Code>AccessDenied</Code>" in text) == (403, True)


def test_the_dashboard_is_closed_to_a_key_that_may_not_see_it(owner: Owner) -> None:
    from urllib.parse import urlencode
    from urllib.request import HTTPCookieProcessor, build_opener

    def sign_in(key: AccessKey) -> tuple[str, Any]:
        browser = build_opener(HTTPCookieProcessor())
        browser.addheaders = [("Host", f"127.0.0.1:{owner.service.port}")]
        form = urlencode({"access_key": key.id, "secret": key.secret}).encode()
        try:
            with browser.open(f"{owner.service.url}/ui/sign-in", form, timeout=20) as answer:
                return str(answer.geturl()), browser
        except OSError as error:
            return str(error), browser

    narrow = owner.add("unseeing", allow("elasticache:*"))
    assert "403" in sign_in(narrow)[0]
    seer = owner.add("seer", allow("cachekeep:GetDashboard"))
    url, browser = sign_in(seer)
    assert url.endswith("/ui/")
    owner.run("keys", "remove", "seer")
    with browser.open(f"{owner.service.url}/ui/", timeout=20) as answer:
        assert answer.geturl().endswith("/ui/sign-in")


@pytest.mark.slow
def test_changes_hold_without_a_restart(lone_owner: Owner) -> None:
    owner = lone_owner
    key = owner.add("ops", allow("elasticache:Describe*"))
    ec = owner.client(key)
    ec.describe_cache_clusters()
    owner.run("keys", "policy", "ops", owner.policy(allow("elasticache:List*")))
    denied(lambda: ec.describe_cache_clusters())
    owner.run("keys", "policy", "ops", "--full")
    ec.describe_cache_clusters()
    made = json.loads(owner.run("keys", "rotate", "ops", "--overlap", "1", "--json"))
    second = owner.client(AccessKey(made["key"], made["secret"]))
    second.describe_cache_clusters()
    ec.describe_cache_clusters()
    owner.run("keys", "remove", "ops", "--key", key.id)
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        ec.describe_cache_clusters()
    second.describe_cache_clusters()
    old = owner.service.client()
    made = json.loads(owner.run("keys", "rotate", "root", "--overlap", "0", "--json"))
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        old.describe_cache_clusters()
    assert owner.client(AccessKey(made["key"], made["secret"]), "sts").get_caller_identity()["Arn"].endswith(":root")
    assert made["secret"] not in owner.run("keys")
    assert made["secret"] in owner.run("keys", "list", "--secrets")
    owner.run("status")
    assert "matches no operation" in owner.run("keys", "add", "x", "--policy",
                                               owner.policy(allow("elasticache:Nothing")), code=2)  # fmt: skip


def test_the_trail_tells_who_did_what_and_holds_no_secret(lone_owner: Owner) -> None:
    owner = lone_owner
    key = owner.add("ci", allow("elasticache:*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
    ec = owner.client(key)
    ec.create_cache_parameter_group(**_group("one"))
    with pytest.raises(ClientError, match="AlreadyExists"):
        ec.create_cache_parameter_group(**_group("one"))
    with pytest.raises(ClientError):
        ec.create_user(UserId="u", UserName="u", Engine="valkey", AccessString="on >hunter2hunter2hunter2",
                       Passwords=["hunter2hunter2hunter2"])  # fmt: skip
    ec.describe_cache_clusters()
    denied(lambda: owner.client(key, "cloudwatch").list_metrics())
    bad = owner.client(AccessKey(key.id, "wrong-secret"))
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        bad.describe_cache_clusters()
    pages = list(read_trail(owner.service.state_dir))
    told = [(page["user"], page["action"].partition(":")[2], page["outcome"]) for page in pages]
    assert told[0] == ("owner", "AddKey", "ok")
    assert told[1] == ("ci", "CreateCacheParameterGroup", "ok")
    assert told[2] == ("ci", "CreateCacheParameterGroup", "CacheParameterGroupAlreadyExists")
    assert told[3][:2] == ("ci", "CreateUser")
    assert told[4:] == [("ci", "ListMetrics", "AccessDenied"), ("", "", "SignatureDoesNotMatch")]
    assert (pages[1]["source"], pages[1]["resources"], pages[1]["key"]) == (
        "127.0.0.1", [ARN + "parametergroup:one"], key.id,
    )  # fmt: skip
    assert pages[1]["parameters"]["CacheParameterGroupFamily"] == "valkey8"
    text = (owner.service.state_dir / FILE_NAME).read_text()
    assert "hunter2" not in text
    assert key.secret not in text
    shown = owner.run("audit", "--user", "ci", "--action", "create")
    assert shown.count("CreateCacheParameterGroup") == 2
    assert "AccessDenied" in owner.run("audit", "--refused")
