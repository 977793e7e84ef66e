"""Objects in an S3 bucket or anything that speaks S3, through obstore.

S3 shows an object only when its last byte has arrived, so a put is atomic by itself; one in parts is a multipart
upload, which obstore takes back when the parts break off. Credentials come from where AWS's own tools look for them
(botocore: environment, profile, role of the machine). An answer of the server may repeat the key id or what was
signed: of an error only the status and S3's code are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

from cachekeep.blob.handoff import consume_elsewhere
from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo, check_name

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore import BytesStream
    from obstore.store import S3Config, S3Credential, S3Store

# 10,000 parts of 8 MiB are 80 GB, beyond any segment; two in flight keep memory below 32 MiB.
PART_BYTES = 8 << 20
PARTS_IN_FLIGHT = 2
CHUNK_BYTES = 1 << 20
_LISTED_AT_ONCE = 1000
_CREDENTIALS_LAST = timedelta(minutes=10)
_STATUS = re.compile(r"status code: (\d{3})")
# As reqwest calls it in what obstore shows; `retry_timeout` is in every one of its errors.
_TIMED_OUT = re.compile(r"kind: Timeout|TimedOut|timed out")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_FULL_CODES = {"QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "InsufficientStorage"}


class S3Blobs:
    """A BlobStore below a prefix of a bucket. timeout_s: without a byte moving; retries: of what is safe to repeat."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
    ) -> None:
        self._prefix = prefix.strip("/")
        self._where = "/".join(filter(None, (f"s3://{bucket}", self._prefix)))
        self._endpoint = endpoint
        self._store = self._connect(bucket, region, timeout_s, retries)

    def _connect(self, bucket: str, region: str | None, timeout_s: float, retries: int) -> S3Store:
        try:
            from obstore.store import S3Store
        except ImportError:
            raise BlobError(
                BlobFault.FORBIDDEN, f"{self._where} needs the package obstore", "pip install 'cachekeep[s3]'"
            ) from None
        import botocore.session

        session = botocore.session.get_session()
        config: S3Config = {
            "region": region or session.get_config_variable("region") or "us-east-1",
            "virtual_hosted_style_request": False,
        }
        if self._endpoint:  # both: a variable of the environment may not win over what was asked for
            config |= {"endpoint": self._endpoint, "aws_endpoint_url_s3": self._endpoint}
        return S3Store(
            bucket,
            prefix=self._prefix or None,
            config=config,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=min(5.0, timeout_s)),
                "read_timeout": timedelta(seconds=timeout_s),
                "timeout": timedelta(seconds=10 * timeout_s),
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=2 * timeout_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
            credential_provider=_Credentials(self._where, session.get_credentials()),
        )

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        import obstore

        def put_parts(parts: Iterator[bytes]) -> None:
            with self._told("write", name):
                obstore.put(self._store, name, parts, chunk_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT)

        check_name(name)
        parts = iter([data] if isinstance(data, bytes) else data)
        first = _up_to(parts, None if new else PART_BYTES)
        if len(first) >= PART_BYTES and not new:
            consume_elsewhere(chain([first], parts), put_parts)
            return
        with self._told("write", name):
            obstore.put(self._store, name, first, mode="create" if new else "overwrite", use_multipart=False)

    def get(self, name: str) -> bytes:
        import obstore

        with self._told("read", check_name(name)):
            return obstore.get(self._store, name).bytes().to_bytes()

    def open(self, name: str) -> Iterator[bytes]:
        import obstore

        with self._told("read", check_name(name)):
            stream = obstore.get(self._store, name).stream(min_chunk_size=CHUNK_BYTES)
        return self._chunks(name, stream)

    def list(self, folder: str = "") -> list[BlobInfo]:
        import obstore

        prefix = check_name(folder) if folder else None
        found: list[BlobInfo] = []
        with self._told("list", folder):
            for page in obstore.list(self._store, prefix, chunk_size=_LISTED_AT_ONCE):
                found += (BlobInfo(str(meta["path"]), int(meta["size"])) for meta in page)
        return sorted(found)

    def delete(self, name: str) -> None:
        import obstore

        try:
            with self._told("delete", check_name(name)):
                obstore.delete(self._store, name)
        except BlobError as error:
            if error.fault is not BlobFault.MISSING:
                raise

    def exists(self, name: str) -> bool:
        import obstore

        try:
            with self._told("look for", check_name(name)):
                obstore.head(self._store, name)
        except BlobError as error:
            if error.fault is BlobFault.MISSING:
                return False
            raise
        return True

    def _chunks(self, name: str, stream: BytesStream) -> Iterator[bytes]:
        while True:
            with self._told("read", name):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    @contextmanager
    def _told(self, doing: str, name: str) -> Iterator[None]:
        """Turn whatever obstore raises into the sentence that says what to do."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            text = str(error)
            status, code = _STATUS.search(text), _CODE.search(text)
            answer = " ".join(found[1] for found in (status, code) if found)
            at = f" at {self._endpoint}" if self._endpoint else ""
            what = f"cannot {doing} {'/'.join(filter(None, (self._where, name)))}{at}"
            raise _explained(what, error, int(status[1]) if status else 0, code[1] if code else "", answer) from None


def _up_to(parts: Iterator[bytes], size: int | None) -> bytes:
    """The parts joined, until they reach this size; all that are left when it is None."""
    taken = bytearray()
    for part in parts:
        taken += part
        if size is not None and len(taken) >= size:
            break
    return bytes(taken)


class _Credentials:
    """What botocore found, for obstore; asked again before they end."""

    def __init__(self, where: str, credentials: Credentials | None) -> None:
        self._where = where
        self._credentials = credentials

    def __call__(self) -> S3Credential:
        if self._credentials is None:
            raise PermissionError("no credentials")
        frozen = self._credentials.get_frozen_credentials()
        answer: S3Credential = {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }
        if frozen.token:
            answer["token"] = frozen.token
        return answer


def _explained(what: str, error: Exception, status: int, code: str, answer: str) -> BlobError:
    """The sentence for an answer of the server, or for none. Status codes: S3 API reference, "Error responses"."""
    if type(error).__name__ == "AlreadyExistsError" or status == 412:
        return BlobError(BlobFault.EXISTS, f"{what}: it is there already", "another writer made it")
    if code == "NoSuchBucket":
        return BlobError(BlobFault.MISSING, f"{what}: there is no such bucket", "create it, or correct its name")
    if "no credentials" in str(error):
        advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return BlobError(BlobFault.FORBIDDEN, f"{what}: no credentials are found", advice)
    if status in (401, 403):
        advice = "look whether the credentials are the right ones and may do this to the bucket"
        return BlobError(BlobFault.FORBIDDEN, f"{what}: refused ({answer})", advice)
    if status == 507 or code in _FULL_CODES:
        return BlobError(BlobFault.FULL, f"{what}: no space is left there ({answer})", "make room, then run it again")
    if isinstance(error, FileNotFoundError) or status == 404:
        return BlobError(BlobFault.MISSING, f"{what}: it is not there", "it was never written or is deleted")
    if status in (301, 307, 308, 400):
        advice = "look at region, endpoint and credentials (AWS_REGION, AWS_ENDPOINT_URL_S3)"
        return BlobError(BlobFault.FORBIDDEN, f"{what}: the request was not understood ({answer})", advice)
    if status:
        return BlobError(BlobFault.UNREACHABLE, f"{what}: the server answers {answer}", "run it again when it is well")
    slow = "did not answer in time" if _TIMED_OUT.search(str(error)) else "cannot be reached"
    advice = "look at the network and the endpoint, then run it again"
    return BlobError(BlobFault.UNREACHABLE, f"{what}: the server {slow}", advice)
