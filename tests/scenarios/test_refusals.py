"""Operations that are not carried out yet: each says so, by a fault that AWS's model declares for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from cachekeep import credentials
from cachekeep.api.operations import OPERATIONS

from .conftest import Service


def example(shape: Any) -> Any:
    """A value that the model accepts: what is required, and no more."""
    match shape.type_name:
        case "structure":
            # botocore does not send a structure that is empty.
            names = shape.required_members or list(shape.members)[:1]
            return {name: example(shape.members[name]) for name in names}
        case "list":
            return [example(shape.member)] * max(1, shape.metadata.get("min", 0))
        case "boolean":
            return True
        case "integer" | "long":
            return max(1, shape.metadata.get("min", 0))
        case "float" | "double":
            return 1.0
        case "timestamp":
            return datetime(2026, 1, 1, tzinfo=UTC)
        case "string":
            longest, pattern = shape.metadata.get("max", 100), shape.metadata.get("pattern", ".*")
            words = shape.metadata.get("enum") or ["example", "1"]
            return next(word for word in words if len(word) <= longest and re.fullmatch(pattern, word))
        case other:
            raise AssertionError(f"{shape.name} is a {other}")


def unchecked_client(service: Service) -> Any:
    """A client that sends whatever it is given, and never tries again."""
    key = credentials.load(service.state_dir)
    return boto3.client(
        "elasticache",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=30),
    )


def test_every_other_operation_answers_a_declared_fault(service: Service) -> None:
    ec = service.client()
    model = ec.meta.service_model
    others = [name for name in model.operation_names if name not in OPERATIONS]
    assert len(others) + len(OPERATIONS) == len(model.operation_names) >= 77
    for name in others:
        operation = model.operation_model(name)
        declared = {shape.metadata.get("error", {}).get("code", shape.name) for shape in operation.error_shapes}
        with pytest.raises(ClientError) as refused:
            getattr(ec, xform_name(name))(**(example(operation.input_shape) if operation.input_shape else {}))
        answer = refused.value.response
        assert answer["Error"]["Code"] in declared, name
        assert 400 <= answer["ResponseMetadata"]["HTTPStatusCode"] < 500, name
        assert answer["Error"]["Message"].startswith(f"{name} is not available in this version of Cachekeep."), name


def test_what_the_model_demands_is_checked_first(service: Service) -> None:
    """A request that AWS would not understand gets AWS's answer, whether or not the operation is carried out."""
    ec = unchecked_client(service)
    with pytest.raises(ClientError) as refused:
        ec.create_user(UserId="a")
    assert refused.value.response["Error"]["Code"] == "MissingParameter"
