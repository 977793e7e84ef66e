"""IAM tokens that engines were sent: is it good, for this cache and this user, may its key connect? For the agent.

Asked at the gate as `elasticache:Connect` on the replication group and on the user, as AWS does; refusals of known keys
stand in the trail. Which users of a group log in by token is told by whoever knows them.
Source: ElastiCache guide, "Authenticating with IAM".
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass

import structlog

from cachekeep.api.action_resources import arn
from cachekeep.api.dispatch import new_request_id
from cachekeep.api.gate import Gate, Visit
from cachekeep.codec.iam_token import IamToken, TokenError, verify_token
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import IamUsers, Verdict
from cachekeep.domain.ports import Clock, Store
from cachekeep.domain.replication_group import ReplicationGroup

log = structlog.get_logger()

CONNECT = "Connect"
# Tokens, and users of nodes.
MOST_REMEMBERED = 8192
_Meant = tuple[ReplicationGroup, str]


@dataclass(frozen=True)
class _Good:
    """secret: the digest of the one that the token was made with."""

    token: IamToken
    secret: bytes


class TokenJudge:
    """users: those that log in by token, by group.

    Clients send a token for as long as it is good, at each of their connections. So good ones are remembered by their
    digests, with the secret that they were made with; and whose node asks, until the store changes.
    """

    def __init__(self, gate: Gate, store: Store, clock: Clock, account: str, users: IamUsers) -> None:
        self._gate, self._store, self._clock, self._account, self._users = gate, store, clock, account, users
        self._good: OrderedDict[bytes, _Good] = OrderedDict()
        self._meant: dict[tuple[str, str], _Meant | None] = {}
        store.subscribe(lambda _: self._meant.clear())

    def __call__(self, node: str, user: str, token: str) -> Verdict:
        """node: as NodeKey writes itself. user: the name that the client gave."""
        meant = self._find(node, user)
        if meant is None:
            return Verdict.PASS
        try:
            self._check(self._verified(token), *meant)
        except (TokenError, Fault) as error:
            log.info("an IAM token was refused", node=node, user=user[:120], why=str(error))
            return Verdict.REFUSE
        return Verdict.LET_IN

    def _find(self, node: str, user: str) -> _Meant | None:
        """The group that the node is of, and the id of its user; None for no group, or no user of tokens."""
        if (node, user) in self._meant:
            return self._meant[node, user]
        region, _, rest = node.partition("/")
        group = self._group(region, rest.partition("/")[0])
        user_id = self._users(group, user) if group is not None else None
        found = (group, user_id) if group is not None and user_id is not None else None
        if len(self._meant) >= MOST_REMEMBERED:
            self._meant.clear()
        self._meant[node, user] = found
        return found

    def _verified(self, text: str) -> IamToken:
        """Raises TokenError."""
        digest, now = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), self._clock.now()
        known = self._good.get(digest)
        if known is not None and known.token.good_from <= now <= known.token.good_until:
            secret = self._gate.secret_of(known.token.caller.access_key)
            # Not so when the key is gone, or another one of its id was made.
            if secret is not None and hmac.compare_digest(_digest(secret), known.secret):
                return known.token
        token = verify_token(text, self._gate.secret_of, now)
        secret = self._gate.secret_of(token.caller.access_key)
        if secret is not None:
            self._good[digest] = _Good(token, _digest(secret))
            while len(self._good) > MOST_REMEMBERED:
                self._good.popitem(last=False)
        return token

    def _group(self, region: str, cluster_id: str) -> ReplicationGroup | None:
        cluster = self._store.get(CacheCluster, region, cluster_id)
        if cluster is None or cluster.replication_group_id is None:
            return None
        return self._store.get(ReplicationGroup, region, cluster.replication_group_id)

    def _check(self, token: IamToken, group: ReplicationGroup, user_id: str) -> None:
        """Raises TokenError for a token of something else, AccessDenied for a key that may not connect."""
        cache, kind = (group.serverless or group.id), ("serverlesscache" if group.serverless else "replicationgroup")
        if token.serverless is not bool(group.serverless) or token.cache != cache:
            raise TokenError(f"it is for {'serverless cache ' if token.serverless else ''}{token.cache}")
        if token.user != user_id:
            raise TokenError("it is for another user")
        if token.caller.region != group.region:
            raise TokenError(f"it is for the region {token.caller.region}")
        resources = tuple(
            arn(kind, name, group.region, self._account) for kind, name in ((kind, cache), ("user", user_id))
        )
        visit = Visit(new_request_id(), "", token.caller.access_key, group.region, resources=resources)
        visit.action = f"elasticache:{CONNECT}"
        try:
            self._gate.check(visit, group.region)
        except Fault as fault:
            self._gate.end(visit, fault.code)
            raise


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
