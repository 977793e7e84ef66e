"""The command line of `cachekeep plan`: the AWS CLI's spelling and the API's own come to the same fields."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

import pytest
from awscli.clidriver import create_clidriver
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.cli.refusal import Refused
from cachekeep.cli.spelling import read

MODIFY = {"ReplicationGroupId": "demo", "CacheNodeType": "cache.r7g.large", "ApplyImmediately": "true"}


def test_the_spelling_of_the_aws_cli() -> None:
    line = "modify-replication-group --replication-group-id demo --cache-node-type cache.r7g.large --apply-immediately"
    wish = read(shlex.split(line))
    assert (wish.operation, wish.fields) == ("ModifyReplicationGroup", MODIFY)


def test_the_names_of_the_api() -> None:
    wish = read(["ModifyReplicationGroup"], [f"{name}={value}" for name, value in MODIFY.items()])
    assert (wish.operation, wish.fields) == ("ModifyReplicationGroup", MODIFY)


def test_a_whole_line_of_the_aws_cli_can_stand_behind_plan() -> None:
    line = (
        "aws elasticache modify-replication-group --output json --endpoint-url=http://x --no-cli-pager "
        "--replication-group-id=demo --cache-node-type cache.r7g.large --apply-immediately --profile mine"
    )
    assert read(shlex.split(line)).fields == MODIFY


def test_lists_structures_and_negations() -> None:
    line = (
        "decrease-replica-count --replication-group-id demo --no-apply-immediately "
        "--replicas-to-remove demo-002 demo-003 "
        "--replica-configuration NodeGroupId=0001,NewReplicaCount=1,PreferredAvailabilityZones=us-east-1a,us-east-1b "
        "NodeGroupId=0002,NewReplicaCount=2"
    )
    configure = "ReplicaConfiguration.ConfigureShard"
    assert read(shlex.split(line)).fields == {
        "ReplicationGroupId": "demo",
        "ApplyImmediately": "false",
        "ReplicasToRemove.member.1": "demo-002",
        "ReplicasToRemove.member.2": "demo-003",
        f"{configure}.1.NodeGroupId": "0001",
        f"{configure}.1.NewReplicaCount": "1",
        f"{configure}.1.PreferredAvailabilityZones.PreferredAvailabilityZone.1": "us-east-1a",
        f"{configure}.1.PreferredAvailabilityZones.PreferredAvailabilityZone.2": "us-east-1b",
        f"{configure}.2.NodeGroupId": "0002",
        f"{configure}.2.NewReplicaCount": "2",
    }


LINES = [
    "modify-replication-group --replication-group-id demo --no-automatic-failover-enabled --engine-version 9.1",
    "create-replication-group --replication-group-id d --replication-group-description x --num-node-groups 2 "
    """--node-group-configuration '[{"NodeGroupId":"0001","Slots":"0-99","ReplicaCount":1},{"Slots":"100-16383"}]'""",
    "create-replication-group --replication-group-id d --replication-group-description 'two words' "
    "--node-group-configuration ReplicaCount=1,Slots=0-8191,ReplicaAvailabilityZones=us-east-1a,us-east-1b "
    "--tags Key=team,Value=a Key=stage,Value=b",
    "modify-replication-group-shard-configuration --replication-group-id d --node-group-count 2 --apply-immediately "
    "--node-groups-to-remove 0003 0004",
    "reboot-cache-cluster --cache-cluster-id c --cache-node-ids-to-reboot 0001 0002",
    "modify-cache-parameter-group --cache-parameter-group-name p "
    "--parameter-name-values ParameterName=maxmemory-policy,ParameterValue=noeviction",
    "test-failover --replication-group-id demo --node-group-id 0001",
]


@pytest.mark.parametrize("line", LINES)
def test_what_the_aws_cli_would_send_is_what_we_send(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real AWS CLI, stopped just before it would send."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    sent: list[dict[str, Any]] = []

    class Enough(Exception):
        pass

    def stop(params: dict[str, Any], **_: Any) -> None:
        sent.append(params["body"])
        raise Enough

    driver = create_clidriver()
    driver.session.register("before-call.elasticache", stop)
    driver.main(["elasticache", *shlex.split(line)])
    (body,) = sent
    wish = read(shlex.split(line))
    assert body.pop("Action") == wish.operation
    body.pop("Version")
    assert {name: str(value) for name, value in body.items()} == wish.fields


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "name an operation"),
        ("--replication-group-id demo", "name an operation"),
        ("modify-replication-gruop", "did you mean ModifyReplicationGroup"),
        ("modify-replication-group --cache-node-typ x", "did you mean CacheNodeType"),
        ("modify-replication-group demo", "stands where an option"),
        ("modify-replication-group --cache-node-type", "takes one value, and 0"),
        ("modify-replication-group --cache-node-type a b", "takes one value, and 2"),
        ("modify-replication-group --cache-node-type a --cache-node-type b", "given twice"),
        ("decrease-replica-count --replicas-to-remove", "needs a value"),
        ("decrease-replica-count --replica-configuration {broken", "no JSON"),
        ("decrease-replica-count --replica-configuration 0001", "takes JSON, or Name=Value"),
        ("decrease-replica-count --replica-configuration Shard=0001", "has no 'Shard'"),
        ("decrease-replica-count --replica-configuration '[{\"Shard\": 1}]'", "has no 'Shard'"),
        ("decrease-replica-count --replica-configuration '[1]'", "should be a structure"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(line: str, says: str) -> None:
    with pytest.raises(Refused, match="(?i)" + says.replace("(", r"\(")):
        read(shlex.split(line))


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Refused, match="not UTF-8"):
        read(["modify-replication-group", "--replication-group-id", "\udcff"])


def test_params_need_a_value() -> None:
    with pytest.raises(Refused, match="Name=Value"):
        read(["TestFailover"], ["NodeGroupId"])


def test_a_param_of_a_list_is_split_at_commas() -> None:
    fields = read(["DecreaseReplicaCount"], ["ReplicasToRemove=a,b"]).fields
    assert fields == {"ReplicasToRemove.member.1": "a", "ReplicasToRemove.member.2": "b"}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=12), max_size=5), st.lists(st.text(max_size=20), max_size=2))
def test_no_words_end_in_a_traceback(words: list[str], params: list[str]) -> None:
    for head in ([], ["decrease-replica-count", "--replica-configuration"], ["decrease-replica-count"]):
        with suppress(Refused):
            read([*head, *words], params)
