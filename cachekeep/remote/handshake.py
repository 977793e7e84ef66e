"""Getting in: who we are, which database, and whether the server serves at all. Used by remote.open only.

All commands go at once. The last, DBSIZE, is there to be refused: unlike PING it is refused by a server that loads its
data set or has lost its primary, and unlike a command on a key it is never redirected. ACLs may refuse it as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from cachekeep.codec.resp import Word, pack_all
from cachekeep.domain.remote import Refusal
from cachekeep.remote import trouble
from cachekeep.remote.connection import RespConnection

CLIENT_NAME = "cachekeep"


def shake_hands(
    connection: RespConnection, login: tuple[str | None, str | None], db: int, timeout_s: float, *, tls: bool
) -> None:
    """login: user and password. timeout_s: for all of it. Raises RemoteError; the connection is closed then."""
    deadline = time.monotonic() + timeout_s
    heard = 0
    try:
        commands = list(_commands(login, db))
        connection.send(pack_all(commands))
        for command in commands:
            reply = connection.reply_by(deadline)
            heard += 1
            if isinstance(reply, Refusal):
                _judge(command, reply, connection.address, login, db)
    except trouble.BrokenError as error:
        if heard:
            raise
        # Nothing was ever said: it may not be what we think it is.
        raise trouble.silent_from_the_start(error, connection.address, timeout_s, tls=tls) from None
    except BaseException:
        connection.close()
        raise
    connection.db = db


def _commands(login: tuple[str | None, str | None], db: int) -> Iterator[tuple[Word, ...]]:
    user, password = login
    if user or password:
        yield ("AUTH", user, password or "") if user else ("AUTH", password or "")
    if db:
        yield ("SELECT", db)
    yield ("CLIENT", "SETNAME", CLIENT_NAME)
    yield ("DBSIZE",)


def _judge(
    command: tuple[Word, ...], refusal: Refusal, address: str, login: tuple[str | None, str | None], db: int
) -> None:
    """Raise RemoteError when the refusal matters."""
    if error := trouble.not_let_in(refusal, address):
        raise error
    if command[0] == "AUTH":
        # A server without AUTH repeats its arguments: "unknown command 'AUTH', with args beginning with: ...".
        text = str(refusal).partition(", with args")[0]
        for secret in login:
            text = text.replace(secret, "***") if secret else text
        raise trouble.login_refused(text, address)
    if command[0] == "SELECT":
        raise trouble.no_database(refusal, address, db)
