"""A replica of the source to read from instead, so that the primary is spared. Called by follow.follow.

Moments are then those of the replica: as old as it is behind its primary. Source: INFO replication of a primary,
`slave0:ip=10.0.0.7,port=6379,state=online,offset=14,lag=0`.
"""

from __future__ import annotations

from cachekeep.backup.survey import survey as look
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.info import parse_info
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault, understood


def replica_of(remote: Remote, survey: Survey) -> tuple[Remote, Survey]:
    """The one that is nearest to the primary, or the endpoint itself where it is a replica. Raises RemoteError."""
    if survey.role == "replica":
        return remote, survey
    if survey.mode == "cluster":
        what = f"{survey.name} is in cluster mode, where only primaries are followed"
        raise RemoteError(RemoteFault.DENIED, what, "leave `--from-replica` away")
    with remote.connect() as connection, understood(connection.address):
        try:
            text = connection.ask("INFO", "replication").decode("utf-8", "replace")
        except Refusal as refusal:
            what = f"{survey.name} does not tell its replicas: {refusal}"
            raise RemoteError(RemoteFault.DENIED, what, "name the replica itself as the source") from refusal
        lines = [value for name, value in parse_info(text).items() if name[:5] == "slave" and name[5:].isdecimal()]
        found = [dict(part.partition("=")[::2] for part in line.split(",")) for line in lines]
    online = [one for one in found if one.get("state") == "online" and one.get("port", "0") != "0"]
    lost: RemoteError | None = None
    for one in sorted(online, key=lambda one: -int(one.get("offset", "0"))):
        other = remote.at(one["ip"], int(one["port"]))
        try:
            seen = look(other)
        except RemoteError as error:
            lost = error
            continue
        return other, seen
    what = (
        f"{survey.name} has replicas ({len(online)}), and none of them answers here; name its own URL as the source"
        if online
        else (f"{survey.name} has no replica")
    )
    advice = f"{lost.what}" if lost else "leave `--from-replica` away"
    raise RemoteError(RemoteFault.UNREACHABLE, what, advice)
