"""Log streams in CloudWatch Logs, or whatever speaks its API at the configured endpoint. Blocks on the network.

PutLogEvents takes 10,000 events and 1 MiB in a batch (26 bytes are counted on top of each), in order of time, of 24
hours at most; those older than 14 days or more than two hours ahead it answers are rejected (CloudWatch Logs API
reference, "PutLogEvents"). Signed by botocore.
Used by notify.log_destinations.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from cachekeep.domain.log_delivery import LogLine
from cachekeep.domain.log_ports import LogStream, TooMuch
from cachekeep.domain.ports import WorldError

MOST_EVENTS, MOST_BYTES, OVERHEAD_BYTES = 10_000, 1_048_576, 26
LONGEST_EVENT = 256 * 1024 - OVERHEAD_BYTES
LONGEST_SPAN_MS = 24 * 3600 * 1000
TIMEOUT_S = 5.0
_THERE = "ResourceAlreadyExistsException"
_MISSING = "ResourceNotFoundException"
_NEVER = "InvalidParameterException"
_TOO_LARGE = 413


class CloudWatchLogs:
    """access_key: (id, secret); None: where AWS's own clients look for one."""

    def __init__(self, endpoint: str, access_key: tuple[str, str] | None = None) -> None:
        self._endpoint = endpoint
        self._access_key = access_key
        self._clients: dict[str, Any] = {}
        # Clients are for all threads, but making one is not.
        self._making = threading.Lock()

    def prepare(self, stream: LogStream) -> None:
        """Make group and stream where they are missing. Raises WorldError."""
        group = stream.delivery.destination
        self._make(stream, "create_log_group", logGroupName=group)
        self._make(stream, "create_log_stream", logGroupName=group, logStreamName=stream.name)

    def put(self, stream: LogStream, lines: Sequence[LogLine]) -> int:
        """How many of them were rejected. Raises WorldError; of several batches the first may have arrived then."""
        return sum(self._put(stream, batch) for batch in batches(lines))

    def _put(self, stream: LogStream, batch: list[LogLine]) -> int:
        request = _request(stream, batch)
        with self._told():
            try:
                answer = self._client(stream.region).put_log_events(**request)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != _MISSING:
                    raise
                # Deleted meanwhile: made anew, once.
                self.prepare(stream)
                answer = self._client(stream.region).put_log_events(**request)
            return _rejected(answer, len(batch))

    def _make(self, stream: LogStream, operation: str, **what: str) -> None:
        with self._told():
            try:
                getattr(self._client(stream.region), operation)(**what)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != _THERE:
                    raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raises WorldError for whatever goes wrong, TooMuch where the batch as it is will never be taken."""
        try:
            yield
        except WorldError:
            raise
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == _TOO_LARGE or error.response.get("Error", {}).get("Code") == _NEVER:
                raise TooMuch(self._trouble(error)) from error
            raise WorldError(self._trouble(error)) from error
        except BotoCoreError as error:
            raise WorldError(self._trouble(error)) from error
        except Exception as error:
            # botocore fails in many ways at an answer that is none of this API.
            raise WorldError(f"CloudWatch Logs at {self._endpoint} gave an answer that cannot be read") from error

    def _client(self, region: str) -> Any:  # noqa: ANN401  # botocore makes its clients from data
        with self._making:
            if region not in self._clients:
                key, secret = self._access_key or (None, None)
                self._clients[region] = Session().create_client(
                    "logs",
                    region_name=region,
                    endpoint_url=self._endpoint,
                    aws_access_key_id=key,
                    aws_secret_access_key=secret,
                    # Tried again by whoever delivers, with pauses of its own.
                    config=Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}),
                )
            return self._clients[region]

    def _trouble(self, error: Exception) -> str:
        return f"CloudWatch Logs at {self._endpoint}: {str(error)[:300]}"


def batches(lines: Sequence[LogLine]) -> Iterator[list[LogLine]]:
    """As few as the limits allow, in the order of the lines; time never falls within one."""
    batch: list[LogLine] = []
    size, latest = 0, 0
    for line in lines:
        text = line.text.encode()[:LONGEST_EVENT].decode("utf-8", "ignore") or " "
        latest = max(line.at_ms, latest)  # a clock that was set back, a line of two threads: order is demanded
        full = len(batch) == MOST_EVENTS or size + len(text.encode()) + OVERHEAD_BYTES > MOST_BYTES
        if batch and (full or latest - batch[0].at_ms >= LONGEST_SPAN_MS):
            yield batch
            batch, size = [], 0
        batch.append(LogLine(latest, text))
        size += len(text.encode()) + OVERHEAD_BYTES
    if batch:
        yield batch


def _request(stream: LogStream, batch: list[LogLine]) -> dict[str, Any]:
    return {
        "logGroupName": stream.delivery.destination,
        "logStreamName": stream.name,
        "logEvents": [{"timestamp": line.at_ms, "message": line.text} for line in batch],
    }


def _rejected(answer: Mapping[str, Any], events: int) -> int:
    """Of so many events. The indexes are the first that is not too old, and the first that is too new."""
    told = answer.get("rejectedLogEventsInfo") or {}
    old = max((int(told.get(name, 0)) for name in ("tooOldLogEventEndIndex", "expiredLogEventEndIndex")), default=0)
    new = int(told.get("tooNewLogEventStartIndex", events))
    return events - max(0, min(new, events) - min(old, events))
