"""The security review as a list: each test is one attempt to get at what is not one's own, on a real service.

What other files try already is not tried again: signatures (test_authentication), policies (test_access_keys), tokens
(test_iam_tokens), rights of users (test_users), bad input and hardly HTTP (test_bad_input, test_raw_http).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import boto3
import botocore.auth
import psutil
import pytest
import valkey
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from cachekeep import credentials
from cachekeep.access import key_changes, key_file
from cachekeep.access.trail_file import read_trail
from cachekeep.app.sources import MOST_CONNECTIONS, MOST_HEAD_BYTES
from cachekeep.credentials import AccessKey
from tests.iam_tokens import make_token

from .attacking import Knocking, ask, attack, engine_secrets, group_of_eve, raw
from .conftest import Service, cluster_status, create_group, group_status, wait_for
from .test_access_keys import ARN, allow, denied
from .test_authentication import send, signed_request
from .test_users import PASSWORDS, Made, nodes_of


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    """Started by somebody whose files everybody may read and write."""
    network = list(loopback_range.subnets(new_prefix=26))[-1]
    it = Service(tmp_path_factory.mktemp("review") / "state", network, CACHEKEEP_AUTH_WITHOUT_TLS="yes")
    before = os.umask(0)
    try:
        it.start()
    finally:
        os.umask(before)
    yield it
    it.dispose()


@pytest.fixture
def ec(guarded: Service) -> Any:
    return guarded.client()


def add_key(service: Service, name: str, *statements: dict[str, Any]) -> AccessKey:
    """As `cachekeep keys add` does it, in a thousandth of the time."""
    key = credentials.new_key()
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    path = service.state_dir / key_file.FILE_NAME
    with key_file.locked(service.state_dir):
        added = key_changes.add(key_file.read(path), name, key_file.Key(key.id, key.secret, time.time()), policy)
        key_file.write(path, added)
    return key


def client_of(service: Service, key: AccessKey) -> Any:
    return boto3.client(
        "elasticache",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(retries={"max_attempts": 1}),
    )


@pytest.fixture
def made(ec: Any) -> Iterator[Made]:
    with ExitStack() as stack:
        yield Made(ec, stack)


def changed(ec: Any, group: str, **params: Any) -> None:
    ec.modify_replication_group(ReplicationGroupId=group, ApplyImmediately=True, **params)
    wait_for(lambda: group_status(ec, group) == "available", 60)


# --- the API and its policies ---


def test_an_address_that_a_header_claims_is_nobodys(guarded: Service) -> None:
    here = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    key = add_key(guarded, "from-afar", here | {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}})
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        claim = {"Content-Type": "application/x-www-form-urlencoded", header: "10.1.1.1"}
        reply = send(guarded, signed_request(guarded, key=key, headers=claim))
        assert (reply.status, reply.code) == (403, "AccessDenied"), header
    written = [line for line in read_trail(guarded.state_dir) if line["user"] == "from-afar"]
    assert [line["source"] for line in written] == ["127.0.0.1"] * 3


def test_another_spelling_of_an_arn_gets_around_no_denial(guarded: Service) -> None:
    root = guarded.client()
    root.create_cache_parameter_group(
        CacheParameterGroupName="kept", CacheParameterGroupFamily="valkey8", Description="x"
    )
    deny = {"Effect": "Deny", "Action": "elasticache:*Tags*", "Resource": ARN + "parametergroup:kept"}
    ec = client_of(guarded, add_key(guarded, "speller", allow("elasticache:*"), deny))
    for partition in ("aws", "aws-cn", "aws-x"):
        for name in ("kept", "KEPT"):
            arn = f"arn:{partition}:elasticache:us-east-1:000000000000:parametergroup:{name}"
            denied(lambda arn=arn: ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "a", "Value": "b"}]))
    assert root.list_tags_for_resource(ResourceName=ARN + "parametergroup:kept")["TagList"] == []


def test_a_snapshot_that_is_denied_is_not_had_by_its_arn(guarded: Service) -> None:
    deny = {"Effect": "Deny", "Action": "*", "Resource": ARN + "snapshot:private"}
    ec = client_of(guarded, add_key(guarded, "copier", allow("elasticache:*"), deny))
    for given in ({"SnapshotName": "private"}, {"SnapshotArns": [ARN + "snapshot:Private"]}):
        wish = {"ReplicationGroupId": "stolen", "ReplicationGroupDescription": "x"} | given
        assert "snapshot:private" in denied(lambda wish=wish: ec.create_replication_group(**wish))
        assert "snapshot:private" in denied(
            lambda given=given: ec.create_cache_cluster(CacheClusterId="stolen", Engine="valkey", **given)
        )


def _page(service: Service, key: AccessKey, path: str, region: str, body: bytes = b"") -> int:
    request = AWSRequest("POST" if body else "GET", f"{service.url}/_cachekeep/{path}", {}, body)
    botocore.auth.SigV4Auth(Credentials(key.id, key.secret), "cachekeep", region).add_auth(request)
    return send(service, request).status


def test_a_region_in_the_query_is_not_believed_where_it_decides_nothing(guarded: Service) -> None:
    here = {"Condition": {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}}
    key = add_key(guarded, "regional", allow("cachekeep:*", **here))
    asked = "?region=us-east-1"
    assert _page(guarded, key, f"health{asked}", "us-east-1") == 200
    assert _page(guarded, key, "topics", "us-east-1") == 200
    # All regions' caches; another region's topics and watched servers.
    assert _page(guarded, key, f"status{asked}", "us-east-1") == 403
    for page in ("topics", "watch"):
        assert _page(guarded, key, page + asked, "eu-west-1") == 403
    wish = b'{"action":"add","name":"t","channel":"command","endpoint":"/bin/true"}'
    assert _page(guarded, key, f"topics{asked}", "eu-west-1", wish) == 403


# --- the HTTP server ---


def test_connections_that_ask_nothing_do_not_use_up_the_service(guarded: Service, ec: Any) -> None:
    half = b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: "
    with ExitStack() as stack:
        for number in range(MOST_CONNECTIONS + 100):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", guarded.port), 20))
            with suppress(ConnectionError):  # it was parted from already
                link.sendall(half if number % 2 else b"")
        assert ec.describe_replication_groups()["ReplicationGroups"] is not None
        assert guarded.process is not None
        process = psutil.Process(guarded.process.pid)

        def held() -> int:
            mine = process.net_connections("tcp4")
            return sum(one.status == "ESTABLISHED" and one.laddr.port == guarded.port for one in mine)

        wait_for(lambda: held() <= MOST_CONNECTIONS)
        assert held() > MOST_CONNECTIONS // 2, "this test opens too few to prove anything"


def test_a_head_without_end_is_not_kept(guarded: Service) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), 20) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            link.sendall(b"a" * MOST_HEAD_BYTES * 1000)


# --- engines ---


def test_a_user_with_all_rights_reads_no_secret_and_changes_no_role(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    create_group(ec, created, name, UserGroupIds=[group_of_eve(made)])
    for endpoint in nodes_of(ec, name):
        # Nobody at all first: what an engine answers without a name.
        for words in (
            "PING",
            "GET x",
            "INFO",
            "CLIENT LIST",
            "ACL WHOAMI",
            "AUTH cachekeep x",
            "HELLO 3 AUTH default x",
        ):
            assert "refused: " in ask(raw(made, endpoint), words), words
        attack(made.client(endpoint, "eve", PASSWORDS[0]), engine_secrets(guarded))


def test_what_clients_left_in_an_open_cache_opens_it_no_more_once_it_is_guarded(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    users = group_of_eve(made)
    create_group(ec, created, name, UserGroupIds=[users])
    changed(ec, name, RemoveUserGroups=True)
    held = []
    for endpoint in nodes_of(ec, name):
        client = made.client(endpoint)
        client.execute_command("ACL", "SETUSER", "backdoor", "on", "nopass", "~*", "&*", "+@all")
        held.append(raw(made, endpoint))
        link = client.config_get("masterauth")["masterauth"]
        assert ask(held[-1], f"AUTH cachekeep {link}").startswith("+OK")
    changed(ec, name, UserGroupIdsToAdd=[users])
    for endpoint, connection in zip(nodes_of(ec, name), held, strict=True):
        assert "refused: " in ask(raw(made, endpoint), "AUTH backdoor x")
        assert "refused: " in ask(raw(made, endpoint), f"AUTH cachekeep {link}")
        with pytest.raises((ConnectionError, valkey.ResponseError)):
            connection.execute_command("CONFIG", "GET", "masterauth")
    replica = made.client(nodes_of(ec, name)[1], "eve", PASSWORDS[0])
    wait_for(lambda: replica.info("replication")["master_link_status"] == "up")


def test_the_same_words_in_another_order_take_a_right_away_from_open_connections(
    ec: Any, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    mallory = made.user("on ~* -@all +get", name="mallory")
    create_group(ec, created, name, UserGroupIds=[made.user_group(mallory)], NumCacheClusters=1)
    ec.modify_user(UserId=mallory, AccessString="on ~* -@all +monitor")
    made.user_settled(mallory)
    (endpoint,) = nodes_of(ec, name)
    watcher = raw(made, endpoint)
    assert ask(watcher, f"AUTH mallory {PASSWORDS[0]}").startswith("+OK")
    assert ask(watcher, "MONITOR").startswith("+OK")
    ec.modify_user(UserId=mallory, AccessString="on ~* +monitor -@all")
    made.user_settled(mallory)
    watcher.wait_for_end()


@pytest.mark.slow
def test_there_is_no_moment_in_which_a_guarded_node_is_open(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    users, others = group_of_eve(made), group_of_eve(made)
    with Knocking(guarded) as knocking:
        first = {"EngineVersion": "8.1", "Engine": "valkey", "AutomaticFailoverEnabled": True}
        create_group(ec, created, name, UserGroupIds=[users], **first)
        ec.increase_replica_count(ReplicationGroupId=name, NewReplicaCount=2, ApplyImmediately=True)
        wait_for(lambda: group_status(ec, name) == "available", 60)
        ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
        wait_for(lambda: group_status(ec, name) == "available", 60)
        ec.reboot_cache_cluster(CacheClusterId=f"{name}-001", CacheNodeIdsToReboot=["0001"])
        wait_for(lambda: cluster_status(ec, f"{name}-001") == "available", 60)
        for pid in guarded.engines(f"{name}-002"):
            os.kill(pid, signal.SIGKILL)
        changed(ec, name, UserGroupIdsToAdd=[others], UserGroupIdsToRemove=[users])
        changed(ec, name, EngineVersion="9.1", CacheParameterGroupName="default.valkey9")
        ec.create_snapshot(ReplicationGroupId=name, SnapshotName=name)
        wait_for(lambda: ec.describe_snapshots(SnapshotName=name)["Snapshots"][0]["SnapshotStatus"] == "available", 60)
        create_group(ec, created, f"{name}-r", SnapshotName=name, UserGroupIds=[users])
        ec.create_replication_group(
            ReplicationGroupId=f"{name}-c", ReplicationGroupDescription="x", NumNodeGroups=2, UserGroupIds=[users],
            ReplicasPerNodeGroup=0,
        )  # fmt: skip
        created.append(("group", f"{name}-c"))
        wait_for(lambda: group_status(ec, f"{name}-c") == "available", 60)
        ec.modify_replication_group_shard_configuration(
            ReplicationGroupId=f"{name}-c", NodeGroupCount=3, ApplyImmediately=True
        )
        wait_for(lambda: group_status(ec, f"{name}-c") == "available", 120)
    ec.delete_snapshot(SnapshotName=name)
    # Loading and an end come before any question of rights.
    open_ones = set(knocking.answers) - {"-NOAUTH", "-LOADING", ""}
    assert open_ones == set(), knocking.answers
    assert knocking.answers["-NOAUTH"] > 100


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "version"), [("valkey", "8.1"), ("redis", "7.0"), ("redis", "6.2")])
def test_older_engines_give_a_user_with_all_rights_no_more(
    engine: str, version: str, ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    eve = made.user("on ~* &* +@all", name="eve")
    users = made.user_group(eve, made.user("off", name="default"), engine="redis")
    create_group(ec, created, name, UserGroupIds=[users], Engine=engine, EngineVersion=version)
    for endpoint in nodes_of(ec, name):
        attack(made.client(endpoint, "eve", PASSWORDS[0]), engine_secrets(guarded))


@pytest.mark.slow
def test_a_token_is_of_one_user_however_the_name_is_written(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    mode = {"Type": "iam"}
    ec.create_user(UserId="ivy", UserName="ivy", Engine="valkey", AccessString="on ~* +@all", AuthenticationMode=mode)
    create_group(ec, created, name, UserGroupIds=[made.user_group("ivy")], NumCacheClusters=1)
    (endpoint,) = nodes_of(ec, name)
    key = credentials.load(guarded.state_dir)
    good = make_token(name, "ivy", key.id, key.secret).encode()
    wrong_users = (b"IVY", b"ivy\0", b"ivy\n", b" ivy", b"default", b"cachekeep", b"cachekeep.acl.x", b"i" * 600, b"")
    wrong_tokens = (good + b"\0", good + b"\n", b" " + good, good + b"&x=" + b"A" * 9000, good + b"&User=ivy",
                    good[:-1], b"http://" + good, good[:-64] + good[-64:].upper(), b"X-Amz-Signature=")  # fmt: skip
    for user, token in [*((one, good) for one in wrong_users), *((b"ivy", one) for one in wrong_tokens)]:
        for words in ((b"AUTH", user, token), (b"HELLO", b"3", b"AUTH", user, token)):
            assert raw(made, endpoint).first_answer(*words).startswith((b"-WRONGPASS", b"-NOAUTH")), (
                user,
                token[-20:],
            )
    assert raw(made, endpoint).first_answer(b"AUTH", b"ivy", good) == b"+OK\r\n"
    assert b"X-Amz-Signature" not in guarded.log.read_bytes()


def test_names_that_the_service_uses_are_nobody_elses(ec: Any) -> None:
    for user in ("cachekeep", "cachekeep.acl.0123456789ab", "cachekeep-latched"):
        with pytest.raises(ClientError, match="reserved"):
            ec.create_user(
                UserId="taken", UserName=user, Engine="redis", AccessString="on ~* +@all", Passwords=[PASSWORDS[0]]
            )


# --- files and processes ---


def _seen_of_processes(service: Service) -> Iterator[tuple[str, str]]:
    """Command lines and environments of the service's programs."""
    for pid in service.engines():
        for file in ("cmdline", "environ"):
            yield f"{pid} {file}", Path(f"/proc/{pid}/{file}").read_bytes().decode("utf-8", "replace")


def test_nothing_is_readable_by_others_and_no_program_listens_to_other_machines(
    ec: Any, guarded: Service, created: list[tuple[str, str]], name: str, made: Made
) -> None:
    token = "the-token-that-no-file-has"
    create_group(ec, created, name, UserGroupIds=[group_of_eve(made)])
    create_group(ec, created, f"{name}-t", AuthToken=token, NumCacheClusters=1)
    ec.create_snapshot(ReplicationGroupId=name, SnapshotName=name)
    wait_for(lambda: ec.describe_snapshots(SnapshotName=name)["Snapshots"][0]["SnapshotStatus"] == "available", 60)
    everything = [path for path in guarded.state_dir.rglob("*") if not path.is_symlink()]
    assert [str(path) for path in everything if _mode(path) & 0o077] == []
    # Of what a client or a node logs in with, only a link's password stands anywhere: where its engine reads it.
    links = set(re.findall(r'masterauth "(\w+)"', _configurations(guarded)))
    assert links
    for path in everything:
        unknown = {token, PASSWORDS[0]} if path.name == "engine.conf" else {token, PASSWORDS[0]} | links
        text = _bytes(path)
        assert [one for one in unknown if one.encode() in text] == [], path
    secrets = engine_secrets(guarded) | {token, PASSWORDS[0]}
    for where, told in _seen_of_processes(guarded):
        assert [one for one in secrets if one in told] == [], where
    assert [one for one in secrets if one in guarded.log.read_text()] == []
    for pid in [*guarded.engines(), guarded.process.pid if guarded.process else 0]:
        for one in psutil.Process(pid).net_connections("inet"):
            assert one.status != "LISTEN" or ip_address(one.laddr.ip).is_loopback, (pid, one)
    ec.delete_snapshot(SnapshotName=name)


def _configurations(service: Service) -> str:
    return "".join(path.read_text() for path in service.nodes_root.glob("**/engine.conf"))


def _mode(path: Path) -> int:
    """0 for what went meanwhile."""
    with suppress(FileNotFoundError):
        return path.stat().st_mode
    return 0


def _bytes(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""
