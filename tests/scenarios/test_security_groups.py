"""Cache security groups are kept and shown; encryption at rest is told as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Service, create_group


def test_cache_security_groups_are_kept_and_shown(ec: Any, name: str) -> None:
    made = ec.create_cache_security_group(
        CacheSecurityGroupName=name.upper(), Description="d", Tags=[{"Key": "k", "Value": "v"}]
    )["CacheSecurityGroup"]
    assert (made["CacheSecurityGroupName"], made["Description"], made["EC2SecurityGroups"]) == (name, "d", [])
    assert ec.list_tags_for_resource(ResourceName=made["ARN"])["TagList"] == [{"Key": "k", "Value": "v"}]
    with pytest.raises(ec.exceptions.CacheSecurityGroupAlreadyExistsFault):
        ec.create_cache_security_group(CacheSecurityGroupName=name, Description="d")
    ec2 = {"EC2SecurityGroupName": "web", "EC2SecurityGroupOwnerId": "123456789012"}
    ec.authorize_cache_security_group_ingress(CacheSecurityGroupName=name, **ec2)
    with pytest.raises(ec.exceptions.AuthorizationAlreadyExistsFault):
        ec.authorize_cache_security_group_ingress(CacheSecurityGroupName=name, **ec2)
    shown = ec.describe_cache_security_groups(CacheSecurityGroupName=name)["CacheSecurityGroups"]
    assert [g["EC2SecurityGroups"] for g in shown] == [[{"Status": "authorized", **ec2}]]
    ec.revoke_cache_security_group_ingress(CacheSecurityGroupName=name, **ec2)
    with pytest.raises(ec.exceptions.AuthorizationNotFoundFault):
        ec.revoke_cache_security_group_ingress(CacheSecurityGroupName=name, **ec2)
    ec.delete_cache_security_group(CacheSecurityGroupName=name)
    with pytest.raises(ec.exceptions.CacheSecurityGroupNotFoundFault):
        ec.delete_cache_security_group(CacheSecurityGroupName=name)
    with pytest.raises(ec.exceptions.InvalidCacheSecurityGroupStateFault):
        ec.delete_cache_security_group(CacheSecurityGroupName="default")
    assert "default" in [
        g["CacheSecurityGroupName"] for g in ec.describe_cache_security_groups()["CacheSecurityGroups"]
    ]


@pytest.mark.slow
def test_encryption_at_rest_is_told_as_it_is(new_service: Callable[..., Service], name: str) -> None:
    plain = new_service().start()
    ec = plain.client()
    if not _is_seen_as_encrypted(ec, name):
        asked = {"ReplicationGroupId": name, "ReplicationGroupDescription": "d", "AtRestEncryptionEnabled": True}
        with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="CACHEKEEP_ENCRYPTED_STATE"):
            ec.create_replication_group(**asked)
    plain.stop()
    plain.settings["CACHEKEEP_ENCRYPTED_STATE"] = "true"
    ec = plain.start().client()
    shape = create_group(ec, [], f"{name}-b", NumCacheClusters=1, AtRestEncryptionEnabled=True)
    assert shape["AtRestEncryptionEnabled"] is True
    off = create_group(ec, [], f"{name}-c", NumCacheClusters=1, AtRestEncryptionEnabled=False)
    assert off["AtRestEncryptionEnabled"] is False


def _is_seen_as_encrypted(ec: Any, name: str) -> bool:
    """By default a Valkey group is encrypted at rest where the disk of the tests is."""
    return bool(create_group(ec, [], f"{name}-a", NumCacheClusters=1)["AtRestEncryptionEnabled"])
