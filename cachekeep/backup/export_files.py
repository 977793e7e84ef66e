"""The three formats of an export, key by key into files. Called by backup.export.

`add` and `functions` raise Unrepresentable or DumpError for what cannot be written: then nothing of it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cachekeep.backup.export_folder import DurableFile
from cachekeep.codec.dump import Target, Unrepresentable, commands, decode, loadable, rdb_version, rdb_version_of
from cachekeep.codec.dump.footer import check, with_version
from cachekeep.codec.rdb_file import RdbFile
from cachekeep.codec.record import NO_EXPIRY, Record
from cachekeep.codec.resp import Word, pack
from cachekeep.codec.seed_json import CHUNK_BYTES, CHUNK_KEYS, MANIFEST, Part, write_chunk, write_entry, write_manifest

RDB_FILE, RESP_FILE = "dump.rdb", "commands.resp"


class Files(Protocol):
    def add(self, record: Record) -> None: ...

    def functions(self, payload: bytes) -> None:
        """Before the first key."""
        ...

    def finish(self) -> list[str]:
        """Make all durable; returns their names."""
        ...

    def abandon(self) -> None:
        """Close what is open."""
        ...


class JsonFiles:
    """Chunks of the seed's format, and the file that says which there are. Holds one chunk for each database."""

    def __init__(self, folder: Path, captured_ms: int) -> None:
        self._folder, self._captured_ms = folder, captured_ms
        self._entries: dict[int, list[bytes]] = {}
        self._bytes: dict[int, int] = {}
        self._parts: dict[int, int] = {}
        self._files: dict[str, int] = {}
        self._functions: bytes | None = None

    def add(self, record: Record) -> None:
        entry = write_entry(record.key, record.db, record.expires_ms, record.payload, self._captured_ms)
        held = self._entries.setdefault(record.db, [])
        if held and self._bytes[record.db] + len(entry) > CHUNK_BYTES:
            self._close(record.db)
        held.append(entry)
        self._bytes[record.db] = self._bytes.get(record.db, 0) + len(entry)
        if len(held) == CHUNK_KEYS:
            self._close(record.db)

    def functions(self, payload: bytes) -> None:
        check(payload)
        self._functions = payload

    def finish(self) -> list[str]:
        for db in sorted(self._entries):
            if self._entries[db]:
                self._close(db)
        file = DurableFile(self._folder / MANIFEST)
        file.write(write_manifest(self._captured_ms, self._files, self._functions))
        file.finish()
        return [*self._files, MANIFEST]

    def abandon(self) -> None:
        """Nothing is open between two keys."""

    def _close(self, db: int) -> None:
        part = Part(db, self._parts.get(db, 0) + 1)
        file = DurableFile(self._folder / part.file)
        try:
            for piece in write_chunk(part, self._entries[db], self._captured_ms):
                file.write(piece)
            file.finish()
        finally:
            file.abandon()
        self._files[part.file], self._parts[db] = len(self._entries[db]), part.number
        self._entries[db].clear()
        self._bytes[db] = 0


class RdbFiles:
    """One RDB file."""

    def __init__(self, folder: Path, captured_ms: int, version: int, target: Target | None) -> None:
        self._file = DurableFile(folder / RDB_FILE)
        self._rdb = RdbFile(version, target)
        self._file.write(self._rdb.begin({"ctime": str(captured_ms // 1000)}))

    def add(self, record: Record) -> None:
        self._file.write(self._rdb.record(record.db, record.key, record.expires_ms, record.payload))

    def functions(self, payload: bytes) -> None:
        self._file.write(self._rdb.functions(payload))

    def finish(self) -> list[str]:
        self._file.write(self._rdb.end())
        self._file.finish()
        return [self._file.name]

    def abandon(self) -> None:
        self._file.abandon()


class RespFiles:
    """Commands for `redis-cli --pipe`: RESTORE, or for a target that is too old those that build the value."""

    def __init__(self, folder: Path, target: Target | None) -> None:
        self._file, self._target, self._db = DurableFile(folder / RESP_FILE), target, 0

    def add(self, record: Record) -> None:
        lines = self._of(record)
        if record.db != self._db:
            self._file.write(pack("SELECT", record.db))
            self._db = record.db
        for line in lines:
            self._file.write(pack(*line))

    def functions(self, payload: bytes) -> None:
        check(payload)
        if self._target is not None:
            version = rdb_version_of(self._target)
            if not self._target.counts_stream_entries:
                raise Unrepresentable(f"{self._target} has no functions: Redis 7.0 is the first")
            payload = with_version(payload, min(version, rdb_version(payload)))
        self._file.write(pack("FUNCTION", "RESTORE", payload, "REPLACE"))

    def finish(self) -> list[str]:
        self._file.finish()
        return [self._file.name]

    def abandon(self) -> None:
        self._file.abandon()

    def _of(self, record: Record) -> list[tuple[Word, ...]]:
        key, payload, target = record.key, record.payload, self._target
        expiry = 0 if record.expires_ms == NO_EXPIRY else max(record.expires_ms, 1)
        check(payload)
        if target is not None and rdb_version(payload) > rdb_version_of(target):
            if not loadable(payload[0], target):
                made = commands(key, decode(payload, verify_checksum=False), target)
                expire = [("PEXPIREAT", key, expiry)] if expiry else list[tuple[Word, ...]]()
                return [("DEL", key), *map(tuple, made), *expire]
            payload = with_version(payload, rdb_version_of(target))
        return [("RESTORE", key, expiry, payload, "REPLACE", *(("ABSTTL",) if expiry else ()))]
