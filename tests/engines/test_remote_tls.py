"""TLS to real servers: whom a connection trusts, and what is said when it does not. Certificates are made here.

Only Redis 7.0 of the installed engines speaks TLS.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cachekeep.codec.resp import pack
from cachekeep.domain.remote import RemoteError, RemoteFault
from cachekeep.remote.open import open_remote
from cachekeep.remote.tls import Trust, context_of

pytestmark = pytest.mark.needs_redis7
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """Signs certificates into a folder."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        made = self._builder(self._subject, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        identity = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        signed = made.add_extension(identity, critical=False).sign(self._key, hashes.SHA256())
        self.ca = self.folder / f"{self.name}.pem"
        self.ca.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *hosts: str, ends: datetime.timedelta = DAY) -> tuple[Path, Path]:
        """Certificate and key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(subject, key, ends)
        if hosts:
            names: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
                for host in hosts
            ]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = made.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        cert, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert, private

    def _builder(self, subject: x509.Name, key: Any, ends: datetime.timedelta = DAY) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(NOW + ends)
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def secured(authority: Authority, start_server: Any) -> Callable[..., tuple[Any, Path]]:
    """`secured(host="localhost", clients="no") -> (Server, ca)`: a server with a certificate for that host."""

    def start(host: str = "localhost", clients: str = "no") -> tuple[Any, Path]:
        # The address is drawn by start_server, so the first certificate is for a name.
        cert, key = authority.sign("server", host)
        files = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": authority.ca}
        server = start_server("7.0", tls={**{n: str(v) for n, v in files.items()}, "tls-auth-clients": clients})
        return server, authority.ca

    return start


def trouble(url: str, **options: Any) -> RemoteError:
    with pytest.raises(RemoteError) as told:
        open_remote(url, **{"connect_timeout_s": 5, **options}).connect()
    assert "\n" not in str(told.value)
    return told.value


def for_its_address(authority: Authority, server: Any, ends: datetime.timedelta = DAY) -> None:
    """Give a running server a certificate for the address that it has."""
    cert, key = authority.sign("exact", server.host, ends=ends)
    server.ask("CONFIG", "SET", "tls-cert-file", str(cert), "tls-key-file", str(key))


def test_a_trusted_server_is_talked_to_with_its_name_checked(secured: Any, authority: Authority) -> None:
    server, ca = secured()
    for_its_address(authority, server)
    large = b"x" * 5_000_000
    with open_remote(f"{server.url}?ca={ca}").connect(2) as connection:
        assert connection.ask("SET", "a", large) == b"OK"
        connection.send(pack("GET", "a") + pack("PING") * 10_000)
        replies = connection.receive(10_001)
        assert (replies[0], replies.count(b"PONG")) == (large, 10_000)
    other = open_remote(server.url, ca=ca).at(server.host, 6379)
    assert other.name == server.url
    with other.connect() as connection:
        assert connection.ask("PING") == b"PONG"


def test_seed_defect_22_who_is_not_proved_is_refused_and_said_why(
    secured: Any, authority: Authority, tmp_path: Path
) -> None:
    server, ca = secured("cache.example")
    unknown = trouble(server.url)
    assert unknown.fault is RemoteFault.UNTRUSTED
    assert "signed by nobody trusted here" in unknown.what
    assert "--ca" in unknown.advice
    other = trouble(server.url, ca=Authority(tmp_path, "theirs").ca)
    assert other.fault is RemoteFault.UNTRUSTED
    named = trouble(server.url, ca=ca)
    assert named.fault is RemoteFault.UNTRUSTED
    assert f"is not for {server.host}" in named.what
    assert "--insecure" in named.advice


def test_an_expired_certificate_is_refused(secured: Any, authority: Authority) -> None:
    server, ca = secured()
    for_its_address(authority, server, ends=-DAY)
    expired = trouble(server.url, ca=ca)
    assert expired.fault is RemoteFault.UNTRUSTED
    assert "has expired" in expired.what


def test_insecure_is_explicit_and_the_url_has_the_last_word(secured: Any) -> None:
    server, _ = secured("cache.example")
    for url, options in ((server.url, {"insecure": True}), (f"{server.url}?insecure=1", {})):
        with open_remote(url, **options).connect() as connection:
            assert connection.ask("PING") == b"PONG"
    assert trouble(f"{server.url}?insecure=0", insecure=True).fault is RemoteFault.UNTRUSTED


def test_a_server_that_demands_a_client_certificate_says_so_and_takes_one(
    secured: Any, authority: Authority, tmp_path: Path
) -> None:
    server, ca = secured(clients="yes")
    missing = trouble(server.url, insecure=True)
    assert "client certificate" in missing.what + missing.advice
    assert "--cert" in missing.advice
    cert, key = authority.sign("client")
    with open_remote(f"{server.url}?cert={cert}&key={key}&insecure=1", ca=ca).connect() as connection:
        assert connection.ask("PING") == b"PONG"
    foreign, its_key = Authority(tmp_path, "theirs").sign("stranger")
    refused = trouble(server.url, cert=foreign, key=its_key, insecure=True)
    assert "client certificate" in refused.what + refused.advice


def test_plain_words_to_a_tls_port_and_tls_words_to_a_plain_one(secured: Any, start_server: Any) -> None:
    server, _ = secured()
    plain = trouble(server.url.replace("rediss", "redis"))
    assert "TLS" in plain.what + plain.advice
    assert "rediss://" in plain.advice
    for version in ("9.1", "7.0"):
        other = trouble(start_server(version).url.replace("redis", "rediss"), connect_timeout_s=1)
        assert "redis://" in other.advice


def test_a_port_that_is_silent_or_hangs_up_under_tls_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"rediss://127.0.0.1:{listener.getsockname()[1]}"
        silent = trouble(where, connect_timeout_s=0.3)
        assert silent.fault is RemoteFault.UNREACHABLE
        assert "says nothing" in silent.what
        listener.accept()[0].close()

        def hang_up() -> None:
            with closing(listener.accept()[0]) as client:
                client.recv(10)

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert trouble(where).fault is RemoteFault.UNREACHABLE
        thread.join()


def test_certificates_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.sign("one")
    other = authority.sign("two")[1]
    text = tmp_path / "text"
    text.write_text("no certificate")
    secret = tmp_path / "secret.key"
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    secret.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        )
    )
    for trust, words in (
        (Trust(ca=tmp_path / "none"), "cannot be read"),
        (Trust(ca=text), "holds no certificate"),
        (Trust(cert=cert, key=other), "do not fit"),
        (Trust(cert=cert, key=secret), "is encrypted"),
        (Trust(cert=cert), "do not fit"),
        (Trust(key=key), "none is given"),
    ):
        with pytest.raises(RemoteError, match=words) as told:
            context_of(trust)
        assert told.value.fault is RemoteFault.UNTRUSTED
