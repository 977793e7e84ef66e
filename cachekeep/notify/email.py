"""E-mail: one message over SMTP, with STARTTLS or TLS as set. Blocking; called from a thread of notify.deliver."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from cachekeep.codec.subscriber import is_address
from cachekeep.domain.alarms import Subscription
from cachekeep.domain.notifications import Notice, Smtp
from cachekeep.domain.ports import WorldError

# Of each single exchange with the server.
TIMEOUT_S = 10.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")


def message_of(sender: str, recipient: str, notice: Notice) -> EmailMessage:
    """No text of the notice can become a header of its own."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = _CONTROL.sub(" ", notice.subject)[:200]
    mail["Date"] = format_datetime(datetime.fromtimestamp(notice.at, UTC))
    mail["Message-ID"] = f"<{notice.id}@{sender.rpartition('@')[2]}>"
    mail.set_content(_readable(notice.message) + f"\n\nTopic: {notice.topic_arn}\n")
    return mail


def send(smtp: Smtp, subscription: Subscription, notice: Notice, timeout_s: float = TIMEOUT_S) -> None:
    """Raises WorldError."""
    if not is_address(subscription.endpoint) or not is_address(smtp.sender):
        raise WorldError("the e-mail address of the subscriber or of the sender is no plain address; set it anew")
    mail = message_of(smtp.sender, subscription.endpoint, notice)
    try:
        with _connect(smtp, timeout_s) as server:
            if smtp.username:
                _sign_in(server, smtp)
            server.send_message(mail, smtp.sender, [subscription.endpoint])
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise WorldError(f"mail server {smtp.host}:{smtp.port} did not take the message: {error}") from error


def _connect(smtp: Smtp, timeout_s: float) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=smtp.ca_file or None) if smtp.tls or smtp.starttls else None
    if smtp.tls:
        return smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=timeout_s, context=context)
    server = smtplib.SMTP(smtp.host, smtp.port, timeout=timeout_s)
    if smtp.starttls:
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


def _sign_in(server: smtplib.SMTP, smtp: Smtp) -> None:
    """Neither the server's words on a refusal nor Python's are told: they may repeat a part of what was sent."""
    try:
        server.login(smtp.username, smtp.password)
    except smtplib.SMTPAuthenticationError:
        raise WorldError(f"mail server {smtp.host}:{smtp.port} refuses user {smtp.username}") from None
    except UnicodeError:
        raise WorldError(
            f"mail server {smtp.host}:{smtp.port}: a user or password with letters beyond ASCII cannot be sent"
        ) from None


def _readable(message: str) -> str:
    try:
        return json.dumps(json.loads(message), indent=2, ensure_ascii=False)
    except ValueError:
        return message
