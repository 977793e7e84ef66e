"""Sealing: only the right secret opens it, and a wrong one is told before anything is read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.seal import (
    GcmSealer,
    KeyFile,
    Passphrase,
    SealError,
    Sealing,
    WrongSecret,
    new_sealing,
    open_sealing,
)

PASSPHRASE, KEY = Passphrase("correct horse"), KeyFile(bytes(range(32)))
BY_PASSPHRASE, BY_KEY = new_sealing(PASSPHRASE)[0], new_sealing(KEY)[0]


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_is_opened_with_the_same_key_and_place(plain: bytes, place: bytes) -> None:
    sealer = GcmSealer(KEY.key)
    sealed = sealer.seal(plain, place)
    assert len(sealed) == len(plain) + sealer.overhead_bytes
    assert sealer.unseal(sealed, place) == plain
    assert sealer.seal(plain, place) != sealed
    for changed in (sealed[:-1], bytes([sealed[0] ^ 1]) + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1]), b""):
        with pytest.raises(SealError):
            sealer.unseal(changed, place)
    with pytest.raises(SealError, match="in this place"):
        sealer.unseal(sealed, place + b"!")


@pytest.mark.parametrize(("secret", "sealing"), [(PASSPHRASE, BY_PASSPHRASE), (KEY, BY_KEY)])
def test_the_right_secret_opens(secret: Passphrase | KeyFile, sealing: Sealing) -> None:
    made, sealer = new_sealing(secret)
    assert open_sealing(made, secret).unseal(sealer.seal(b"x", b""), b"") == b"x"
    open_sealing(sealing, secret)


@pytest.mark.parametrize(
    ("sealing", "secret", "why"),
    [
        (BY_PASSPHRASE, Passphrase("correct horsf"), "the passphrase is wrong"),
        (BY_PASSPHRASE, None, "give its passphrase"),
        (BY_PASSPHRASE, KEY, "with a passphrase, not with a key file"),
        (BY_KEY, KeyFile(bytes(32)), "another key file"),
        (BY_KEY, None, "give its key file"),
        (BY_KEY, PASSPHRASE, "with a key file, not with a passphrase"),
    ],
)
def test_a_wrong_secret_is_told(sealing: Sealing, secret: Passphrase | KeyFile | None, why: str) -> None:
    with pytest.raises(WrongSecret, match=why):
        open_sealing(sealing, secret)


@pytest.mark.parametrize(
    "sealing",
    [
        replace(BY_PASSPHRASE, n=1 << 30),
        replace(BY_PASSPHRASE, r=1 << 20),
        replace(BY_PASSPHRASE, p=1 << 20),
        replace(BY_PASSPHRASE, n=3),
        replace(BY_PASSPHRASE, n=0),
        replace(BY_PASSPHRASE, r=-8),
        replace(BY_PASSPHRASE, salt="no base64!"),
        replace(BY_PASSPHRASE, cipher="rot13"),
        replace(BY_KEY, kdf="guess"),
    ],
)
def test_a_forged_description_takes_neither_memory_nor_time(sealing: Sealing) -> None:
    with pytest.raises(SealError):
        open_sealing(sealing, PASSPHRASE)


def test_secrets_that_protect_nothing_are_refused_and_none_is_shown() -> None:
    with pytest.raises(SealError, match="protects nothing"):
        Passphrase("")
    with pytest.raises(SealError, match="exactly 32 bytes, not 31"):
        KeyFile(bytes(31))
    assert "horse" not in repr(PASSPHRASE)
    assert "x01" not in repr(KEY)


def test_nothing_is_imported_for_a_seal_that_nobody_wants() -> None:
    script = (
        "import sys, cachekeep.codec.seal, cachekeep.codec.segment, cachekeep.backup.writer, cachekeep.backup.reader\n"
        "import cachekeep.blob.s3, cachekeep.blob.local\n"
        "print([name for name in ('cryptography', 'obstore', 'botocore') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
