"""The faults that the API answers with: AWS's code, a sentence, and the HTTP status. Pure.

The code is what stands on the wire (`CacheClusterNotFound`), which is not always the name of the shape in
AWS's model; `codec.aws_model` maps the one to the other, and a test holds this table against the model.
"""

from __future__ import annotations

# Codes whose HTTP status is not 400, and every code that this project raises.
# Source: botocore elasticache 2015-02-02 service-2.json; common errors: ElastiCache API reference "Common Errors".
_STATUS = {
    "CacheClusterNotFound": 404,
    "CacheParameterGroupNotFound": 404,
    "ReplicationGroupNotFoundFault": 404,
    "CacheSecurityGroupNotFound": 404,
    "TagNotFound": 404,
    "AuthorizationNotFound": 404,
    "GlobalReplicationGroupNotFoundFault": 404,
    "NodeGroupNotFoundFault": 404,
    "ReservedCacheNodeAlreadyExists": 404,
    "ReservedCacheNodeNotFound": 404,
    "ReservedCacheNodesOfferingNotFound": 404,
    "ServerlessCacheNotFoundFault": 404,
    "ServerlessCacheSnapshotNotFoundFault": 404,
    "ServiceUpdateNotFoundFault": 404,
    "SnapshotNotFoundFault": 404,
    "UserGroupNotFound": 404,
    "UserNotFound": 404,
    "InvalidCredentialsException": 408,
    "IncompleteSignature": 400,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "SignatureDoesNotMatch": 403,
    "AccessDenied": 403,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
}


class Fault(Exception):
    """An answer that is the caller's to mend (or a refusal that AWS declares)."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status if status is not None else _STATUS.get(code, 400)

    def __repr__(self) -> str:
        return f"Fault({self.code!r}, {self.message!r}, {self.status})"


def invalid_value(message: str) -> Fault:
    return Fault("InvalidParameterValue", message)


def invalid_combination(message: str) -> Fault:
    return Fault("InvalidParameterCombination", message)


def missing_parameter(name: str) -> Fault:
    return Fault("MissingParameter", f"The request must contain the parameter {name}.")


def not_available_yet(what: str) -> Fault:
    """For a parameter or operation that this version of Cachekeep does not carry out."""
    return invalid_combination(f"{what} is not available in this version of Cachekeep.")
