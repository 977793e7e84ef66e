"""Reads keys of one connection's database: payload and expiry, both of one moment, many keys in one exchange.

Split into request and answer, so that a caller can send the next request before it handles this answer. Called by
the scan (keys that it found) and by comparisons (keys that a backup has).

Payload and expiry must not be torn apart by a writer in between (SET k v EX 9 between DUMP and PEXPIRETIME would give
the old value the new expiry). Where all keys may be named together, MULTI keeps them together. In cluster mode, where
it may not span slots, the expiry is asked before and after DUMP: when both are equal, no writer changed it between.
Before 7.0 there is no PEXPIRETIME: a script adds PTTL to TIME, between two equal readings of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.record import NO_EXPIRY
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Connection, Refusal, Reply, understood

GONE = -2  # what PEXPIRETIME says of a key that is not there

_SCRIPT = b"""local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local out = {}
for i, key in ipairs(KEYS) do
  local before, left, after
  repeat before = now() left = redis.call('PTTL', key) after = now() until before == after
  if left < 0 then out[i] = left else out[i] = before + left end
end
return out"""
_EMPTY_BYTES = 12  # type, number of elements, and the footer
_HASHES = frozenset((4, 22))
_MULTI, _EXEC, _TIME = pack("MULTI"), pack("EXEC"), pack("TIME")
_DUMP = b"*2\r\n$4\r\nDUMP\r\n$%d\r\n%b\r\n"
_EXPIRY = b"*2\r\n$11\r\nPEXPIRETIME\r\n$%d\r\n%b\r\n"
_LEFT = b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"
_SCRIPTED = b"*4\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n1\r\n$%%d\r\n%%b\r\n" % (len(_SCRIPT), _SCRIPT)


class Batch(NamedTuple):
    """The answer, in the order of the keys. captured_ms: by the source's clock.

    payloads: what DUMP gave; None for a key that is gone; a Refusal in the server's words. expiries: absolute, in ms,
    or NO_EXPIRY; GONE where there is no payload. unread: positions of keys that a writer or a refused neighbour came
    between: to be asked again (their payload is None).
    """

    captured_ms: int
    payloads: list[bytes | Refusal | None]
    expiries: list[int]
    unread: list[int]


class KeyReader:
    """For one connection. exact: expiries are to the millisecond; else they may be off by the time of an exchange."""

    def __init__(self, connection: Connection, survey: Survey) -> None:
        self._connection, self._ahead_ms = connection, survey.clock_ahead_ms
        self._together = survey.mode == "standalone" and survey.can(Ability.WATCH)
        self._has_time = survey.can(Ability.TIME)
        self._by_script = not survey.can(Ability.PEXPIRETIME) and survey.can(Ability.SCRIPTS)
        self._by_time_left = not survey.can(Ability.PEXPIRETIME) and not self._by_script
        self.exact = not self._by_time_left
        if self._by_script and not self._together:
            self._expiry = _SCRIPTED
        else:
            self._expiry = _LEFT if self._by_time_left else _EXPIRY

    def request(self, keys: Sequence[bytes]) -> bytes:
        """The bytes to send; `read` with the same number of keys takes the answer. No keys: nothing to send."""
        if not keys:
            return b""
        time_ = _TIME if self._has_time else b""
        if not self._together:
            form = self._expiry + _DUMP + self._expiry
            each = [form % ((size := len(key)), key, size, key, size, key) for key in keys]
            return time_ + b"".join(each)
        if self._by_script:
            each = [_DUMP % (len(key), key) for key in keys]
            return b"".join((_MULTI, time_, *each, pack("EVAL", _SCRIPT, len(keys), *keys), _EXEC))
        form = _DUMP + self._expiry
        each = [form % ((size := len(key)), key, size, key) for key in keys]
        return b"".join((_MULTI, time_, *each, _EXEC))

    def read(self, count: int) -> Batch:
        """The answer to a request of `count` keys. Raises RemoteError; Refusal when nothing at all was allowed."""
        if not count:
            return Batch(self.now_ms(None), [], [], [])
        with understood(self._connection.address):
            return self._read(count)

    def _read(self, count: int) -> Batch:
        first = 1 if self._has_time else 0
        if not self._together:
            replies = self._connection.receive(first + 3 * count)
            return self._apart(self.now_ms(replies[0] if first else None), replies[first:], count)
        queued = first + (count + 1 if self._by_script else 2 * count)
        replies = self._connection.receive(queued + 2)
        answer = replies[-1]
        if isinstance(answer, Refusal):
            return self._refused(replies[1 + first : -1], count, answer)
        captured_ms = self.now_ms(answer[0] if first else None)
        if self._by_script:
            return self._settled(captured_ms, answer[first:-1], answer[-1], count)
        return self._settled(captured_ms, answer[first::2], answer[first + 1 :: 2], count)

    def expiry_request(self, key: bytes) -> bytes:
        """The bytes that ask for the expiry of one key alone; `expiry` takes what comes back."""
        if self._by_script:
            return _SCRIPTED % (len(key), key)
        return (_LEFT if self._by_time_left else _EXPIRY) % (len(key), key)

    def expiry(self, reply: Reply, captured_ms: int) -> int:
        """Absolute, in ms, or NO_EXPIRY, or GONE. Raises Refusal."""
        if isinstance(reply, Refusal):
            raise reply
        if type(reply) is list:
            reply = reply[0]
        return captured_ms + int(reply) if self._by_time_left and reply >= 0 else int(reply)

    def _settled(self, captured_ms: int, payloads: list[Reply], expiries: Reply, count: int) -> Batch:
        """Payloads and expiries of one moment."""
        if isinstance(expiries, Refusal):  # the script, of which all have one answer
            expiries = [expiries] * count
        if self._by_time_left:
            expiries = [captured_ms + left if type(left) is int and left >= 0 else left for left in expiries]
        unread: list[int] = []
        for at, expiry in enumerate(expiries):
            payload = payloads[at]
            if type(payload) is bytes and len(payload) == _EMPTY_BYTES and _is_nothing(payload):
                payloads[at], expiries[at] = None, GONE
            elif type(expiry) is not int:
                payloads[at], expiries[at] = _first_refusal(payloads[at], expiry), GONE
            elif expiry == GONE:
                # Expired between the two commands.
                payloads[at] = payloads[at] if isinstance(payloads[at], Refusal) else None
        return Batch(captured_ms, payloads, expiries, unread)

    def _apart(self, captured_ms: int, replies: list[Reply], count: int) -> Batch:
        """Of every key the expiry, the payload, the expiry again."""
        before, payloads, after = replies[0::3], replies[1::3], replies[2::3]
        if self._by_script:
            before = [one[0] if type(one) is list else one for one in before]
            after = [one[0] if type(one) is list else one for one in after]
        # Time that is left shrinks by itself: only whether there is any can be compared.
        alike = (lambda one, other: (one < 0) == (other < 0)) if self._by_time_left else int.__eq__
        unread = [
            at
            for at, (one, other) in enumerate(zip(before, after, strict=True))
            if type(one) is int and type(other) is int and not alike(one, other) and other != GONE
        ]
        batch = self._settled(captured_ms, payloads, after, count)
        for at in unread:
            payloads[at] = None
        return batch._replace(unread=unread)

    def _refused(self, queued: list[Reply], count: int, answer: Refusal) -> Batch:
        """EXEC was refused, since a command was: name the keys to blame, leave the others to be asked again."""
        each = queued[:count] if self._by_script else queued[: 2 * count]
        step = 1 if self._by_script else 2
        payloads: list[bytes | Refusal | None] = []
        for at in range(count):
            found = [reply for reply in each[at * step : at * step + step] if isinstance(reply, Refusal)]
            payloads.append(found[0] if found else None)
        if not any(payloads):
            raise next((reply for reply in queued if isinstance(reply, Refusal)), answer)
        unread = [at for at, payload in enumerate(payloads) if payload is None]
        return Batch(self.now_ms(None), payloads, [GONE] * count, unread)

    def now_ms(self, reply: Reply) -> int:
        """From what TIME answered; without it, by this machine's clock and its distance."""
        if type(reply) is list:
            return int(reply[0]) * 1000 + int(reply[1]) // 1000
        return time.time_ns() // 1_000_000 + self._ahead_ms


def _is_nothing(payload: bytes) -> bool:
    """A hash without fields: what COPY makes of one whose fields have all expired. No server loads such a payload.

    Observed on Valkey 9.1.
    """
    return payload[0] in _HASHES and payload[1] == 0


def _first_refusal(*replies: Reply) -> Refusal:
    return next(reply for reply in replies if isinstance(reply, Refusal))


__all__ = ["GONE", "NO_EXPIRY", "Batch", "KeyReader"]
