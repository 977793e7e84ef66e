"""The installation's own certificate authority: one EC P-256 key in `<state>/ca/`, and certificates that it signs.

    ca/ca.key    0600, never leaves the machine
    ca/ca.pem    what clients trust; `cachekeep ca` prints it

Made at the first need and never made again over something that is there: clients that trust the old one would be
locked out, and nodes would present certificates that nobody believes. A file that is gone or damaged is an error that
says so. Used by host.local, the app and the commands. `cryptography` is imported at the first need: an installation
without TLS does not need it.
Sources: RFC 5280; CA/Browser Forum baseline requirements for the shape of leaf certificates.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cachekeep.domain.nodes import is_ip
from cachekeep.domain.world import WorldError
from cachekeep.host.folder import told_as_world_error, write_whole

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_FILE = "ca.pem"
KEY_FILE = "ca.key"
AUTHORITY_YEARS = 10
DEFAULT_LIFE_S = 7 * 86400.0
# A clock that is off by an hour, here or at a client, must not make a certificate that is not valid yet.
BACKDATE_S = 2 * 3600.0
_RENEW_AFTER = 2 / 3


@dataclass(frozen=True)
class Validity:
    """What a certificate says: seconds since 1970, and the addresses and names that it is for."""

    begins: float
    ends: float
    names: frozenset[str]

    def is_due(self, now: float, names: Iterable[str]) -> bool:
        """It is to be renewed: two thirds of its life are over, it is of the future, or a name is missing in it."""
        begun = self.begins + BACKDATE_S
        late = now >= begun + (self.ends - begun) * _RENEW_AFTER
        return late or now < self.begins or not frozenset(names) <= self.names


class Authority:
    """folder: where it lives. life_s: of the certificates that it signs."""

    def __init__(self, folder: Path, life_s: float = DEFAULT_LIFE_S) -> None:
        self._folder = folder
        self._life_s = life_s

    @property
    def ca_file(self) -> Path:
        return self._folder / CA_FILE

    @property
    def exists(self) -> bool:
        """It was made. What is left of it may be damaged all the same; whoever needs it is told."""
        return self.ca_file.exists() or (self._folder / KEY_FILE).exists()

    def certificate(self) -> str:
        """The PEM text that clients trust; makes the authority if there is none. Raises WorldError."""
        self._load_or_create()
        with told_as_world_error("read", self.ca_file):
            return self.ca_file.read_text(encoding="ascii")

    def issue(self, target: Path, name: str, hosts: Iterable[str], now: float | None = None) -> Validity:
        """Write a new key, a certificate for `hosts` and the authority's own into `target` (0600), all at once.

        One file, so that an engine never finds a key beside the certificate of another. name: the common name.
        now: seconds since 1970 instead of the clock's. Raises WorldError.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key, ca = self._load_or_create()
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign(key, ca, leaf_key.public_key(), name, sorted(set(hosts)), now)
        text = leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = b"".join([text, *(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, ca))])
        with told_as_world_error("write", target):
            write_whole(target, pem.decode("ascii"))
        return _validity(leaf)

    def _sign(
        self, key: EllipticCurvePrivateKey, ca: x509.Certificate, public: object, name: str, hosts: list[str],
        now: float | None,
    ) -> x509.Certificate:  # fmt: skip
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        moment = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
        alternatives = [x509.IPAddress(ip_address(h)) if is_ip(h) else x509.DNSName(h) for h in hosts]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
            .issuer_name(ca.subject)
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(moment - timedelta(seconds=BACKDATE_S))
            .not_valid_after(moment + timedelta(seconds=self._life_s))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            # Both: a replica and the cluster bus call other nodes with the same certificate.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False
            )
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return builder.sign(key, hashes.SHA256())

    def _load_or_create(self) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        """Under a lock: the service and a command may both be first."""
        try:
            import cryptography  # noqa: F401
        except ImportError as error:
            raise WorldError(
                "TLS needs the package `cryptography`: pip install 'cachekeep[tls]', then it is tried again"
            ) from error
        with self._locked():
            return self._load() if self.exists else self._create()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with told_as_world_error("use the folder", self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            descriptor = os.open(self._folder / ".lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.closing(os.fdopen(descriptor, "w")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _load(self) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key_file = self._folder / KEY_FILE
        for path in (key_file, self.ca_file):
            if not path.exists():
                raise WorldError(f"{path} is gone: put it back from a copy; {self._starting_over()}")
        with told_as_world_error("read", self._folder):
            texts = key_file.read_bytes(), self.ca_file.read_bytes()
        try:
            key = serialization.load_pem_private_key(texts[0], None)
            ca = x509.load_pem_x509_certificate(texts[1])
        except (ValueError, TypeError) as error:
            raise WorldError(
                f"{self._folder} is damaged ({KEY_FILE} or {CA_FILE} cannot be read): put back a good copy; "
                f"{self._starting_over()}"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
            raise WorldError(
                f"{key_file} is not the key of {self.ca_file}: put back the two that belong together; "
                f"{self._starting_over()}"
            )
        return key, ca

    def _starting_over(self) -> str:
        return f"or remove all of {self._folder} for a new authority, which every client has to be given anew"

    def _create(self) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        """The key first: a certificate whose key was never written would be trusted for nothing."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        # A name of its own, so that two installations on one machine are told apart in a bundle.
        label = f"Cachekeep authority {os.urandom(4).hex()}"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        ca = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=BACKDATE_S))
            .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        with told_as_world_error("write", self._folder):
            encoded = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            # In a file that is not there yet under its name until both are whole.
            write_whole(self._folder / KEY_FILE, encoded.decode("ascii"))
            write_whole(self.ca_file, ca.public_bytes(serialization.Encoding.PEM).decode("ascii"))
        return key, ca


def validity_of(file: Path) -> Validity | None:
    """Of the first certificate in the file; None when there is none that can be read."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        return None
    return _validity(found[0]) if found else None


def trusting(ca_file: Path | str) -> ssl.SSLContext:
    """What a client of this installation verifies with: its authority and no other. Raises WorldError."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cafile=str(ca_file))
    except OSError as error:  # SSLError is one
        raise WorldError(f"cannot read the authority {ca_file}: {error}; `cachekeep ca` shows where it is") from error
    return context


def _validity(certificate: x509.Certificate) -> Validity:
    from cryptography import x509

    names: set[str] = set()
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {str(name) for name in found.get_values_for_type(x509.IPAddress)}
        names |= set(found.get_values_for_type(x509.DNSName))
    ends = certificate.not_valid_after_utc.timestamp()
    return Validity(certificate.not_valid_before_utc.timestamp(), ends, frozenset(names))


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
