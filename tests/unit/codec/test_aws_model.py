"""What is read from botocore's models, and the domain's faults held against it."""

from __future__ import annotations

import pytest

from cachekeep.codec.aws_model import Shape, _Shapes, fault_statuses, load_service
from cachekeep.domain.faults import _STATUS, Fault

EC = load_service("elasticache")
STS = load_service("sts")


def test_a_service_is_loaded_once() -> None:
    assert load_service("elasticache") is EC


def test_the_services_are_those_that_clients_speak_to() -> None:
    assert (EC.name, EC.api_version, EC.namespace, len(EC.operations)) == (
        "elasticache",
        "2015-02-02",
        "http://elasticache.amazonaws.com/doc/2015-02-02/",
        77,
    )
    assert (STS.api_version, STS.namespace) == ("2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/")


def test_an_unknown_service_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_service("no-such-service")


def test_three_operations_have_no_result() -> None:
    assert {op.name for op in EC.operations.values() if op.output is None} == {
        "DeleteCacheParameterGroup",
        "DeleteCacheSecurityGroup",
        "DeleteCacheSubnetGroup",
    }
    assert all((op.output is None) == (op.result_wrapper is None) for op in EC.operations.values())


def test_faults_are_named_as_on_the_wire() -> None:
    faults = EC.operations["CreateCacheSecurityGroup"].faults
    assert faults >= {"QuotaExceeded.CacheSecurityGroup", "InvalidParameterValue", "CacheSecurityGroupAlreadyExists"}
    assert EC.operations["DescribeReplicationGroups"].faults >= {"ReplicationGroupNotFoundFault"}
    assert EC.operations["DescribeCacheClusters"].faults >= {"CacheClusterNotFound"}


def test_no_documentation_is_kept() -> None:
    assert not any(slot.startswith("doc") for slot in Shape.__slots__)


def test_a_type_may_bring_a_wire_name_of_its_own() -> None:
    describe = EC.operations["DescribeReplicationGroups"].output
    assert describe is not None
    groups = describe.members["ReplicationGroups"].shape.item
    assert groups is not None
    pending = groups.shape.members["PendingModifiedValues"].shape.members["LogDeliveryConfigurations"]
    assert pending.wire == "PendingLogDeliveryConfiguration"


@pytest.mark.parametrize("code", sorted(set(_STATUS) & set(EC.statuses)))
def test_the_status_of_a_fault_is_the_models(code: str) -> None:
    assert _STATUS[code] == fault_statuses(EC)[code]


def test_the_domain_knows_the_status_of_every_fault() -> None:
    wrong = {code for code, status in fault_statuses(EC).items() if Fault(code, "").status != status}
    assert wrong == set()


@pytest.mark.parametrize(
    "raw",
    [
        {"S": {"type": "map"}},
        {"S": {"type": "blob"}},
        {"S": {"type": "list", "flattened": True, "member": {"shape": "S"}}},
        {"S": {"type": "list", "member": {"shape": "S"}}},
        {"S": {"type": "structure", "members": {"a": {"shape": "T"}}}, "T": {"type": "list", "member": {"shape": "S"}}},
    ],
)
def test_what_the_codec_does_not_know_fails_at_load(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Query codec knows? no|does not know"):
        _Shapes(raw).get("S")


def test_paths_stay_well_within_the_decoders_bound() -> None:
    def depth(shape: Shape) -> int:
        if shape.item is not None:
            return 2 + depth(shape.item.shape)
        return max((1 + depth(m.shape) for m in shape.members.values()), default=0)

    assert max(depth(op.input) for s in (EC, STS) for op in s.operations.values() if op.input) == 9
