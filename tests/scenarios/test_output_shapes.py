"""Answers hold what clients read of them, in every state, and the status words come in AWS's order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cachekeep import credentials
from cachekeep.api.operations import _OF_MODULES, OPERATIONS
from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, cluster_status, gone, group_status, wait_for
from .starved import starved_engine

Created = list[tuple[str, str]]


def check_cluster(cluster: dict[str, Any]) -> None:
    """What clients dereference of every cluster, whatever its state."""
    name, status = cluster["CacheClusterId"], cluster["CacheClusterStatus"]
    assert cluster["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:cluster:{name}"
    assert cluster["CacheClusterCreateTime"].tzinfo is not None
    assert cluster["Engine"] in ("valkey", "redis", "memcached")
    assert cluster["EngineVersion"][0].isdigit()
    assert cluster["CacheNodeType"].startswith("cache.")
    assert cluster["CacheParameterGroup"]["ParameterApplyStatus"] in ("in-sync", "applying", "pending-reboot")
    assert cluster["CacheSubnetGroupName"]
    assert cluster["PreferredMaintenanceWindow"].count(":") == 4
    assert cluster["PreferredAvailabilityZone"]
    assert isinstance(cluster["PendingModifiedValues"], dict)
    for flag in ("AutoMinorVersionUpgrade", "TransitEncryptionEnabled", "AtRestEncryptionEnabled", "AuthTokenEnabled"):
        assert isinstance(cluster[flag], bool)
    assert cluster["NumCacheNodes"] >= 1
    assert cluster["CacheNodes"]
    for node in cluster["CacheNodes"]:
        assert len(node["CacheNodeId"]) == 4
        assert node["CacheNodeStatus"] in ("available", "creating", "rebooting", "deleting")
        assert node["CacheNodeCreateTime"] <= datetime.now(UTC)
        assert node["ParameterGroupStatus"] in ("in-sync", "applying", "pending-reboot")
        assert node["CustomerAvailabilityZone"].startswith("us-east-1")
        if status in ("available", "modifying", "rebooting cluster nodes"):
            assert node["Endpoint"]["Port"] > 0
    if cluster["Engine"] == "memcached" and status == "available":
        assert cluster["ConfigurationEndpoint"]["Address"]


def check_group(ec: Any, group: dict[str, Any]) -> None:
    """What clients dereference of every group, and each of its members on its own."""
    name, status = group["ReplicationGroupId"], group["Status"]
    assert group["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:replicationgroup:{name}"
    assert group["Description"]
    assert group["AutomaticFailover"] in ("enabled", "disabled", "enabling", "disabling")
    assert group["MultiAZ"] in ("enabled", "disabled")
    assert group["ClusterEnabled"] is (group["ClusterMode"] != "disabled")
    assert group["CacheNodeType"].startswith("cache.")
    assert isinstance(group["PendingModifiedValues"], dict)
    assert group["ReplicationGroupCreateTime"] <= datetime.now(UTC)
    assert group["NodeGroups"][0]["NodeGroupId"] == "0001"
    for shard in group["NodeGroups"]:
        check_shard(group, shard)
    if group["ClusterMode"] != "disabled" and status in ("available", "modifying"):
        assert group["ConfigurationEndpoint"]["Port"] == 6379
    for member_id in group["MemberClusters"]:
        try:
            (member,) = ec.describe_cache_clusters(CacheClusterId=member_id, ShowCacheNodeInfo=True)["CacheClusters"]
        except ec.exceptions.CacheClusterNotFoundFault:
            # Between the two answers the delete, of the group or of this replica, may have come to its end.
            assert status in ("deleting", "modifying")
        else:
            assert member["ReplicationGroupId"] == name
            check_cluster(member)


def check_shard(group: dict[str, Any], shard: dict[str, Any]) -> None:
    """With cluster mode enabled a shard has slots, and neither endpoints nor roles."""
    assert shard["Status"] in ("creating", "available", "modifying", "deleting")
    enabled = group["ClusterMode"] == "enabled"
    if enabled:
        assert re.fullmatch(r"[0-9]+-[0-9]+(,[0-9]+(-[0-9]+)?)*", shard["Slots"])
    if group["Status"] not in ("available", "modifying"):
        return
    for member in shard["NodeGroupMembers"]:
        assert member["CacheClusterId"] in group["MemberClusters"]
        assert member["CacheNodeId"] == "0001"
        assert member["PreferredAvailabilityZone"]
        assert enabled or member["ReadEndpoint"]["Port"] == 6379
    if not enabled:
        assert {shard["PrimaryEndpoint"]["Port"], shard["ReaderEndpoint"]["Port"]} == {6379}
        assert shard["PrimaryEndpoint"]["Address"] != shard["ReaderEndpoint"]["Address"]
        assert [m["CurrentRole"] for m in shard["NodeGroupMembers"]].count("primary") == 1


def group_words(ec: Any, name: str, until: str) -> list[str]:
    """Every status word of a group until it is `until`, or gone, each once; all answers on the way are checked."""
    words: list[str] = []

    def look() -> bool:
        try:
            (group,) = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"]
        except ec.exceptions.ReplicationGroupNotFoundFault:
            return until == "gone"
        check_group(ec, group)
        if words[-1:] != [group["Status"]]:
            words.append(group["Status"])
        return bool(group["Status"] == until)

    wait_for(look)
    return words


def cluster_words(ec: Any, name: str, until: str) -> list[str]:
    """The same for a cluster."""
    words: list[str] = []

    def look() -> bool:
        try:
            (cluster,) = ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"]
        except ec.exceptions.CacheClusterNotFoundFault:
            return until == "gone"
        check_cluster(cluster)
        if words[-1:] != [cluster["CacheClusterStatus"]]:
            words.append(cluster["CacheClusterStatus"])
        return bool(cluster["CacheClusterStatus"] == until)

    wait_for(look)
    return words


def test_the_life_of_a_group_in_status_words(ec: Any, created: Created, name: str) -> None:
    answer = ec.create_replication_group(
        ReplicationGroupId=name.upper(),
        ReplicationGroupDescription="x",
        NumCacheClusters=3,
        AutomaticFailoverEnabled=True,
        MultiAZEnabled=True,
    )["ReplicationGroup"]
    created.append(("group", name))
    assert (answer["ReplicationGroupId"], answer["Status"]) == (name, "creating")
    check_group(ec, answer)
    assert group_words(ec, name, "available") in (["creating", "available"], ["available"])
    answer = ec.modify_replication_group(
        ReplicationGroupId=name.title(), CacheNodeType="cache.t4g.small", AutomaticFailoverEnabled=False
    )["ReplicationGroup"]
    assert answer["Status"] == "available"
    assert answer["PendingModifiedValues"] == {"AutomaticFailoverStatus": "disabled"}
    check_group(ec, answer)
    answer = ec.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True)["ReplicationGroup"]
    assert (answer["Status"], answer["PendingModifiedValues"]) == ("modifying", {})
    check_group(ec, answer)
    assert group_words(ec, name, "available")[-1] == "available"
    (answer,) = ec.describe_replication_groups(ReplicationGroupId=name.upper())["ReplicationGroups"]
    assert (answer["CacheNodeType"], answer["AutomaticFailover"]) == ("cache.t4g.small", "disabled")
    answer = ec.delete_replication_group(ReplicationGroupId=name)["ReplicationGroup"]
    assert answer["Status"] == "deleting"
    check_group(ec, answer)
    assert group_words(ec, name, "gone") in (["deleting"], [])


def test_the_life_of_a_group_with_cluster_mode_in_status_words(ec: Any, created: Created, name: str) -> None:
    answer = ec.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="x", NumNodeGroups=2, ReplicasPerNodeGroup=1
    )["ReplicationGroup"]
    created.append(("group", name))
    check_group(ec, answer)
    assert group_words(ec, name, "available") in (["creating", "available"], ["available"])
    (answer,) = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"]
    assert answer["MemberClusters"] == [f"{name}-{shard}-00{n}" for shard in ("0001", "0002") for n in (1, 2)]
    assert [shard["Slots"] for shard in answer["NodeGroups"]] == ["0-8191", "8192-16383"]
    at_once: dict[str, Any] = {"ReplicationGroupId": name, "ApplyImmediately": True}
    answer = ec.modify_replication_group_shard_configuration(NodeGroupCount=3, **at_once)["ReplicationGroup"]
    check_group(ec, answer)
    assert answer["PendingModifiedValues"]["Resharding"]["SlotMigration"]["ProgressPercentage"] == 0.0
    assert group_words(ec, name, "available") in (["modifying", "available"], ["available"])
    answer = ec.increase_replica_count(NewReplicaCount=2, **at_once)["ReplicationGroup"]
    check_group(ec, answer)
    assert group_words(ec, name, "available")[-1] == "available"
    answer = ec.delete_replication_group(ReplicationGroupId=name)["ReplicationGroup"]
    assert answer["Status"] == "deleting"
    check_group(ec, answer)
    assert group_words(ec, name, "gone") in (["deleting"], [])


@pytest.mark.parametrize("engine", ["valkey", "redis", "memcached"])
def test_the_life_of_a_cluster_in_status_words(
    ec: Any, created: Created, name: str, engine: str, catalogue: MachineCatalogue
) -> None:
    if catalogue.best(Engine(engine), None) is None:
        pytest.skip(f"needs {engine} on the machine")
    count = 2 if engine == "memcached" else 1
    answer = ec.create_cache_cluster(CacheClusterId=name, Engine=engine, NumCacheNodes=count)["CacheCluster"]
    created.append(("cluster", name))
    assert answer["CacheClusterStatus"] == "creating"
    check_cluster(answer)
    assert cluster_words(ec, name, "available") in (["creating", "available"], ["available"])
    if engine == "memcached":
        answer = ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=3)["CacheCluster"]
        assert (answer["NumCacheNodes"], answer["PendingModifiedValues"]) == (2, {"NumCacheNodes": 3})
        answer = ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=1, CacheNodeIdsToRemove=["0002"])
        waiting = answer["CacheCluster"]["PendingModifiedValues"]
        assert waiting == {"NumCacheNodes": 1, "CacheNodeIdsToRemove": ["0002"]}
        answer = ec.modify_cache_cluster(CacheClusterId=name, ApplyImmediately=True)["CacheCluster"]
    else:
        answer = ec.modify_cache_cluster(CacheClusterId=name, CacheNodeType="cache.t4g.small")["CacheCluster"]
        assert answer["PendingModifiedValues"] == {"CacheNodeType": "cache.t4g.small"}
        answer = ec.modify_cache_cluster(CacheClusterId=name, ApplyImmediately=True)["CacheCluster"]
    assert (answer["CacheClusterStatus"], answer["PendingModifiedValues"]) == ("modifying", {})
    check_cluster(answer)
    assert cluster_words(ec, name, "available")[-1] == "available"
    answer = ec.reboot_cache_cluster(CacheClusterId=name, CacheNodeIdsToReboot=["0001"])["CacheCluster"]
    assert answer["CacheClusterStatus"] == "rebooting cluster nodes"
    check_cluster(answer)
    assert cluster_words(ec, name, "available") in (["rebooting cluster nodes", "available"], ["available"])
    answer = ec.delete_cache_cluster(CacheClusterId=name)["CacheCluster"]
    assert answer["CacheClusterStatus"] == "deleting"
    check_cluster(answer)
    assert cluster_words(ec, name, "gone") in (["deleting"], [])


def test_what_could_not_be_created_is_shown_and_deleted(
    new_service: Callable[..., Service], catalogue: MachineCatalogue, tmp_path: Path
) -> None:
    service = new_service(PATH=starved_engine(catalogue, tmp_path / "starved")).start()
    ec = service.client()
    ec.create_replication_group(ReplicationGroupId="grp", ReplicationGroupDescription="x", NumCacheClusters=2)
    assert group_words(ec, "grp", "create-failed") in (["creating", "create-failed"], ["create-failed"])
    ec.create_cache_cluster(CacheClusterId="one", Engine="valkey")
    assert cluster_words(ec, "one", "create-failed")[-1] == "create-failed"
    state = (ec.exceptions.InvalidReplicationGroupStateFault, ec.exceptions.InvalidCacheClusterStateFault)
    with pytest.raises(state):
        ec.modify_replication_group(ReplicationGroupId="grp", ReplicationGroupDescription="y")
    with pytest.raises(state):
        ec.reboot_cache_cluster(CacheClusterId="one", CacheNodeIdsToReboot=["0001"])
    check_group(ec, ec.delete_replication_group(ReplicationGroupId="grp")["ReplicationGroup"])
    check_cluster(ec.delete_cache_cluster(CacheClusterId="one")["CacheCluster"])
    group_words(ec, "grp", "gone")
    cluster_words(ec, "one", "gone")
    assert "Traceback" not in service.log.read_text()


def test_redis_with_a_stand_in_is_shown(new_service: Callable[..., Service]) -> None:
    """Valkey in a Redis's place, by the setting for it: every answer still encodes, and the events say it."""
    service = new_service(CACHEKEEP_REDIS_STAND_IN="true").start()
    ec = service.client()
    version = "5.0"  # of no Redis that can be here
    try:
        ec.create_replication_group(
            ReplicationGroupId="grp", ReplicationGroupDescription="x", Engine="redis", EngineVersion=version
        )
    except ClientError as error:
        pytest.skip(f"no stand-in for {version}: {error}")
    group_words(ec, "grp", "available")
    (group,) = ec.describe_replication_groups(ReplicationGroupId="grp")["ReplicationGroups"]
    assert group["Engine"] == "redis"
    (member,) = ec.describe_cache_clusters(CacheClusterId="grp-001")["CacheClusters"]
    assert (member["Engine"], member["EngineVersion"]) == ("redis", version)
    events = ec.describe_events(SourceType="replication-group", SourceIdentifier="grp")["Events"]
    assert any("runs in place of Redis 5.0" in event["Message"] for event in events)


def test_every_operation_succeeds_and_answers_what_clients_read(ec: Any, created: Created, name: str) -> None:
    called: set[str] = set()

    def note(model: Any, **_: object) -> None:
        called.add(model.name)

    ec.meta.events.register("before-call.elasticache", note)
    family = ec.describe_cache_engine_versions(Engine="valkey", DefaultOnly=True)["CacheEngineVersions"][0]
    assert family["CacheEngineDescription"]
    assert family["CacheEngineVersionDescription"]
    own = ec.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily=family["CacheParameterGroupFamily"], Description="x"
    )["CacheParameterGroup"]
    assert own["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:parametergroup:{name}"
    assert own["IsGlobal"] is False
    pairs = [{"ParameterName": "timeout", "ParameterValue": "60"}]
    assert ec.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=pairs) | {
        "ResponseMetadata": None
    } == {"CacheParameterGroupName": name, "ResponseMetadata": None}
    (shown,) = ec.describe_cache_parameter_groups(CacheParameterGroupName=name.upper())["CacheParameterGroups"]
    assert shown == own
    (value,) = ec.describe_cache_parameters(CacheParameterGroupName=name, Source="user")["Parameters"]
    assert (value["ParameterValue"], value["DataType"], value["IsModifiable"]) == ("60", "integer", True)
    assert (value["ChangeType"], value["AllowedValues"]) == ("immediate", "0,20-")
    defaults = ec.describe_engine_default_parameters(CacheParameterGroupFamily=own["CacheParameterGroupFamily"])
    assert {p["ParameterName"] for p in defaults["EngineDefaults"]["Parameters"]} > {"timeout"}
    answer = ec.reset_cache_parameter_group(CacheParameterGroupName=name, ResetAllParameters=True)
    assert answer["CacheParameterGroupName"] == name
    nets = ec.create_cache_subnet_group(
        CacheSubnetGroupName=name, CacheSubnetGroupDescription="x", SubnetIds=["subnet-1", "subnet-2"]
    )["CacheSubnetGroup"]
    assert nets["VpcId"]
    assert [s["SubnetAvailabilityZone"]["Name"] for s in nets["Subnets"]] == ["us-east-1a", "us-east-1b"]
    changed = ec.modify_cache_subnet_group(CacheSubnetGroupName=name, CacheSubnetGroupDescription="y")
    assert changed["CacheSubnetGroup"] == nets | {"CacheSubnetGroupDescription": "y"}
    assert ec.describe_cache_subnet_groups(CacheSubnetGroupName=name)["CacheSubnetGroups"] == [
        changed["CacheSubnetGroup"]
    ]
    _a_group_and_a_cluster(ec, created, name)
    ec.delete_cache_parameter_group(CacheParameterGroupName=name)
    ec.delete_cache_subnet_group(CacheSubnetGroupName=name)
    # Those of modules that name their own proof answer there.
    assert called >= set(OPERATIONS) - set(_OF_MODULES)


def _users_and_a_group_of_them(ec: Any, name: str) -> None:
    user = ec.create_user(
        UserId=name, UserName=name, Engine="valkey", AccessString="on ~* +@all", Passwords=["a-password-of-its-own"]
    )
    assert user["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:user:{name}"
    assert (user["Status"], user["Authentication"]["PasswordCount"]) == ("active", 1)
    group = ec.create_user_group(UserGroupId=name, Engine="valkey", UserIds=[name])
    assert group["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:usergroup:{name}"

    def status() -> str:
        return str(ec.describe_user_groups(UserGroupId=name)["UserGroups"][0]["Status"])

    wait_for(lambda: status() == "active")
    assert ec.modify_user(UserId=name, AccessString="off ~*")["AccessString"] == "off ~*"
    wait_for(lambda: ec.describe_users(UserId=name)["Users"][0]["Status"] == "active")
    changed = ec.modify_user_group(UserGroupId=name, UserIdsToRemove=[name])
    assert changed["PendingChanges"]["UserIdsToRemove"] == [name]
    wait_for(lambda: status() == "active")
    assert ec.delete_user_group(UserGroupId=name)["Status"] == "deleting"
    assert ec.delete_user(UserId=name)["Status"] == "deleting"


def _the_size_and_roles_of_a_group(ec: Any, name: str) -> None:
    """What asks for engines to be moved answers with the group, which becomes available again."""
    at_once: dict[str, Any] = {"ReplicationGroupId": name, "ApplyImmediately": True}

    def answered(answer: dict[str, Any]) -> None:
        check_group(ec, answer["ReplicationGroup"])
        assert group_words(ec, name, "available") in (["modifying", "available"], ["available"])

    answered(ec.increase_replica_count(NewReplicaCount=2, **at_once))
    answered(ec.decrease_replica_count(NewReplicaCount=1, **at_once))
    answered(ec.modify_replication_group(AutomaticFailoverEnabled=True, **at_once))
    answered(ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001"))
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException):
        ec.modify_replication_group_shard_configuration(NodeGroupCount=2, **at_once)


def _a_group_and_a_cluster(ec: Any, created: Created, name: str) -> None:
    extra = {"CacheParameterGroupName": name, "CacheSubnetGroupName": name, "Tags": [{"Key": "k", "Value": "v"}]}
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=1, **extra)
    created.append(("group", name))
    ec.create_cache_cluster(CacheClusterId=f"{name}-x", Engine="valkey", **extra)
    created.append(("cluster", f"{name}-x"))
    # The stock waiters, only less patient.
    patience = {"WaiterConfig": {"Delay": 1, "MaxAttempts": 20}}
    ec.get_waiter("replication_group_available").wait(ReplicationGroupId=name, **patience)
    ec.get_waiter("cache_cluster_available").wait(CacheClusterId=f"{name}-x", **patience)
    replica = ec.create_cache_cluster(CacheClusterId=f"{name}-r", ReplicationGroupId=name)["CacheCluster"]
    assert replica["ReplicationGroupId"] == name
    check_cluster(replica)
    assert group_words(ec, name, "available") in (["modifying", "available"], ["available"])
    assert (
        ec.modify_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="z")["ReplicationGroup"][
            "Description"
        ]
        == "z"
    )
    changed = ec.modify_cache_cluster(CacheClusterId=f"{name}-x", PreferredMaintenanceWindow="SUN:05:00-sun:07:00")
    assert changed["CacheCluster"]["PreferredMaintenanceWindow"] == "sun:05:00-sun:07:00"
    types = ec.list_allowed_node_type_modifications(CacheClusterId=f"{name}-x")
    assert types["ScaleUpModifications"]
    arn = changed["CacheCluster"]["ARN"]
    tags = ec.add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "a", "Value": ""}])["TagList"]
    assert tags == [{"Key": "a", "Value": ""}, {"Key": "k", "Value": "v"}]
    assert ec.list_tags_for_resource(ResourceName=arn)["TagList"] == tags
    assert ec.remove_tags_from_resource(ResourceName=arn, TagKeys=["k"])["TagList"] == tags[:1]
    ec.reboot_cache_cluster(CacheClusterId=f"{name}-x", CacheNodeIdsToReboot=["0001"])
    assert cluster_words(ec, f"{name}-x", "available")[-1] == "available"
    (event,) = [
        e
        for e in ec.describe_events(SourceType="cache-cluster", SourceIdentifier=f"{name}-X", Duration=60)["Events"]
        if e["Message"] == "Cache cluster created"
    ]
    assert (event["SourceIdentifier"], event["SourceType"]) == (f"{name}-x", "cache-cluster")
    assert event["Date"] <= datetime.now(UTC)
    _snapshots(ec, f"{name}-x")
    _the_size_and_roles_of_a_group(ec, name)
    ec.delete_replication_group(ReplicationGroupId=name)
    ec.delete_cache_cluster(CacheClusterId=f"{name}-x")
    ec.get_waiter("replication_group_deleted").wait(ReplicationGroupId=name, **patience)
    ec.get_waiter("cache_cluster_deleted").wait(CacheClusterId=f"{name}-x", **patience)


def _snapshots(ec: Any, name: str) -> None:
    """Every answer has the snapshot as DescribeSnapshots tells it, in the order of its states."""

    def words(one: str) -> str:
        return str(ec.describe_snapshots(SnapshotName=one)["Snapshots"][0]["SnapshotStatus"])

    made = ec.create_snapshot(SnapshotName=name, CacheClusterId=name)["Snapshot"]
    assert made["SnapshotStatus"] == "creating"
    assert made["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:snapshot:{name}"
    assert ec.list_tags_for_resource(ResourceName=made["ARN"])["TagList"] == []
    wait_for(lambda: words(name) == "available", 60)
    copied = ec.copy_snapshot(SourceSnapshotName=name, TargetSnapshotName=f"{name}-2")["Snapshot"]
    assert (copied["SnapshotName"], copied["SnapshotStatus"]) == (f"{name}-2", "creating")
    wait_for(lambda: words(name) == words(f"{name}-2") == "available", 60)
    assert ec.delete_snapshot(SnapshotName=name)["Snapshot"]["SnapshotStatus"] == "deleting"


def test_regions_do_not_see_each_other(service: Service, ec: Any, created: Created, name: str) -> None:
    ec.create_cache_cluster(CacheClusterId=name, Engine="valkey")
    created.append(("cluster", name))
    wait_for(lambda: cluster_status(ec, name) == "available")
    other = service.client(region="eu-west-1")
    with pytest.raises(other.exceptions.CacheClusterNotFoundFault):
        other.describe_cache_clusters(CacheClusterId=name)
    made = other.create_cache_cluster(CacheClusterId=name, Engine="valkey")["CacheCluster"]
    assert made["ARN"] == f"arn:aws:elasticache:eu-west-1:000000000000:cluster:{name}"
    assert made["PreferredAvailabilityZone"] == "eu-west-1a"
    wait_for(lambda: cluster_status(other, name) == "available")
    other.delete_cache_cluster(CacheClusterId=name)
    other.get_waiter("cache_cluster_deleted").wait(CacheClusterId=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert cluster_status(ec, name) == "available"


def test_the_aws_command_line(service: Service, ec: Any, created: Created, name: str, tmp_path: Path) -> None:
    """An AWS CLI that knows nothing of Cachekeep but the endpoint."""
    program = Path(sys.executable).with_name("aws")
    if not program.exists():
        pytest.skip("needs the AWS CLI in the virtual environment")
    key = credentials.load(service.state_dir)
    environment = service.environment | {
        "AWS_ENDPOINT_URL_ELASTICACHE": service.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_MAX_ATTEMPTS": "1",
    }

    def aws(*words: str, fails: bool = False) -> Any:
        done = subprocess.run(
            [program, "elasticache", *words, "--output", "json"], env=environment, capture_output=True, timeout=60
        )
        assert (done.returncode != 0) == fails, done.stderr.decode()
        return done.stderr.decode() if fails else json.loads(done.stdout or b"null")

    made = aws(
        "create-replication-group", "--replication-group-id", name, "--replication-group-description", "by the CLI",
        "--num-cache-clusters", "2", "--engine", "valkey", "--tags", "Key=a,Value=b",
    )  # fmt: skip
    created.append(("group", name))
    assert made["ReplicationGroup"]["Status"] == "creating"
    wait_for(lambda: group_status(ec, name) == "available")
    aws("wait", "replication-group-available", "--replication-group-id", name)
    shown = aws("describe-replication-groups", "--replication-group-id", name)["ReplicationGroups"][0]
    assert shown["NodeGroups"][0]["PrimaryEndpoint"]["Port"] == 6379
    assert "ReplicationGroupAlreadyExists" in aws(
        "create-replication-group", "--replication-group-id", name, "--replication-group-description", "x", fails=True
    )
    assert "valkey or redis" in aws("create-user-group", "--user-group-id", name, "--engine", "memcached", fails=True)
    assert aws("delete-replication-group", "--replication-group-id", name)["ReplicationGroup"]["Status"] == "deleting"
    wait_for(lambda: gone(ec, "group", name))
    aws("wait", "replication-group-deleted", "--replication-group-id", name)
    assert "ReplicationGroupNotFoundFault" in aws(
        "describe-replication-groups", "--replication-group-id", name, fails=True
    )
