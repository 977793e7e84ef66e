"""URLs of endpoints, read into what they say. Pure.

    redis://[user[:password]@]host[:port][/db][?option=value&...]      also valkey://
    rediss://...                                                       TLS; also valkeys://
    unix:///path/to/socket[?db=2&...]                                  also redis+unix://, valkey+unix://

Options, for this one endpoint: `password_file`, `ca`, `cert`, `key` (paths), `insecure=1`, `db`. User, password, path
and options are percent-decoded. No message of an error holds any part that may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORT = 6379
_TCP = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_UNIX = ("unix", "redis+unix", "valkey+unix")
_OPTIONS = ("password_file", "ca", "cert", "key", "insecure", "db")
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")
_ENCODE = "a user or password that holds / ? # @ or : has them percent-encoded: %2F %3F %23 %40 %3A"
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class UrlError(ValueError):
    """Not a URL of an endpoint. Says what is wrong with it, and never a password."""


@dataclass(frozen=True)
class Place:
    """What a URL says. Exactly one of host and path is set. db: None where it names none."""

    scheme: str
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int | None = None
    password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool | None = None

    @property
    def tls(self) -> bool:
        return _TCP.get(self.scheme, False)

    @property
    def address(self) -> str:
        """`host:port`, or `unix:/path`."""
        return f"unix:{self.path}" if self.path else address_of(self.host, self.port)

    @property
    def name(self) -> str:
        """The URL without credentials and options."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        return f"{self.scheme}://{self.address}" + ("" if self.db is None else f"/{self.db}")


def address_of(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_url(url: str) -> Place:
    """Raises UrlError."""
    if _CONTROL.search(url):
        raise UrlError(f"the URL holds a space or a control character; {_ENCODE}, a space is %20")
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark:
        raise UrlError("an endpoint is written as redis://host:port, rediss://host:port or unix:///path")
    if scheme not in _TCP and scheme not in _UNIX:
        known = ", ".join(f"{one}://" for one in (*_TCP, *_UNIX))
        raise UrlError(f"the URL's scheme is none of {known}")
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:  # a bracket without its other half
        raise UrlError(f"the host of the {scheme}:// URL is none; an IPv6 address stands in brackets: [::1]") from None
    if "@" in parts.path + parts.query or parts.fragment or "#" in rest:
        raise UrlError(f"the {scheme}:// URL holds @ or # where they do not belong; {_ENCODE}")
    user, password = _credentials(parts)
    options = _options(parts.query)
    common = {"scheme": scheme, "user": user, "password": password, **_checked(options)}
    where = _socket(scheme, parts) if scheme in _UNIX else _network(scheme, parts, options)
    return Place(**common, **where)  # type: ignore[arg-type]  # made of parts that were checked one by one


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    told, mark, _ = parts.netloc.rpartition("@")
    if not mark:
        return None, None
    user, mark, password = told.partition(":")
    return _decoded(user) or None, _decoded(password) if mark else None


def _network(scheme: str, parts: SplitResult, options: Mapping[str, str]) -> dict[str, object]:
    try:
        port = parts.port
    except ValueError:
        raise UrlError(f"the port of the {scheme}:// URL is no number up to 65535; {_ENCODE}") from None
    if not parts.hostname or port == 0:
        raise UrlError(f"the {scheme}:// URL names no {'port' if parts.hostname else 'host'}: {scheme}://host:port")
    # urlsplit's own `hostname` is in lower case: the one of the user is kept for messages.
    host = _decoded(parts.netloc.rpartition("@")[2])
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    where: dict[str, object] = {"host": host, "port": DEFAULT_PORT if port is None else port}
    path = parts.path.strip("/")
    if path:
        if "db" in options:
            raise UrlError("the URL names its database twice, as /db and as db=")
        where["db"] = _number(path)
    return where


def _socket(scheme: str, parts: SplitResult) -> dict[str, object]:
    path = _decoded(parts.path)
    if parts.netloc.rpartition("@")[2] or len(path) < 2:
        raise UrlError(f"a socket is written with three slashes, as {scheme}:///path/to/socket")
    return {"path": path}


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            # Not even the name is shown: it may be the rest of a password that held a question mark.
            raise UrlError(f"the URL has an option that is none of {', '.join(_OPTIONS)}; {_ENCODE}")
        if name in options or not value:
            raise UrlError(f"the URL's option {name} {'stands twice' if name in options else 'has no value'}")
        options[name] = _decoded(value)
    return options


def _checked(options: Mapping[str, str]) -> dict[str, object]:
    checked: dict[str, object] = dict(options)
    if "insecure" in options:
        answer = options["insecure"].lower()
        if answer not in _YES + _NO:
            raise UrlError("the URL's option insecure is 1 or 0")
        checked["insecure"] = answer in _YES
    if "db" in options:
        checked["db"] = _number(options["db"])
    return checked


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UrlError("the database in the URL is no number: write redis://host:port/2")
    return int(text)


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise UrlError("the URL holds percent-encoded bytes that are no UTF-8") from None
