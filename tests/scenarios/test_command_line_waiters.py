"""The waiters of the AWS command line, as scripts use them: begun while the thing is under way, and where they fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachekeep import credentials

from .conftest import Service, cluster_status, group_status

Created = list[tuple[str, str]]
Waiting = subprocess.Popen[bytes]
# The command line looks every 15 seconds.
_PATIENCE_S = 180


@pytest.fixture
def begin(service: Service, tmp_path: Path) -> Callable[..., Waiting]:
    """`aws elasticache wait ...`, which goes on by itself."""
    program = Path(sys.executable).with_name("aws")
    if not program.exists():
        pytest.skip("needs the AWS CLI in the virtual environment")
    key = credentials.load(service.state_dir)
    environment = service.environment | {
        "AWS_ENDPOINT_URL_ELASTICACHE": service.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }

    def start(for_what: str, name: str) -> Waiting:
        option = "--cache-cluster-id" if for_what.startswith("cache") else "--replication-group-id"
        line = [str(program), "elasticache", "wait", for_what, option, name]
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


def end(waiting: Waiting) -> tuple[int, str]:
    """Its exit status and what it says of it."""
    _, said = waiting.communicate(timeout=_PATIENCE_S)
    return waiting.returncode, said.decode()


@pytest.mark.slow
def test_scripts_wait_by_the_command_line(begin: Callable[..., Waiting], ec: Any, created: Created, name: str) -> None:
    cluster, group = f"{name}-c", f"{name}-g"
    created += [("cluster", cluster), ("group", group)]
    ec.create_cache_cluster(CacheClusterId=cluster, Engine="valkey")
    ec.create_replication_group(ReplicationGroupId=group, ReplicationGroupDescription="x", NumCacheClusters=2)
    coming = [begin("cache-cluster-available", cluster), begin("replication-group-available", group)]
    assert [end(one) for one in coming] == [(0, ""), (0, "")]
    assert (cluster_status(ec, cluster), group_status(ec, group)) == ("available", "available")

    # What nobody deletes is not waited for: 255, as of every error of the command line's.
    for one in [begin("cache-cluster-deleted", cluster), begin("replication-group-deleted", group)]:
        code, said = end(one)
        assert (code, "terminal failure state" in said) == (255, True), said

    ec.delete_cache_cluster(CacheClusterId=cluster)
    ec.delete_replication_group(ReplicationGroupId=group)
    going = [begin("cache-cluster-deleted", cluster), begin("replication-group-deleted", group)]
    assert [end(one) for one in going] == [(0, ""), (0, "")]
    for one, code in (
        (begin("cache-cluster-available", cluster), "CacheClusterNotFound"),
        (begin("replication-group-available", group), "ReplicationGroupNotFoundFault"),
    ):
        status, said = end(one)
        assert (status, code in said) == (255, True), said
