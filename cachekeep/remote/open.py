"""The door of this room: a URL becomes a Remote. Called by composition roots."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.remote.connection import RespConnection
from cachekeep.remote.dial import dial
from cachekeep.remote.handshake import shake_hands
from cachekeep.remote.secret import password_from_file
from cachekeep.remote.tls import Trust, context_of
from cachekeep.remote.url import DEFAULT_PORT, Place, UrlError, parse_url

TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0


def open_remote(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    ca: Path | str | None = None,
    cert: Path | str | None = None,
    key: Path | str | None = None,
    insecure: bool = False,
    timeout_s: float = TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> RespRemote:
    """The endpoint that the URL names (`remote.url` says how); nothing is connected yet.

    A user or password given here wins over the URL's. TLS options of the URL win over those given here, which several
    endpoints may share; on a URL without TLS the latter mean nothing. timeout_s: how long a reply may take to begin or
    to go on; connect_timeout_s: for connecting, for the TLS handshake, and for the first replies.
    Raises UrlError, and RemoteError(UNTRUSTED) for certificates that cannot be used.
    """
    place = parse_url(url)
    in_url = place.password is not None
    if in_url and place.password_file:
        raise UrlError("the URL holds a password and a password_file: one of them")
    exposed = False
    if password is None and place.password_file:
        password, exposed = password_from_file(place.password_file)
    if place.tls:
        context = context_of(_trust(place, Trust(_path(ca), _path(cert), _path(key), insecure)))
    elif place.ca or place.cert or place.key or place.insecure is not None:
        raise UrlError(f"the {place.scheme}:// URL has options of TLS, and speaks none: write rediss://")
    else:
        context = None
    login = (user if user is not None else place.user, password if password is not None else place.password)
    bare = replace(place, user=None, password=None)
    return RespRemote(bare, login, context, timeout_s, connect_timeout_s, in_url, exposed)


def open_socket(path: Path) -> RespRemote:
    """An engine of ours on a unix socket, without a password."""
    return RespRemote(Place("unix", path=str(path)), (None, None), None)


@dataclass(frozen=True)
class RespRemote:
    """Implements domain.remote.Remote. Its repr shows no credentials.

    has_password_in_url: the caller may warn; it was in a process listing. password_file_exposed: others may read it.
    """

    _place: Place
    _login: tuple[str | None, str | None] = field(repr=False)
    _context: ssl.SSLContext | None = field(repr=False, compare=False)
    timeout_s: float = TIMEOUT_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    has_password_in_url: bool = False
    password_file_exposed: bool = False

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def address(self) -> str:
        return self._place.address

    @property
    def db(self) -> int | None:
        """The database that the URL names."""
        return self._place.db

    def connect(self, db: int = 0, *, timeout_s: float | None = None) -> RespConnection:
        sock = dial(self._place, self._context, self.connect_timeout_s)
        tls = self._context is not None
        connection = RespConnection(sock, self.address, self.connect_timeout_s)
        shake_hands(connection, self._login, db, self.connect_timeout_s, tls=tls)
        connection.set_timeout(self.timeout_s if timeout_s is None else timeout_s)
        return connection

    def at(self, host: str, port: int) -> RespRemote:
        """See the port. A node that does not know its own host says `?` or nothing."""
        if host in ("", "?"):
            host = self._place.host
        if not 0 < port < 65536:
            raise RemoteError(RemoteFault.FOREIGN, f"{self.address} names a node at port {port}", "check its cluster")
        if not host:  # the one behind a unix socket, seen by itself
            return self
        scheme = self._place.scheme if self._place.host else "redis"
        return replace(self, _place=Place(scheme, host=host, port=port or DEFAULT_PORT))


def _trust(place: Place, shared: Trust) -> Trust:
    return Trust(
        ca=_path(place.ca) or shared.ca,
        cert=_path(place.cert) or shared.cert,
        # A key belongs to the certificate beside it.
        key=_path(place.key) if place.cert else _path(place.key) or shared.key,
        insecure=shared.insecure if place.insecure is None else place.insecure,
    )


def _path(text: Path | str | None) -> Path | None:
    return Path(text).expanduser() if text else None
