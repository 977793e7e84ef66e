"""What went wrong with an endpoint, as the RemoteError that says so. Pure; used by the rest of remote."""

from __future__ import annotations

import errno
import socket
import ssl

from cachekeep.domain.remote import Refusal, RemoteError, RemoteFault

_X509_EXPIRED, _X509_NOT_YET = 10, 9
_X509_NAMES = (62, 64)  # host name, IP address
_TLS_PLAIN = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
SEEN_BYTES = 60


def unreachable(error: OSError | UnicodeError, address: str, timeout_s: float) -> RemoteError:
    """No connection came about."""
    advice = "check the address, and that the server runs"
    match error:
        case socket.gaierror() | UnicodeError():
            host = address.rpartition(":")[0]
            reason = error.strerror if isinstance(error, socket.gaierror) else "not a host's name"
            what, advice = f"the host {host} has no address ({reason})", "check its name, and the resolver"
        case TimeoutError():
            what = f"{address} does not answer: no connection within {timeout_s:g} s"
            advice = "check the address, and that no firewall or security group is between"
        case ConnectionRefusedError():
            what = f"{address} refuses the connection: nothing listens there"
        case PermissionError():
            what, advice = f"{address} may not be opened by this user", "connect as a user who may"
        case FileNotFoundError():
            what = f"{address} does not exist"
        case _:
            what = f"{address} cannot be reached: {_reason(error)}"
    return RemoteError(RemoteFault.UNREACHABLE, what, advice)


class BrokenError(RemoteError):
    """A connection that stood ended in the middle of something. cause: None for an end of the stream."""

    def __init__(self, cause: OSError | None, what: str, advice: str) -> None:
        super().__init__(RemoteFault.UNREACHABLE, what, advice)
        self.cause = cause


def dropped(error: OSError | None, address: str, timeout_s: float) -> BrokenError:
    if isinstance(error, TimeoutError):
        what = f"{address} says nothing for {timeout_s:g} s"
        advice = "check that the server is not stuck or out of reach, or give it more time"
    elif isinstance(error, ssl.SSLError):
        what = f"the TLS connection to {address} broke: {_reason(error)}"
        advice = "connect again; if it happens every time, something between tampers with it"
    else:
        what = f"{address} dropped the connection ({'end of stream' if error is None else _reason(error)})"
        advice = "connect again; the server's log tells whether it restarted, or cut its clients"
    return BrokenError(error, what, advice)


def closed(address: str) -> RemoteError:
    return RemoteError(RemoteFault.UNREACHABLE, f"the connection to {address} was closed here", "open another one")


def silent(address: str, timeout_s: float, *, tls: bool) -> RemoteError:
    """Connected, and not a word: a plain server waits for the end of a line in what a TLS client says, and v.v."""
    what = f"{address} takes the connection and then says nothing for {timeout_s:g} s"
    return RemoteError(RemoteFault.UNREACHABLE, what, f"check that this is the right port; {_other_way(tls=tls)}")


def silent_from_the_start(error: BrokenError, address: str, timeout_s: float, *, tls: bool) -> RemoteError:
    """The connection broke before the first reply."""
    if isinstance(error.cause, TimeoutError):
        return silent(address, timeout_s, tls=tls)
    what = f"{address} takes the connection and drops it at the first word"
    advice = "if it demands a client certificate, give --cert and --cert-key" if tls else _other_way(tls=False)
    return RemoteError(RemoteFault.UNREACHABLE, what, f"check that this is the right port; {advice}")


def _other_way(*, tls: bool) -> str:
    return "if it speaks no TLS, write redis:// for rediss://" if tls else "if it speaks TLS, write rediss://"


def foreign(address: str, seen: bytes) -> RemoteError:
    """What comes back is not RESP. seen: how it begins."""
    if seen[:1] in (b"\x15", b"\x16") and seen[1:2] == b"\x03":
        what, advice = f"{address} speaks TLS", "write rediss:// for redis://"
    else:
        text = "".join(c if c.isprintable() else "." for c in seen[:SEEN_BYTES].decode("ascii", "replace"))
        what = f"{address} is no Redis or Valkey: it says `{text.strip('. ')}`"
        advice = "check the port"
    return RemoteError(RemoteFault.FOREIGN, what, advice)


def too_long(address: str, limit_bytes: int) -> RemoteError:
    what = f"one reply of {address} is longer than {limit_bytes >> 20} MiB"
    return RemoteError(RemoteFault.FOREIGN, what, "no key of Redis or Valkey needs that much; check what answers there")


def untrusted(error: ssl.SSLError | ConnectionError, address: str, host: str) -> RemoteError:
    """The TLS handshake failed."""
    fault, reason = RemoteFault.UNTRUSTED, getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        what, advice = _verification(error, address, host)
    elif reason in _TLS_PLAIN:
        fault, what, advice = RemoteFault.FOREIGN, f"{address} speaks no TLS", "write redis:// for rediss://"
    elif "ALERT" in reason:
        what, advice = _alert(reason, address)
    else:
        fault = RemoteFault.UNREACHABLE
        what = f"{address} broke off the TLS handshake ({_reason(error)})"
        advice = "if it speaks no TLS, write redis:// for rediss://"
    return RemoteError(fault, what, advice)


def no_certificate(error: ssl.SSLError, address: str) -> RemoteError | None:
    """In TLS 1.3 a server says only after the handshake that it does not take our certificate. None: not that."""
    if "ALERT" in (error.reason or ""):
        return RemoteError(RemoteFault.UNTRUSTED, *_alert(error.reason, address))
    return None


def _verification(error: ssl.SSLCertVerificationError, address: str, host: str) -> tuple[str, str]:
    match error.verify_code:
        case code if code in _X509_NAMES:
            what, advice = f"the certificate of {address} is not for {host}", "use the name that the certificate has"
        case code if code == _X509_EXPIRED:
            what, advice = f"the certificate of {address} has expired", "renew it, and check this machine's clock"
        case code if code == _X509_NOT_YET:
            what, advice = f"the certificate of {address} is not valid yet", "check this machine's clock"
        case _:
            what = f"the certificate of {address} is signed by nobody trusted here ({error.verify_message})"
            advice = "give its authority's certificate with --ca"
    return what, f"{advice}, or accept any server with --insecure"


def _alert(reason: str, address: str) -> tuple[str, str]:
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return f"{address} demands a client certificate", "give one with --cert and --cert-key"
    if "CERT" in reason or "UNKNOWN_CA" in reason:
        return f"{address} does not accept our client certificate", "give one that its authority signed"
    said = reason.lower().replace("_", " ")
    return f"{address} ends the TLS handshake: {said}", "check which TLS versions and ciphers it takes"


def not_let_in(refusal: Refusal, address: str) -> RemoteError | None:
    """A reply to the first commands, as trouble. None: one that does not matter."""
    text, passing, denied = str(refusal), RemoteFault.UNREACHABLE, RemoteFault.DENIED
    match refusal.code:
        case "LOADING":
            return RemoteError(passing, f"{address} is still loading its data set", "try again in a moment")
        case "MASTERDOWN":
            what = f"{address} is a replica that has lost its primary and serves no stale data"
            return RemoteError(passing, what, "use another replica or the primary, or try again later")
        case "BUSY":
            return RemoteError(passing, f"{address} is held up by a script", "try again when the script has ended")
        case "NOAUTH":
            return RemoteError(
                denied,
                f"{address} asks for a password",
                "give one by --password-file or the environment (CACHEKEEP_SOURCE_PASSWORD, CACHEKEEP_TARGET_PASSWORD)",
            )
        case "DENIED":
            what = f"{address} is in protected mode and takes no connection from this machine"
            return RemoteError(denied, what, "give it a password, or connect from the machine it runs on")
    if "max number of clients" in text:
        what = f"{address} has no room for another client ({text})"
        return RemoteError(passing, what, "try again when others have gone, or raise its maxclients")
    return None


def login_refused(text: str, address: str) -> RemoteError:
    """text: the refusal, free of credentials."""
    if text.startswith("WRONGPASS") or "invalid password" in text:
        return RemoteError(RemoteFault.DENIED, f"{address} does not accept the user and password", "check both")
    if "without any password" in text or "no password is set" in text:
        what = f"{address} has no password for the default user, and one was given"
        return RemoteError(RemoteFault.DENIED, what, "leave it out, or name its user")
    return RemoteError(RemoteFault.DENIED, f"{address} refuses the login: {text}", "check user and password")


def no_database(refusal: Refusal, address: str, db: int) -> RemoteError:
    text = str(refusal)
    if refusal.code == "NOPERM":
        what, advice = f"{address} does not allow this user SELECT, which database {db} needs", "allow it in the ACL"
    elif "out of range" in text:
        what, advice = f"{address} has no database {db}", "name one that it has, or raise its `databases`"
    else:
        what, advice = f"{address} does not open database {db}: {text}", "name another one; in cluster mode, 0"
    return RemoteError(RemoteFault.DENIED, what, advice)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "end of stream").lower().replace("_", " ")
    number = error.errno if isinstance(error, OSError) else None
    return (errno.errorcode.get(number) if number else None) or str(error) or type(error).__name__
