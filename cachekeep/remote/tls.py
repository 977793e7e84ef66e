"""Whom a connection trusts: by default the certificate authorities of the system, and the host's name is checked.

Used by remote.open. Reads files, opens no connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cachekeep.domain.remote import RemoteError, RemoteFault


@dataclass(frozen=True)
class Trust:
    """ca: authorities to believe instead of the system's. cert, key: who we are. All are paths of PEM files.

    insecure: believe anyone, which leaves the traffic open to whoever stands between.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @property
    def given(self) -> bool:
        return self != Trust()


def context_of(trust: Trust) -> ssl.SSLContext:
    """Raises RemoteError(UNTRUSTED) when a file cannot be read or is not what it should be."""
    if trust.key and not trust.cert:
        raise _unusable(trust.key, "belongs to a certificate, and none is given", "give the certificate as well")
    try:
        made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=_readable(trust.ca))
    except ssl.SSLError:
        raise _unusable(trust.ca, "holds no certificate", "give the authority's certificate as PEM") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if trust.cert:
        cert, key = _readable(trust.cert), _readable(trust.key)
        try:
            # Never asks at a terminal: an encrypted key fails with a sentence.
            made.load_cert_chain(str(cert), key, password=_no_passphrase)
        except (ssl.SSLError, _EncryptedError) as error:
            which = "is encrypted" if isinstance(error, _EncryptedError) else "and its key do not fit, or are no PEM"
            advice = "give a PEM certificate with its unencrypted private key"
            raise _unusable(trust.cert, which, advice) from None
    return made


class _EncryptedError(Exception):
    """A private key wants a passphrase."""


def _no_passphrase() -> str:
    raise _EncryptedError


def _readable(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}", "name a PEM file that this user may read") from None


def _unusable(path: Path | None, why: str, advice: str) -> RemoteError:
    return RemoteError(RemoteFault.UNTRUSTED, f"{path} {why}", advice)
