"""Too many requests: the fault, and how boto3's retry modes live with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from cachekeep import credentials

from .conftest import Service, wait_for


def client(service: Service, region: str, **retries: Any) -> Any:
    key = credentials.load(service.state_dir)
    return boto3.client(
        "elasticache",
        endpoint_url=service.url,
        region_name=region,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(retries=retries, read_timeout=30),
    )


def refusal(impatient: Any) -> dict[str, Any]:
    """Asks until it is told to wait."""
    while True:
        try:
            impatient.describe_replication_groups()
        except ClientError as refused:
            return dict(refused.response)


@pytest.mark.parametrize(
    "mode", ["standard", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("legacy", "adaptive"))]
)
def test_too_many_requests_are_told_to_wait_and_clients_that_do_are_answered(
    new_service: Callable[..., Service], mode: str
) -> None:
    service = new_service(CACHEKEEP_API_RATE="4").start()
    error = refusal(client(service, "us-east-1", total_max_attempts=1))
    assert error["Error"]["Code"] == "Throttling"
    assert error["Error"]["Message"] == "Rate exceeded"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    # Another region has a bucket of its own.
    impatient = client(service, "eu-west-1", total_max_attempts=1)
    patient = client(service, "eu-west-1", mode=mode, max_attempts=10)
    impatient.describe_replication_groups()

    def had_to_wait() -> bool:
        refusal(impatient)
        return bool(patient.describe_replication_groups()["ResponseMetadata"]["RetryAttempts"])

    wait_for(had_to_wait, 60)
