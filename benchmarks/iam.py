"""How long AUTH by IAM token takes at the engine, beside AUTH by password; and what a token costs the service.

A kept connection authenticates again and again: from the client's first byte to the engine's answer, with the question
to the service's agent in between. Engine, service and client share the machine.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from botocore.credentials import Credentials
from botocore.hooks import HierarchicalEmitter
from botocore.model import ServiceId
from botocore.signers import RequestSigner

from benchmarks import groups
from benchmarks.figure import Figure, below, milliseconds, noted, p90
from benchmarks.installation import REGION, BenchmarkError, Installation, wait_for
from benchmarks.machine import cpu_s

LIMIT_S = 0.001
TIMES = 2000
_WARM_UP = 100
_PASSWORD = "a-password-of-the-benchmark"
_NAME = "tokens"


def measure(it: Installation) -> list[Figure]:
    client = it.client()
    shared = {"Engine": "valkey", "AccessString": "on ~* +@all"}
    client.create_user(UserId="iam", UserName="iam", AuthenticationMode={"Type": "iam"}, **shared)
    client.create_user(UserId="plain", UserName="plain", Passwords=[_PASSWORD], **shared)
    client.create_user_group(UserGroupId="both", Engine="valkey", UserIds=["iam", "plain"])
    wait_for(lambda: _is_active(client), groups.CREATE_DEADLINE_S, "the user group is active")
    client.create_replication_group(
        ReplicationGroupId=_NAME, ReplicationGroupDescription="benchmark", Engine="valkey",
        CacheNodeType=groups.NODE_TYPE, NumCacheClusters=1, UserGroupIds=["both"],
    )  # fmt: skip
    try:
        found = groups.wait_available(client, _NAME)
        endpoint = found["NodeGroups"][0]["PrimaryEndpoint"]
        used = cpu_s(it.pid)
        by_token = _times(endpoint, "iam", _token(it))
        used = (cpu_s(it.pid) - used) / (TIMES + _WARM_UP)
        by_password = _times(endpoint, "plain", _PASSWORD)
    finally:
        groups.delete(client, _NAME)
        client.delete_user_group(UserGroupId="both")
    how = f"median of {TIMES} on a kept connection"
    middle = by_token[TIMES // 2]
    return [
        below("AUTH by IAM token", middle, LIMIT_S, _fine, more=f" (p90 {_fine(p90(by_token))})", how=how),
        noted("AUTH by password", by_password[TIMES // 2], _fine, how=how),
        noted("the service's processor time per token", used, _fine, how="other work of the service among it"),
    ]


def _times(endpoint: Mapping[str, Any], user: str, password: str) -> list[float]:
    """Seconds each, in order."""
    words = [b"AUTH", user.encode(), password.encode()]
    request = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    taken = []
    with socket.create_connection((endpoint["Address"], endpoint["Port"]), timeout=10) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_WARM_UP + TIMES):
            begin = time.perf_counter()
            link.sendall(request)
            answer = link.recv(512)
            taken.append(time.perf_counter() - begin)
            if answer != b"+OK\r\n":
                raise BenchmarkError(f"AUTH as {user} was answered with {answer[:80]!r}")
    return sorted(taken[_WARM_UP:])


def _token(it: Installation) -> str:
    """As AWS's client libraries make it."""
    key = it.key
    events = HierarchicalEmitter()  # of which the signer keeps a weak reference
    service = ServiceId("elasticache")
    signer = RequestSigner(service, REGION, "elasticache", "v4", Credentials(key.id, key.secret), events)
    url = f"http://{_NAME}/?Action=connect&User=iam"
    request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
    made = signer.generate_presigned_url(request, operation_name="connect", expires_in=900, region_name=REGION)
    return str(made).removeprefix("http://")


def _is_active(client: Any) -> bool:
    return bool(client.describe_user_groups(UserGroupId="both")["UserGroups"][0]["Status"] == "active")


def _fine(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < LIMIT_S else milliseconds(seconds)
