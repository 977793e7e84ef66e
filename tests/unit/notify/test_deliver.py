"""Webhooks, mails and commands to real servers and real programs."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from subscribers import ARN, NOTICE, SECRET, Clock, Web

from cachekeep.codec.subscriber import is_address
from cachekeep.domain.alarms import Channel, Subscription
from cachekeep.domain.notifications import Notice, Smtp
from cachekeep.domain.ports import WorldError
from cachekeep.notify.deliver import Deliveries
from cachekeep.notify.email import message_of


def hook(url: str) -> Subscription:
    return Subscription("s1", Channel.WEBHOOK, url, SECRET)


def test_a_webhook_gets_snss_envelope_and_a_signature_that_its_secret_verifies(
    web: Web, deliveries: Deliveries
) -> None:
    asyncio.run(deliveries.deliver(hook(web.url + "/in?a=b"), NOTICE))
    [(headers, body)] = web.got
    assert json.loads(body) == {
        "Type": "Notification",
        "MessageId": "id-1",
        "TopicArn": ARN,
        "Subject": 'ALARM: "hot"',
        "Message": '{"AlarmName": "hot"}',
        "Timestamp": "2026-11-23T10:00:00.500Z",
    }
    made = hmac.new(SECRET.encode(), b"1795428000." + body, hashlib.sha256).hexdigest()
    assert headers["x-cachekeep-signature"] == f"t=1795428000,v1={made}"
    assert headers["x-amz-sns-message-type"] == "Notification"


@pytest.mark.parametrize(("status", "words"), [(500, "HTTP 500"), (302, "redirects are not followed")])
def test_any_answer_but_success_is_a_failure(web: Web, deliveries: Deliveries, status: int, words: str) -> None:
    web.statuses = [status]
    with pytest.raises(WorldError, match=words):
        asyncio.run(deliveries.deliver(hook(web.url), NOTICE))
    assert len(web.got) == 1


def test_a_webhook_that_hangs_ends_by_its_deadline(web: Web, deliveries: Deliveries) -> None:
    web.released.clear()
    with pytest.raises(WorldError, match="did not answer within"):
        asyncio.run(deliveries.deliver(hook(web.url), NOTICE))


def test_a_server_that_does_not_speak_tls_is_not_told_over_https(web: Web, deliveries: Deliveries) -> None:
    with pytest.raises(WorldError, match="cannot be reached"):
        asyncio.run(deliveries.deliver(hook(web.url.replace("http:", "https:")), NOTICE))
    assert web.got == []


def test_a_certificate_that_nobody_vouches_for_is_refused(web: Web, deliveries: Deliveries, tmp_path: Path) -> None:
    web.speak_tls(self_signed(tmp_path))
    with pytest.raises(WorldError, match="certificate verify failed"):
        asyncio.run(deliveries.deliver(hook(web.url.replace("http:", "https:")), NOTICE))
    assert web.got == []


def self_signed(folder: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    "url", ["ftp://a/", "http://u:p@127.0.0.1/", "http://127.0.0.1/\r\nX-A: b", "http:///x", "http://[", "http://a b/"]
)
def test_what_is_no_plain_url_is_never_asked(deliveries: Deliveries, url: str) -> None:
    with pytest.raises(WorldError, match="URL"):
        asyncio.run(deliveries.deliver(hook(url), NOTICE))


def test_no_refusal_shows_the_secret_or_the_path(web: Web, deliveries: Deliveries) -> None:
    web.statuses = [500]
    with pytest.raises(WorldError) as refused:
        asyncio.run(deliveries.deliver(hook(web.url + "/services/T0/B0/token"), NOTICE))
    assert SECRET not in str(refused.value)
    assert "token" not in str(refused.value)


def program(tmp_path: Path, script: str) -> Subscription:
    path = tmp_path / "told"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return Subscription("s1", Channel.COMMAND, str(path))


def test_a_command_gets_the_notice_on_stdin_and_nothing_of_our_environment(
    tmp_path: Path, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    told = program(tmp_path, f"cat > {tmp_path}/in; env > {tmp_path}/env; pwd >> {tmp_path}/env; echo seen\n")
    asyncio.run(deliveries.deliver(told, NOTICE))
    assert json.loads((tmp_path / "in").read_text())["Message"] == NOTICE.message
    environment = (tmp_path / "env").read_text()
    assert "hidden" not in environment
    assert f"CACHEKEEP_TOPIC_ARN={ARN}" in environment


def test_a_command_that_fails_or_is_not_there_is_a_failure(tmp_path: Path, deliveries: Deliveries) -> None:
    with pytest.raises(WorldError, match="status 3"):
        asyncio.run(deliveries.deliver(program(tmp_path, "exit 3\n"), NOTICE))
    with pytest.raises(WorldError, match="cannot be run"):
        asyncio.run(deliveries.deliver(Subscription("s", Channel.COMMAND, str(tmp_path / "none")), NOTICE))
    with pytest.raises(WorldError, match="absolute"):
        asyncio.run(deliveries.deliver(Subscription("s", Channel.COMMAND, "sh"), NOTICE))


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    deliveries = Deliveries(None, Clock().now, command_s=0.5)
    told = program(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child\nwait\n")
    with pytest.raises(WorldError, match="was killed"):
        asyncio.run(deliveries.deliver(told, NOTICE))
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _lives(child)
    deliveries.close()


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_command_that_prints_without_an_end_is_bounded_and_killed(tmp_path: Path) -> None:
    deliveries = Deliveries(None, Clock().now, command_s=0.3)
    with pytest.raises(WorldError, match="was killed"):
        asyncio.run(deliveries.deliver(program(tmp_path, "exec yes\n"), NOTICE))
    deliveries.close()


class Mail:
    """A real, small SMTP server. Keeps the envelope and the data of each message."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                with peer, peer.makefile("rwb") as stream:
                    self._talk(stream)  # type: ignore[arg-type]

    def _talk(self, stream: socket.SocketIO) -> None:
        def say(text: str) -> None:
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        say("220 here")
        lines = []
        while line := stream.readline().decode():
            lines.append(line)
            word = line[:4].upper().strip()
            if word == "DATA":
                say("354 go on")
                while (line := stream.readline().decode()) != ".\r\n":
                    lines.append(line)
                self.got.append("".join(lines))
            elif word == "AUTH":
                say("535 no: " + line.strip())
                continue
            say("221 bye" if word == "QUIT" else "250-here\r\n250 AUTH PLAIN" if word == "EHLO" else "250 ok")
            if word == "QUIT":
                return

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def mail() -> Iterator[Mail]:
    server = Mail()
    yield server
    server.close()


OPS = Subscription("s1", Channel.EMAIL, "ops@example.com")


def test_a_mail_arrives_with_subject_and_readable_text(mail: Mail) -> None:
    deliveries = Deliveries(Smtp("127.0.0.1", mail.port, "keeper@example.com"), Clock().now)
    asyncio.run(deliveries.deliver(OPS, NOTICE))
    [text] = mail.got
    assert "rcpt to:<ops@example.com>" in text.lower()
    assert 'Subject: ALARM: "hot"\r\n' in text
    assert '"AlarmName": "hot"' in text
    deliveries.close()


def test_a_mail_server_that_refuses_the_password_is_told_without_it(mail: Mail) -> None:
    smtp = Smtp("127.0.0.1", mail.port, "keeper@example.com", "keeper", "do-not-show")
    deliveries = Deliveries(smtp, Clock().now)
    with pytest.raises(WorldError, match="refuses user keeper") as refused:
        asyncio.run(deliveries.deliver(OPS, NOTICE))
    assert "do-not-show" not in f"{refused.value} {smtp!r}"
    deliveries.close()


def test_a_password_that_mail_cannot_carry_is_told_without_its_letters(mail: Mail) -> None:
    smtp = Smtp("127.0.0.1", mail.port, "keeper@example.com", "keeper", "do-not-sh\u00f6w")
    deliveries = Deliveries(smtp, Clock().now)
    with pytest.raises(WorldError, match="letters beyond ASCII") as refused:
        asyncio.run(deliveries.deliver(OPS, NOTICE))
    assert "xf6" not in str(refused.value)
    assert refused.value.__suppress_context__
    deliveries.close()


def test_a_mail_server_that_hangs_holds_up_nobodys_end() -> None:
    """The process ends while it is still waited for: its thread is a daemon's, and nobody joins it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        smtp = Smtp("127.0.0.1", silent.getsockname()[1], "keeper@example.com")
        given_up = Deliveries(smtp, Clock().now)

        async def story() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(given_up.deliver(Subscription("s", Channel.EMAIL, "a@example.com"), NOTICE), 0.1)

        asyncio.run(story())
        given_up.close()
        waiting = [thread for thread in threading.enumerate() if thread.name == "mail"]
        assert waiting
        assert all(thread.daemon for thread in waiting)
    for thread in waiting:
        thread.join(20)


def test_starttls_that_the_server_has_not_sends_nothing(mail: Mail) -> None:
    deliveries = Deliveries(Smtp("127.0.0.1", mail.port, "keeper@example.com", starttls=True), Clock().now)
    with pytest.raises(WorldError, match="did not take the message"):
        asyncio.run(deliveries.deliver(OPS, NOTICE))
    assert mail.got == []
    deliveries.close()


def test_without_a_mail_server_the_refusal_names_the_setting(deliveries: Deliveries) -> None:
    with pytest.raises(WorldError, match="smtp_url"):
        asyncio.run(deliveries.deliver(OPS, NOTICE))


def test_a_subject_cannot_become_another_header() -> None:
    evil = Notice("id-1", ARN, 0.0, "x\r\nBcc: all@example.com\r\n\r\nbody", "text")
    made = message_of("keeper@example.com", "ops@example.com", evil)
    assert made["Bcc"] is None
    assert made["Subject"] == "x Bcc: all@example.com body"
    assert not any(is_address(text) for text in ("a@b\r\nBcc: c@d", "a@b,c@d", "A <a@b>", "-f@b", "a b@c"))
