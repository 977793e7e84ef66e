"""Clients other than boto3, as they are: AWS's SDK for JavaScript, Ansible's modules, Cloud Custodian. Slow: each is
installed.

Installed once into `.cache/` of the checkout. The AWS CLI is in test_output_shapes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cachekeep import credentials

from .conftest import Service, create_cluster, create_group

pytestmark = pytest.mark.slow
CACHE = Path(__file__).parents[2] / ".cache"
SCRIPT = """
import {ElastiCacheClient, CreateReplicationGroupCommand, DescribeReplicationGroupsCommand, AddTagsToResourceCommand,
  ListTagsForResourceCommand, DeleteReplicationGroupCommand, waitUntilReplicationGroupAvailable,
  waitUntilReplicationGroupDeleted, paginateDescribeCacheParameters} from "@aws-sdk/client-elasticache";
const ec = new ElastiCacheClient({}), id = {ReplicationGroupId: "from-node"};
const patience = {client: ec, maxWaitTime: 60, minDelay: 1, maxDelay: 1};
await ec.send(new CreateReplicationGroupCommand({...id, ReplicationGroupDescription: "x", Engine: "valkey",
  NumCacheClusters: 2, AutomaticFailoverEnabled: true}));
await waitUntilReplicationGroupAvailable(patience, id);
const [group] = (await ec.send(new DescribeReplicationGroupsCommand(id))).ReplicationGroups;
await ec.send(new AddTagsToResourceCommand({ResourceName: group.ARN, Tags: [{Key: "team", Value: "\u00e4"}]}));
const tags = (await ec.send(new ListTagsForResourceCommand({ResourceName: group.ARN}))).TagList;
let parameters = 0;
const wanted = {CacheParameterGroupName: "default.valkey9"};
for await (const page of paginateDescribeCacheParameters({client: ec, pageSize: 20}, wanted))
  parameters += page.Parameters.length;
let refused;
try { await ec.send(new DescribeReplicationGroupsCommand({ReplicationGroupId: "nobody"})); }
catch (error) { refused = [error.name, error.$metadata.httpStatusCode]; }
await ec.send(new DeleteReplicationGroupCommand(id));
await waitUntilReplicationGroupDeleted(patience, id);
console.log(JSON.stringify({status: group.Status, tags, refused, manyParameters: parameters > 60}));
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - community.aws.elasticache_subnet_group:
        {name: subs, state: present, description: two, subnets: [subnet-aaaa1111, subnet-bbbb2222]}
    - community.aws.elasticache_parameter_group:
        {name: params, group_family: redis6.x, description: mine, state: present,
         values: {maxmemory-policy: allkeys-lru}}
    - community.aws.elasticache: &cluster
        {name: ansi, state: present, engine: redis, cache_engine_version: "6.2.5", node_type: cache.t3.micro,
         num_nodes: 1, cache_port: 6379, cache_subnet_group: subs, cache_parameter_group: params, wait: true}
    - community.aws.elasticache: *cluster
      register: again
    - community.aws.elasticache_info: {name: ansi}
      register: seen
    - assert:
        that:
          - not again.changed
          - seen.elasticache_clusters[0].cache_cluster_status == "available"
          - seen.elasticache_clusters[0].cache_parameter_group.cache_parameter_group_name == "params"
    - community.aws.elasticache: {name: ansi, state: absent, engine: redis, wait: true}
    - community.aws.elasticache_parameter_group: {name: params, group_family: redis6.x, state: absent}
    - community.aws.elasticache_subnet_group: {name: subs, state: absent}
"""

POLICIES = """
policies:
  - name: mark
    resource: cache-cluster
    filters: [{"tag:team": left-behind}]
    actions: [{type: tag, key: seen, value: "yes"}, {type: mark-for-op, op: delete, days: 3}]
  - name: groups-without-failover
    resource: elasticache-group
    filters: [{type: value, key: AutomaticFailover, value: disabled}, {"tag:team": left-behind}]
  - name: snapshots
    resource: cache-snapshot
  - name: subnets
    resource: cache-subnet-group
  - name: users
    resource: elasticache-user
  - name: reserved
    resource: elasticache-reserved
"""


def run(command: list[str], folder: Path, environment: dict[str, str], within_s: float) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def as_client(service: Service) -> dict[str, str]:
    key = credentials.load(service.state_dir)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return plain | {
        "AWS_ENDPOINT_URL_ELASTICACHE": service.url,
        "AWS_ENDPOINT_URL_STS": service.url,
        "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": service.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_the_sdk_for_javascript(service: Service) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    folder = CACHE / "javascript"
    if not (folder / "node_modules").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-fund", "--no-audit", "@aws-sdk/client-elasticache@3"]
        run(install, folder, dict(os.environ), 300)
    (folder / "life.mjs").write_text(SCRIPT)
    told = json.loads(run(["node", "life.mjs"], folder, as_client(service), 180))
    assert told == {
        "status": "available",
        "tags": [{"Key": "team", "Value": "ä"}],
        "refused": ["ReplicationGroupNotFoundFault", 404],
        "manyParameters": True,
    }


def test_ansible(service: Service, tmp_path: Path) -> None:
    folder = CACHE / "ansible"
    play = folder / "bin" / "ansible-playbook"
    if not play.exists():
        run([sys.executable, "-m", "venv", str(folder)], tmp_path, dict(os.environ), 120)
        run([str(folder / "bin" / "pip"), "install", "-q", "ansible", "boto3"], tmp_path, dict(os.environ), 900)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    python = f"ansible_python_interpreter={folder / 'bin' / 'python'}"
    command = [str(play), "-i", "localhost,", "-c", "local", "-e", python, "play.yml"]
    run(command, tmp_path, as_client(service) | {"ANSIBLE_HOME": str(tmp_path / "ansible")}, 300)


def test_cloud_custodian(service: Service, ec: Any, created: list[tuple[str, str]], name: str, tmp_path: Path) -> None:
    """It reads a whole account, its tags by the tagging API, and tags what its policies find."""
    folder = CACHE / "custodian"
    program = folder / "bin" / "custodian"
    if not program.exists():
        run([sys.executable, "-m", "venv", str(folder)], tmp_path, dict(os.environ), 120)
        run([str(folder / "bin" / "pip"), "install", "-q", "c7n"], tmp_path, dict(os.environ), 900)
    tags = [{"Key": "team", "Value": "left-behind"}]
    create_cluster(ec, created, f"{name}-one", Tags=tags)
    create_group(ec, created, f"{name}-grp", NumCacheClusters=1, AutomaticFailoverEnabled=False, Tags=tags)
    (tmp_path / "policies.yml").write_text(POLICIES)
    command = [str(program), "run", "--cache-period", "0", "-s", "out", "policies.yml"]
    run(command, tmp_path, as_client(service), 300)

    def found(policy: str, key: str) -> set[str]:
        return {str(one[key]) for one in json.loads((tmp_path / "out" / policy / "resources.json").read_text())}

    assert found("mark", "CacheClusterId") == {f"{name}-one", f"{name}-grp-001"}
    assert found("groups-without-failover", "ReplicationGroupId") == {f"{name}-grp"}
    assert "default" in found("users", "UserId")
    assert found("subnets", "CacheSubnetGroupName")
    (arn,) = (c["ARN"] for c in ec.describe_cache_clusters(CacheClusterId=f"{name}-one")["CacheClusters"])
    marked = {tag["Key"]: tag["Value"] for tag in ec.list_tags_for_resource(ResourceName=arn)["TagList"]}
    assert (marked["team"], marked["seen"]) == ("left-behind", "yes")
    assert "delete@" in marked["maid_status"]
