"""The seed's JSON files: names, chunks, keys. Pure; written down in docs/formats/seed-json.md.

Called by backup.export_files and backup.ingest, a chunk at a time. Payloads of DUMP go in and come out.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from cachekeep.codec.dump import DumpError, ModuleValue, decode, encode, least_version
from cachekeep.codec.dump.footer import FOOTER_BYTES, check
from cachekeep.codec.seed_values import (
    KEY_PREFIX,
    Json,
    NothingThere,
    SpellingError,
    count,
    members_of,
    moment,
    read_name,
    spelled_name,
    unbase64,
    value_of,
)

CHUNK_KEYS = 2500
CHUNK_BYTES = 16 << 20
NO_EXPIRY = -1
MANIFEST = "cachekeep_export.json"
FORMAT, VERSION = "cachekeep-seed-json", 1

_NAME = re.compile(r"redis_backup_db(\d{1,9})_part_(\d{1,9})\.json\Z", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TTL_LESS_THAN_A_SECOND, _TTL_NONE, _TTL_GONE = 0, -1, -2


class SeedFileError(ValueError):
    """A file that is not of this format, is cut off, or contradicts itself. Says which, and where."""


class Part(NamedTuple):
    """A chunk's place. They sort as they were written."""

    db: int
    number: int

    @property
    def file(self) -> str:
        return f"redis_backup_db{self.db}_part_{self.number}.json"

    @classmethod
    def of(cls, file: str) -> Part | None:
        """None for a name of something else."""
        found = _NAME.match(file)
        return cls(int(found[1]), int(found[2])) if found else None


class Found(NamedTuple):
    """A key of a chunk. payload None: it is absent, or skipped for `reason`."""

    key: bytes
    expires_ms: int
    payload: bytes | None
    reason: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A chunk that was read. generated_ms: since 1970, a whole second. data: entries by name, not yet looked at."""

    part: Part
    generated_ms: int
    data: Mapping[str, Json]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """cachekeep_export.json. files: number of keys in each."""

    format: str = FORMAT
    version: int = VERSION
    generated_at: str = ""
    files: dict[str, int]
    functions: str | None = None


def write_entry(key: bytes, db: int, expires_ms: int, payload: bytes, generated_ms: int) -> bytes:
    """One member of `data`: name and entry. A type that is not known is kept as a dump.

    Raises DumpError when the payload's checksum is wrong.
    """
    check(payload)
    try:
        value = decode(payload, verify_checksum=False)
    except DumpError:
        members: dict[str, Json] = {"type": "unknown", "value": None, "dump": base64.b64encode(payload).decode()}
    else:
        members = members_of(value)
        if isinstance(value, ModuleValue):
            members["dump"] = base64.b64encode(payload).decode()
    entry = {"type": members.pop("type"), "db": db, "value": members.pop("value"), "ttl": _TTL_NONE}
    if expires_ms != NO_EXPIRY:
        # Rounded up and at least 1: the seed's scripts take 0 for "no expiry".
        entry["ttl"] = max(1, -((_whole_second(generated_ms) - expires_ms) // 1000))
        entry["expires_ms"] = expires_ms
    name = msgspec.json.encode(spelled_name(key, KEY_PREFIX))
    return name + b": " + msgspec.json.encode(entry | members)


def write_chunk(part: Part, entries: Sequence[bytes], generated_ms: int) -> Iterator[bytes]:
    """A file in parts, from what `write_entry` gave; a key a line."""
    meta = {"generated_at": spelled_time(generated_ms), "db": part.db}
    meta |= {"chunk_number": part.number, "keys_in_chunk": len(entries)}
    yield b'{"_meta": ' + msgspec.json.encode(meta) + b',\n"data": {\n'
    for number_, entry in enumerate(entries):
        yield b",\n" + entry if number_ else entry
    yield b"\n}}\n"


def spelled_time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime(_TIME)


def in_order(names: Iterable[str]) -> list[Part]:
    """The chunks among the files of a folder, by database and number. Names that are not of chunks are left out."""
    return sorted(part for name in names if (part := Part.of(name)) and part.file == name)


def read_chunk(data: bytes, part: Part) -> Chunk:
    """Raises SeedFileError."""
    document = _loaded(data, part.file)
    meta, entries = document.get("_meta"), document.get("data")
    if not isinstance(meta, dict) or not isinstance(entries, dict):
        raise SeedFileError(f"{part.file} is no chunk of a backup: it has no _meta or no data; is it another file?")
    if meta.get("db", part.db) != part.db:
        raise SeedFileError(f"{part.file} says that it is of database {meta.get('db')}: was it renamed?")
    if meta.get("keys_in_chunk", len(entries)) != len(entries):
        raise SeedFileError(
            f"{part.file} says that it has {meta.get('keys_in_chunk')} keys and has {len(entries)}: it is not whole"
        )
    try:
        moment = datetime.strptime(meta.get("generated_at", ""), _TIME).replace(tzinfo=UTC)
    except (ValueError, TypeError) as error:
        raise SeedFileError(f"{part.file} does not say when it was made (generated_at): {error}") from error
    return Chunk(part, int(moment.timestamp()) * 1000, entries)


def read_entries(chunk: Chunk) -> Iterator[Found]:
    """Its keys, in order. Raises SeedFileError for an entry of no sense; what has no value is told as skipped."""
    for name, entry in chunk.data.items():
        try:
            yield _found(read_name(name, KEY_PREFIX), entry, chunk)
        except SpellingError as error:
            raise SeedFileError(f"{chunk.part.file}, key {name!a}: {error}") from error


def write_manifest(generated_ms: int, files: Mapping[str, int], functions: bytes | None) -> bytes:
    text = None if functions is None else base64.b64encode(functions).decode()
    manifest = Manifest(generated_at=spelled_time(generated_ms), files=dict(files), functions=text)
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read_manifest(data: bytes) -> tuple[Mapping[str, int], bytes | None]:
    """Files with their numbers of keys, and the functions. Raises SeedFileError."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        functions = None if manifest.functions is None else unbase64(manifest.functions)
        if functions is not None and len(functions) > FOOTER_BYTES:  # without functions there is a footer only
            check(functions)
    except (msgspec.MsgspecError, SpellingError, DumpError, RecursionError) as error:
        raise SeedFileError(f"{MANIFEST} cannot be read: {error}") from error
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise SeedFileError(f"{MANIFEST} is {manifest.format} version {manifest.version}, not known here: update")
    return manifest.files, functions


def _found(key: bytes, entry: Json, chunk: Chunk) -> Found:
    if not isinstance(entry, dict):
        raise SpellingError("it has no members")
    if entry.get("db", chunk.part.db) != chunk.part.db:
        raise SpellingError(f"it says that it is of database {entry.get('db')}")
    ttl = entry.get("ttl")
    if ttl == _TTL_GONE:
        return Found(key, NO_EXPIRY, None)
    expires_ms = _expiry(entry.get("expires_ms"), _TTL_NONE if ttl is None else ttl, chunk.generated_ms)
    try:
        dump = entry.get("dump")
        if dump is not None:
            payload = unbase64(dump)
            check(payload)
        else:
            value = value_of(entry)
            payload = encode(value, least_version(value))
    except NothingThere as error:
        return Found(key, expires_ms, None, str(error))
    except DumpError as error:
        raise SpellingError(f"its dump is damaged: {error}") from error
    return Found(key, expires_ms, payload)


def _expiry(expires_ms: Json, ttl: Json, generated_ms: int) -> int:
    if expires_ms is not None:
        return moment(expires_ms, "expires_ms", least=0)
    if ttl == _TTL_NONE and not isinstance(ttl, bool):
        return NO_EXPIRY
    seconds = count(ttl, "ttl")
    return moment(generated_ms + max(seconds, 1) * 1000, "the expiry that ttl gives", least=0)


def _loaded(data: bytes, file: str) -> dict[str, Json]:
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        cut = " (is it cut off?)" if error.pos >= len(error.doc.rstrip()) - 1 else ""
        raise SeedFileError(f"{file} is not JSON: {error.msg} at line {error.lineno}{cut}") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise SeedFileError(f"{file} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SeedFileError(f"{file} is no chunk of a backup: it is not an object; is it another file?")
    return document


def _whole_second(ms: int) -> int:
    return ms // 1000 * 1000
