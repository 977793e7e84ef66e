"""Clients other than boto3, as they are: AWS's SDK for JavaScript, and Ansible's modules. Slow: each is installed.

Installed once into `.cache/` of the checkout. The AWS CLI is in test_output_shapes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cachekeep import credentials

from .conftest import Service

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
        "AWS_REGION": "us-east-1",
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
