"""What the first start generates, readable by the owner only: the access key, in AWS's own file format, the token
that scrapers of `/metrics` send, and the password of the service's own user in the engines that it runs."""

from __future__ import annotations

import configparser
import os
import secrets
import stat
import string
from dataclasses import dataclass, field
from pathlib import Path

FILE_NAME = "credentials"
TOKEN_FILE = "metrics-token"  # noqa: S105 - a name, not a token
ENGINE_PASSWORD_FILE = "engine-password"  # noqa: S105 - a name, not a password
_ID_ALPHABET = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits + "+/"
# Characters; a token of a user's own may not be one that can be tried out.
_LEAST_TOKEN = 32


class CredentialsError(Exception):
    """The credentials file cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class AccessKey:
    id: str
    secret: str = field(repr=False)


def load_or_create(state_dir: Path) -> AccessKey:
    """The installation's key. The file is made 0600 and whole, or not at all."""
    path = state_dir / FILE_NAME
    if path.exists():
        return load(state_dir)
    key = new_key()
    write_key(state_dir, key)
    return key


def new_key() -> AccessKey:
    """Of 200 random bits and more, kept nowhere yet."""
    return AccessKey(
        "AKCK" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(16)),
        "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(40)),
    )


def write_key(state_dir: Path, key: AccessKey) -> None:
    """Make it the installation's key; the file is replaced whole."""
    text = f"[default]\naws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}\n"
    _write(state_dir / FILE_NAME, text)


def load(state_dir: Path) -> AccessKey:
    """Raises CredentialsError when the file is missing, broken, or readable by others."""
    path = state_dir / FILE_NAME
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        parser = configparser.RawConfigParser()
        parser.read_string(path.read_text())
        key = AccessKey(parser.get("default", "aws_access_key_id"), parser.get("default", "aws_secret_access_key"))
    except FileNotFoundError:
        raise CredentialsError(f"{path} is missing: the service has not been started with this state dir") from None
    except (OSError, configparser.Error, UnicodeDecodeError):
        raise CredentialsError(f"{path} is not a credentials file; delete it to have a new key made") from None
    if not key.id or not key.secret or "\0" in key.id + key.secret:
        raise CredentialsError(f"{path} holds no usable key; delete it to have a new one made")
    if mode & 0o077:
        raise CredentialsError(f"{path} is readable by others (mode {mode:04o}): run chmod 600 {path}")
    return key


def load_or_create_token(state_dir: Path) -> str:
    """The installation's scrape token; made as the key is. Raises CredentialsError."""
    path = state_dir / TOKEN_FILE
    if not path.exists():
        _write(path, secrets.token_urlsafe(32) + "\n")
    return load_token(state_dir)


def load_token(state_dir: Path) -> str:
    """Raises CredentialsError when the file is missing, broken, or readable by others."""
    return _load_word(state_dir / TOKEN_FILE)


def load_or_create_engine_password(state_dir: Path) -> str:
    """The password of the service's own user in its engines; made as the key is. Raises CredentialsError."""
    path = state_dir / ENGINE_PASSWORD_FILE
    if not path.exists():
        _write(path, secrets.token_hex(32) + "\n")
    return load_engine_password(state_dir)


def load_engine_password(state_dir: Path) -> str:
    """Raises CredentialsError when the file is missing, broken, or readable by others."""
    return _load_word(state_dir / ENGINE_PASSWORD_FILE)


def _load_word(path: Path) -> str:
    """A token or a password on the file's only line."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        reason = "the next start of the service makes it: `cachekeep down` if one runs, then `cachekeep up`"
        raise CredentialsError(f"{path} is missing: {reason}") from None
    except (OSError, UnicodeDecodeError):
        raise CredentialsError(f"{path} holds no token; delete it to have a new one made") from None
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise CredentialsError(f"{path} holds no usable token; delete it to have a new one made")
    if mode & 0o077:
        raise CredentialsError(f"{path} is readable by others (mode {mode:04o}): run chmod 600 {path}")
    return token


def _write(path: Path, text: str) -> None:
    """0600 and whole, or not at all."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
