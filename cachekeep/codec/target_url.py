"""URLs of endpoints that are only watched. Pure; called by api.watch and monitor.targets.

redis://[user@]host[:port]        also valkey://; rediss:// and valkeys:// are TLS
memcached://host[:port]           memcacheds:// is TLS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

# Scheme -> speaks RESP, TLS, port.
_SCHEMES = {
    "redis": (True, False, 6379),
    "valkey": (True, False, 6379),
    "rediss": (True, True, 6379),
    "valkeys": (True, True, 6379),
    "memcached": (False, False, 11211),
    "memcacheds": (False, True, 11211),
}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})\Z|[0-9A-Fa-f:.]{2,45}\Z")
LONGEST = 400


class TargetUrlError(ValueError):
    """Not a URL of an endpoint to watch. Says what is wrong with it, and never a password."""


@dataclass(frozen=True)
class TargetUrl:
    """host: a name or an IP address, without brackets."""

    scheme: str
    host: str
    port: int
    username: str = ""

    @property
    def speaks_resp(self) -> bool:
        return _SCHEMES[self.scheme][0]

    @property
    def tls(self) -> bool:
        return _SCHEMES[self.scheme][1]

    def __str__(self) -> str:
        """Without the user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_target_url(text: str) -> TargetUrl:
    """Raises TargetUrlError, also for a URL that holds a password."""
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _SCHEMES:
        raise TargetUrlError(f"an endpoint is written as SCHEME://HOST:PORT, with one of {', '.join(_SCHEMES)}")
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        raise TargetUrlError(f"host or port of the {scheme}:// URL cannot be read") from None
    if parts.password is not None:
        raise TargetUrlError("the URL holds a password, which everybody could read; give the password beside it")
    path = parts.path.strip("/")
    if parts.query or parts.fragment or not (path == "" or path.isdecimal()) or len(text) > LONGEST:
        raise TargetUrlError(f"the {scheme}:// URL has more than a host and a port: {scheme}://host:port is all")
    host = parts.hostname or ""
    if not _HOST.match(host) or port == 0:
        raise TargetUrlError(f"the {scheme}:// URL names no {'port' if host and port == 0 else 'host'}")
    return TargetUrl(scheme, host, port or _SCHEMES[scheme][2], unquote(parts.username or ""))
