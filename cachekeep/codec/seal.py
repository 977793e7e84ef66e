"""Sealing: AES-256-GCM under a key from a passphrase (scrypt) or from a key file.

Pure but for the random bytes of salts and nonces. `cryptography` is imported when a seal is made or opened, not
before: most repositories have none. Called by backup.catalog.
Sources: NIST SP 800-38D (96-bit random nonces: at most 2^32 frames per key); RFC 7914 (scrypt).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER = "aes-256-gcm"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_CHECKED = b"cachekeep-backup"
_SALT_BYTES = 16
# OWASP's cost for scrypt is n=2^17; 2^15 takes 60 ms and 32 MiB. What a file asks for is bounded, so that a forged
# one cannot take the memory of the machine.
_COST_N, _COST_R, _COST_P = 1 << 15, 8, 1
_MEMORY_LIMIT_BYTES = 256 << 20
_PARALLEL_LIMIT = 16


class SealError(ValueError):
    """What is sealed cannot be opened. Says why."""


class WrongSecret(SealError):
    """The passphrase or key file is another one, or the wrong sort."""


@dataclass(frozen=True, repr=False)
class Passphrase:
    """Never shown: its repr says nothing."""

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise SealError("an empty passphrase protects nothing: give one, or seal nothing")


@dataclass(frozen=True, repr=False)
class KeyFile:
    """The 32 bytes of a key file."""

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise SealError(
                f"a key file holds exactly {KEY_BYTES} bytes, not {len(self.key)}: make one with "
                f"`head -c {KEY_BYTES} /dev/urandom`"
            )


Secret = Passphrase | KeyFile


@dataclass(frozen=True)
class Sealing:
    """How a repository is sealed, as repository.json says it. kdf: scrypt or file; salt and check in base64."""

    cipher: str
    kdf: str
    check: str
    salt: str = ""
    n: int = 0
    r: int = 0
    p: int = 0


class GcmSealer:
    """Seals with one key: a nonce before, the tag behind. Shared by threads."""

    overhead_bytes = NONCE_BYTES + TAG_BYTES

    def __init__(self, key: bytes) -> None:
        self._cipher = _cipher(key)

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, associated)

    def unseal(self, stored: bytes, associated: bytes) -> bytes:
        """Raises SealError for bytes that this key did not seal with these associated ones."""
        from cryptography.exceptions import InvalidTag

        if len(stored) < self.overhead_bytes:
            raise SealError(f"{len(stored)} bytes are too few to be sealed ones")
        try:
            return self._cipher.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], associated)
        except InvalidTag:
            raise SealError("it was not sealed with this key in this place, or was changed since") from None


def new_sealing(secret: Secret) -> tuple[Sealing, GcmSealer]:
    """For a new repository: what to write down, and the sealer."""
    match secret:
        case KeyFile(key=key):
            kdf, salt, costs = "file", b"", (0, 0, 0)
        case Passphrase(text=text):
            kdf, salt, costs = "scrypt", os.urandom(_SALT_BYTES), (_COST_N, _COST_R, _COST_P)
            key = _derive(text, salt, *costs)
    sealer = GcmSealer(key)
    check = base64.b64encode(sealer.seal(b"", _CHECKED)).decode()
    return Sealing(CIPHER, kdf, check, base64.b64encode(salt).decode(), *costs), sealer


def open_sealing(sealing: Sealing, secret: Secret | None) -> GcmSealer:
    """For an existing one. Raises WrongSecret, told by the check value; SealError for a sealing not known here."""
    if sealing.cipher != CIPHER or sealing.kdf not in ("scrypt", "file"):
        raise SealError(f"it is sealed by {sealing.cipher} and {sealing.kdf}, which this version does not know")
    match secret:
        case None:
            kind = "passphrase" if sealing.kdf == "scrypt" else "key file"
            raise WrongSecret(f"it is sealed: give its {kind}")
        case KeyFile() if sealing.kdf == "scrypt":
            raise WrongSecret("it is sealed with a passphrase, not with a key file")
        case Passphrase() if sealing.kdf == "file":
            raise WrongSecret("it is sealed with a key file, not with a passphrase")
        case KeyFile(key=key):
            wrong = "it is sealed with another key file"
        case Passphrase(text=text):
            key = _derive(text, _decoded(sealing.salt), sealing.n, sealing.r, sealing.p)
            wrong = "the passphrase is wrong"
    sealer = GcmSealer(key)
    try:
        sealer.unseal(_decoded(sealing.check), _CHECKED)
    except SealError:
        raise WrongSecret(wrong) from None
    return sealer


def _derive(text: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    if not (n > 1 and n & (n - 1) == 0 and r > 0 and 0 < p <= _PARALLEL_LIMIT and 128 * n * r <= _MEMORY_LIMIT_BYTES):
        raise SealError(f"scrypt with n={n}, r={r}, p={p} is refused")
    memory_bytes = 128 * r * (n + p + 2)
    return hashlib.scrypt(text.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * memory_bytes, dklen=KEY_BYTES)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SealError("the description of the seal is damaged") from None


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise SealError("sealing needs the package `cryptography`: pip install 'cachekeep[seal]'") from None
    return AESGCM(key)
