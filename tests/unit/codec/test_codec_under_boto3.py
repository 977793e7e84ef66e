"""The whole codec under a real boto3 client, with no network between."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from cachekeep.codec.aws_model import load_service
from cachekeep.codec.query import decode_request, parse_form
from cachekeep.codec.sigv4 import HttpRequest, verify
from cachekeep.codec.xml import encode_fault, encode_response
from cachekeep.domain.faults import Fault

Operation = Callable[[str, dict[str, object]], dict[str, object]]


class _Raw(BytesIO):
    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


def client(service_name: str, operate: Operation) -> Any:
    """A client whose requests are answered by `operate` through our codec."""
    service = load_service(service_name)

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        parts = urlsplit(request.url)
        headers = [(n.lower(), v.decode() if isinstance(v, bytes) else v) for n, v in request.headers.items()]
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        http = HttpRequest(request.method, parts.path, parts.query, [*headers, ("host", parts.netloc)], body)
        try:
            verify(http, {"AKID": "secret"}.get, time.time())
            operation, value = decode_request(service, parse_form(http.body or http.query.encode()))
            status, xml = 200, encode_response(service, operation, operate(operation.name, value), "r-1")
        except Fault as fault:
            status, xml = fault.status, encode_fault(service.namespace, fault, "r-1")
        return AWSResponse(request.url, status, {"Content-Type": "text/xml"}, _Raw(xml))

    made = boto3.Session("AKID", "secret", region_name="eu-west-1").client(
        service_name, endpoint_url="http://127.0.0.1:1", config=Config(retries={"max_attempts": 0})
    )
    made.meta.events.register("before-send", answer)
    return made


def test_a_call_goes_there_and_back() -> None:
    def operate(name: str, value: dict[str, object]) -> dict[str, object]:
        assert name == "CreateReplicationGroup"
        assert value == {
            "ReplicationGroupId": "g",
            "ReplicationGroupDescription": "words & <more> é",
            "NumCacheClusters": 2,
            "AutomaticFailoverEnabled": True,
            "SecurityGroupIds": [],
            "Tags": [{"Key": "k", "Value": ""}],
        }
        return {"ReplicationGroup": {"ReplicationGroupId": "g", "Description": value["ReplicationGroupDescription"]}}

    answer = client("elasticache", operate).create_replication_group(
        ReplicationGroupId="g",
        ReplicationGroupDescription="words & <more> é",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
        SecurityGroupIds=[],
        Tags=[{"Key": "k", "Value": ""}],
    )
    assert answer["ReplicationGroup"] == {"ReplicationGroupId": "g", "Description": "words & <more> é"}
    assert answer["ResponseMetadata"]["RequestId"] == "r-1"


def test_a_fault_becomes_the_clients_exception() -> None:
    def operate(name: str, value: dict[str, object]) -> dict[str, object]:
        raise Fault("CacheClusterNotFound", "CacheCluster not found: x")

    elasticache = client("elasticache", operate)
    with pytest.raises(elasticache.exceptions.CacheClusterNotFoundFault, match="not found: x") as caught:
        elasticache.describe_cache_clusters(CacheClusterId="x")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_get_caller_identity_is_answered() -> None:
    identity = {"UserId": "u", "Account": "000000000000", "Arn": "arn:aws:iam::000000000000:user/u"}
    answer = client("sts", lambda name, value: dict(identity)).get_caller_identity()
    assert identity.items() <= answer.items()
