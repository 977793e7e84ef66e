"""Writing one key: the quick form, what to do when it was refused, and which refusals end everything.

Called by backup.line.
"""

from __future__ import annotations

from cachekeep.backup.outcomes import Outcome, Reasons
from cachekeep.backup.routing import Routes, Talk, exchange, is_redirection
from cachekeep.backup.write_keys import KeyWriter
from cachekeep.codec.dump import DumpError, Unrepresentable
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Refusal, RemoteError, RemoteFault, Reply

_AGAIN = "then run it again: only what still differs is written"
_ADVICE = {
    "OOM": f"give it more memory (maxmemory) or remove keys, {_AGAIN}",
    "READONLY": f"name the primary: a replica takes no writes; {_AGAIN}",
    "MISCONF": f"it cannot save its data to disk: mend that, {_AGAIN}",
    "NOREPLICAS": f"it wants more replicas than follow it: mend that, {_AGAIN}",
    "NOPERM": f"allow the user what the message names, {_AGAIN}",
    "NOAUTH": f"give a user and a password, {_AGAIN}",
}
_PASSING = frozenset(("LOADING", "BUSY", "MASTERDOWN"))
_NO_KEY = "no such key"


class WriteEnded(Exception):
    """The endpoint takes no more, from this record on."""

    def __init__(self, db: int, record: Record, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.db, self.key, self.refusal = db, record.key, refusal
        self.advice = _ADVICE.get(refusal.code, _AGAIN)


class OneWriter:
    """For one endpoint. dry_run: everything is made ready and nothing is sent."""

    def __init__(self, routes: Routes, db: int, reasons: Reasons, *, dry_run: bool = False) -> None:
        """Raises Unrepresentable when the endpoint is too old for everything."""
        self._routes, self._db, self.reasons, self.dry_run = routes, db, reasons, dry_run
        self._writer = KeyWriter(routes.survey)
        self.restore, self.restore_new = self._writer.restore, self._writer.restore_new

    def slow(self, record: Record, said: Refusal | None = None) -> int:
        """Write it by commands; returns the outcome. said: why RESTORE did not."""
        try:
            rewrite = self._writer.rewrite(record, self._routes.now_ms())
            if rewrite is None:
                return Outcome.EXPIRED
            if not self.dry_run:
                self._routes.converse(record.key, self._db, lambda talk: self._writer.build(talk, record, rewrite))
        except Unrepresentable as error:
            return self.reasons.number(str(error))
        except DumpError as error:
            return self.reasons.number(str(said) if said else str(error))
        except Refusal as refusal:
            return self._refused(record, refusal)
        return Outcome.WRITTEN

    def after(self, record: Record, reply: Reply) -> int:
        """What to do when the quick form did not work."""
        if isinstance(reply, Refusal) and not is_redirection(reply):
            if is_about_key(reply):
                return self.reasons.number(str(reply))
            return self.slow(record, reply)
        # Redirected; or only the expiry was to be changed, and the key was gone by then.
        command = self.restore(record)
        if command is None:
            return self.slow(record)
        try:
            self._routes.converse(record.key, self._db, lambda talk: _restored(talk, command))
        except Refusal as refusal:
            return self.slow(record, refusal) if not self.is_fatal(refusal) else self._refused(record, refusal)
        return Outcome.WRITTEN

    def is_fatal(self, refusal: Refusal) -> bool:
        """True when no other key would fare better. Raises RemoteError for what passes by itself."""
        if refusal.code in _PASSING:
            raise RemoteError(RemoteFault.UNREACHABLE, f"{self._routes.remote.name}: {refusal}", "wait, and try again")
        return refusal.code in _ADVICE and not is_about_key(refusal)

    def _refused(self, record: Record, refusal: Refusal) -> int:
        if self.is_fatal(refusal):
            raise WriteEnded(self._db, record, refusal)
        if _NO_KEY in str(refusal):  # the temporary one: the last of its fields expired on the way
            return Outcome.EXPIRED
        return self.reasons.number(str(refusal))


def _restored(talk: Talk, command: bytes) -> None:
    reply = exchange(talk, [command])[0]
    if isinstance(reply, Refusal):
        raise reply


def is_about_key(refusal: Refusal | str) -> bool:
    """A user who may not touch this key may touch others."""
    text = str(refusal)
    return text.startswith("NOPERM") and ("access one of the keys" in text or "access a key" in text)
