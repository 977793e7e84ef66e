"""From a place to a connected socket: names, TCP, unix sockets, TLS. Used by remote.open only."""

from __future__ import annotations

import socket
import ssl
import sys
from contextlib import suppress

from cachekeep.remote import trouble
from cachekeep.remote.url import Place

# A copy waits long for slow disks at its other end: a server that vanished meanwhile is noticed within a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def dial(place: Place, context: ssl.SSLContext | None, timeout_s: float) -> socket.socket:
    """A connected socket, the TLS handshake done. timeout_s: for each step. Raises RemoteError."""
    try:
        plain = _unix(place.path, timeout_s) if place.path else _tcp(place, timeout_s)
    except (OSError, UnicodeError) as error:
        raise trouble.unreachable(error, place.address, timeout_s) from None
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=place.host)
    except TimeoutError:
        plain.close()
        raise trouble.silent(place.address, timeout_s, tls=True) from None
    except (ssl.SSLError, ConnectionError) as error:
        plain.close()
        raise trouble.untrusted(error, place.address, place.host) from None
    except (OSError, ValueError) as error:  # a name that TLS cannot ask for
        plain.close()
        raise trouble.unreachable(OSError(str(error)), place.address, timeout_s) from None
    except BaseException:
        plain.close()
        raise


def _tcp(place: Place, timeout_s: float) -> socket.socket:
    made = socket.create_connection((place.host, place.port), timeout_s)
    with suppress(OSError):  # a system without one of them: the connection works without it
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            option = getattr(socket, name, None)
            if option is not None and (name != "TCP_KEEPALIVE" or sys.platform == "darwin"):
                made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _unix(path: str, timeout_s: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout_s)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made
