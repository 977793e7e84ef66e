"""Read one key: large ones in pages, those of a slot that moves behind ASKING. Called by backup.line and contents."""

from __future__ import annotations

from typing import NamedTuple

from cachekeep.backup.big_keys import read_in_pages
from cachekeep.backup.key_reader import GONE, KeyReader
from cachekeep.backup.routing import Talk, exchange
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Refusal

_ROUNDS = 20


class Found(NamedTuple):
    """payload: None when there is no such key; now_ms: by the endpoint's clock, of that moment."""

    payload: bytes | None
    expires_ms: int
    now_ms: int


def read_one(talk: Talk, survey: Survey, key: bytes, *, large: bool = False) -> Found:
    """large: likely so, by what the backup has. Raises Refusal (redirections among them), RemoteError."""
    if talk.asking:
        return _asking(talk, survey, key)
    if large:
        return Found(*read_in_pages(talk.connection, survey, key))
    reader = KeyReader(talk.connection, survey)
    for _ in range(_ROUNDS):
        talk.connection.send(reader.request([key]))
        batch = reader.read(1)
        payload = batch.payloads[0]
        if isinstance(payload, Refusal):
            raise payload
        if not batch.unread:
            return Found(payload, batch.expiries[0], batch.captured_ms)
    raise Refusal(f"ERR its expiry changed {_ROUNDS} times while it was read")


def _asking(talk: Talk, survey: Survey, key: bytes) -> Found:
    """ASKING holds for one command only, and TIME needs none: between two equal answers nothing has changed."""
    exact = survey.can(Ability.PEXPIRETIME)
    expiry = pack("PEXPIRETIME" if exact else "PTTL", key)
    for _ in range(_ROUNDS):
        replies = exchange(talk, [pack("TIME"), expiry, pack("DUMP", key), expiry])
        for reply in replies:
            if isinstance(reply, Refusal):
                raise reply
        time_, before, payload, after = replies
        now_ms = int(time_[0]) * 1000 + int(time_[1]) // 1000
        if after == GONE or payload is None:
            return Found(None, GONE, now_ms)
        if exact and before == after:
            return Found(payload, after, now_ms)
        if not exact and (before < 0) == (after < 0):
            return Found(payload, after if after < 0 else now_ms + after, now_ms)
    raise Refusal(f"ERR its expiry changed {_ROUNDS} times while it was read")
