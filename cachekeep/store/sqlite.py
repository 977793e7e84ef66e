"""The store on SQLite: a table for resources of all kinds, and one each for events, the journal, claimed addresses.

One writer, WAL, FULL sync: a transaction that has ended survives a power cut. Called from one thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from cachekeep.domain.alarms import Alarm, HistoryItem, HistoryKind, Topic
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.nodes import Address
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Conflict, R, Resource, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.reserved_node import ReservedNode
from cachekeep.domain.security_group import SecurityGroup
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.domain.service_updates import ServiceUpdate, UpdateAction, UpkeepNotice
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.users import User, UserGroup
from cachekeep.domain.verdicts import ThresholdOverrides

log = structlog.get_logger()

# 4: users, transit, snapshots and more, which an older Cachekeep would run without: its caches would stand open.
SCHEMA_VERSION = 4
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resource (
  kind TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (kind, region, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
  number INTEGER PRIMARY KEY, at REAL NOT NULL, region TEXT NOT NULL, source_type TEXT NOT NULL,
  source_id TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS event_by_time ON event (region, at);
CREATE TABLE IF NOT EXISTS note (
  number INTEGER PRIMARY KEY, at REAL NOT NULL, region TEXT NOT NULL, resource_id TEXT NOT NULL,
  sentence TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS note_by_resource ON note (region, resource_id, number);
CREATE INDEX IF NOT EXISTS note_by_time ON note (at);
CREATE TABLE IF NOT EXISTS alarm_history (
  number INTEGER PRIMARY KEY, at REAL NOT NULL, region TEXT NOT NULL, alarm TEXT NOT NULL, kind TEXT NOT NULL,
  summary TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS alarm_history_by_alarm ON alarm_history (region, alarm, at);
CREATE INDEX IF NOT EXISTS alarm_history_by_time ON alarm_history (region, at);
CREATE TABLE IF NOT EXISTS address (
  host TEXT NOT NULL, port INTEGER NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (host, port)) WITHOUT ROWID;
"""

_KINDS: dict[type[Any], str] = {
    ReplicationGroup: "replicationgroup",
    CacheCluster: "cluster",
    ParameterGroup: "parametergroup",
    SubnetGroup: "subnetgroup",
    SecurityGroup: "securitygroup",
    Alarm: "alarm",
    Topic: "topic",
    WatchedTarget: "target",
    ThresholdOverrides: "thresholds",
    Snapshot: "snapshot",
    ReservedNode: "reservednode",
    ServerlessCache: "serverlesscache",
    ServiceUpdate: "serviceupdate",
    UpdateAction: "updateaction",
    UpkeepNotice: "upkeepnotice",
    GlobalGroup: "globalgroup",
    User: "user",
    UserGroup: "usergroup",
}
# AWS keeps events for 14 days (ElastiCache guide, "Viewing ElastiCache events").
EVENTS_KEPT_S = 14 * 86400
# Of the journal of one resource; whatever goes round in circles must not fill the disk.
NOTES_KEPT = 5000


PAGE_BYTES = 4096
RESERVE_PAGES = 256
CHECKPOINT_PAGES = 100


def _unwritable(error: sqlite3.OperationalError) -> WorldError:
    return WorldError(f"the store cannot be written: {error}; free space on its disk, then try again")


def _name(resource: Resource) -> str:
    """Each kind has one of the two."""
    fields = vars(resource)
    return str(fields["id"] if "id" in fields else fields["name"])


class SqliteStore:
    """Implements domain.ports.Store in one file. Raises WorldError when the file is of a newer Cachekeep."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._encoder = msgspec.json.Encoder()
        self._decoders = {kind: msgspec.json.Decoder(kind) for kind in _KINDS}
        # As long as they are stored: the bytes of resources that were read, and what they were decoded to.
        self._read: dict[tuple[type[Any], str, str], tuple[bytes, Any]] = {}
        self._subscribers: list[Callable[[Sequence[Resource]], None]] = []
        self.is_new = not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        """There was no store at this path before."""
        self._create_schema(path)
        self._check_rows(path)
        # Anew at every start: SQLite drops the write-ahead log when the last connection closes.
        self._keep_reserve(grow=True)

    def _create_schema(self, path: Path) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise WorldError(
                f"{path} was written by a newer Cachekeep (schema {found}, this one knows {SCHEMA_VERSION}): "
                "run that version, or choose another state directory"
            )
        self._db.executescript(_SCHEMA)
        if found == 1:
            self._give_groups_shards()
        self._db.execute("DROP TABLE IF EXISTS reserve")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _give_groups_shards(self) -> None:
        """Schema 1 knew groups of one shard only, whose members stood in the group itself."""
        rows = self._db.execute("SELECT region, name, body FROM resource WHERE kind='replicationgroup'").fetchall()
        self._db.execute("BEGIN IMMEDIATE")
        for region, name, body in rows:
            group = msgspec.json.decode(body)
            shard = {"id": "0001", "member_ids": group.pop("member_ids"), "primary_id": group.pop("primary_id")}
            group["node_groups"] = [shard]
            self._db.execute(
                "UPDATE resource SET body=? WHERE kind='replicationgroup' AND region=? AND name=?",
                (msgspec.json.encode(group), region, name),
            )
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def _check_rows(self, path: Path) -> None:
        """Raises WorldError for one that cannot be read: passed over, its nodes would be taken for nobody's and ended.
        Better at the start than in the middle of a round."""
        decoders = {kind: self._decoders[of] for of, kind in _KINDS.items()}
        for kind, region, name, body in self._db.execute("SELECT kind, region, name, body FROM resource"):
            try:
                if kind in decoders:
                    decoders[kind].decode(body)
            except (msgspec.DecodeError, ValueError) as error:
                raise WorldError(
                    f"{path}: the {kind} {name} of {region} cannot be read ({error}); put back a good copy of the store"
                ) from error

    def close(self) -> None:
        self._db.close()

    def get(self, kind: type[R], region: str, name: str) -> R | None:
        row = self._db.execute(
            "SELECT body FROM resource WHERE kind=? AND region=? AND name=?", (_KINDS[kind], region, name)
        ).fetchone()
        return None if row is None else self._decoded(kind, region, name, row[0])

    def all(self, kind: type[R], region: str | None = None) -> list[R]:
        rows = self._db.execute(
            "SELECT region, name, body FROM resource WHERE kind=? AND (?2 IS NULL OR region=?2) ORDER BY region, name",
            (_KINDS[kind], region),
        )
        return [self._decoded(kind, *row) for row in rows]

    def _decoded(self, kind: type[R], region: str, name: str, body: bytes) -> R:
        """The resource as it was decoded last, where its bytes are the same: making one takes longer than reading it,
        and a round reads all of its own. They are frozen, so nobody can tell."""
        known = self._read.get((kind, region, name))
        if known is None or known[0] != body:
            known = body, self._decoders[kind].decode(body)
            self._read[kind, region, name] = known
        found: R = known[1]
        return found

    def events(
        self, region: str, *, since: float, until: float, source_type: str | None, source_id: str | None
    ) -> list[Event]:
        rows = self._db.execute(
            "SELECT at, source_type, source_id, message FROM event WHERE region=? AND at>=? AND at<=?"
            " AND (?4 IS NULL OR source_type=?4) AND (?5 IS NULL OR source_id=?5) ORDER BY at, number",
            (region, since, until, source_type, source_id),
        )
        return [Event(at, region, SourceType(kind), name, message) for at, kind, name, message in rows]

    def journal(self, region: str, resource_id: str, *, since: float = 0.0, limit: int = 1000) -> list[Note]:
        rows = self._db.execute(
            "SELECT at, sentence FROM note WHERE region=? AND resource_id=? AND at>=? ORDER BY number DESC LIMIT ?",
            (region, resource_id, since, limit),
        ).fetchall()
        return [Note(at, region, resource_id, sentence) for at, sentence in reversed(rows)]

    def alarm_history(
        self, region: str, alarm: str | None = None, *, since: float, until: float, kind: HistoryKind | None = None
    ) -> list[HistoryItem]:
        rows = self._db.execute(
            "SELECT at, alarm, kind, summary, data FROM alarm_history WHERE region=? AND at>=? AND at<=?"
            " AND (?4 IS NULL OR alarm=?4) AND (?5 IS NULL OR kind=?5) ORDER BY at, number",
            (region, since, until, alarm, kind),
        )
        return [HistoryItem(at, region, name, HistoryKind(kind), text, data) for at, name, kind, text, data in rows]

    def subscribe(self, changed: Callable[[Sequence[Resource]], None]) -> None:
        self._subscribers.append(changed)

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        self._db.execute("BEGIN IMMEDIATE")
        work = SqliteTransaction(self)
        try:
            yield work
        except sqlite3.OperationalError as error:
            self._rollback()
            raise _unwritable(error) from error
        except BaseException:
            self._rollback()
            raise
        self._commit(work)
        if work.touched:
            for changed in self._subscribers:
                changed(work.touched)

    def _commit(self, work: SqliteTransaction) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._rollback()
            raise _unwritable(error) from error
        self._keep_reserve()

    def _keep_reserve(self, *, grow: bool = False) -> None:
        """Have free pages in the file, and a write-ahead log as long: on a full disk what happens can still be
        recorded, and things can still be deleted. Grown by writing real pages and freeing them at once."""
        if not grow and self._db.execute("PRAGMA freelist_count").fetchone()[0] >= RESERVE_PAGES // 4:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("CREATE TABLE reserve (room BLOB)")
            self._db.execute("INSERT INTO reserve VALUES (randomblob(?))", (RESERVE_PAGES * PAGE_BYTES,))
            self._db.execute("COMMIT")
            self._db.execute("DROP TABLE reserve")
            self._db.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.OperationalError as error:
            # No room for a reserve: tried again after the next transaction.
            self._rollback()
            log.warning("the store has no reserve for a full disk", reason=str(error))

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


class SqliteTransaction:
    """Implements domain.ports.Transaction."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.touched: list[Resource] = []

    def _write(self, statement: str, *values: object) -> None:
        self._store._db.execute(statement, values)

    def get(self, kind: type[R], region: str, name: str) -> R | None:
        return self._store.get(kind, region, name)

    def all(self, kind: type[R], region: str | None = None) -> list[R]:
        return self._store.all(kind, region)

    def insert(self, resource: Resource) -> None:
        if self._stored(resource) is not None:
            raise Conflict(f"{_name(resource)} is there already")
        self._put(resource)

    def replace(self, old: Resource, new: Resource) -> None:
        if self._stored(old) != old:
            raise Conflict(f"{_name(old)} has changed")
        self._put(new)

    def _stored(self, like: Resource) -> Resource | None:
        kind: type[Any] = type(like)
        found: Resource | None = self._store.get(kind, like.region, _name(like))
        return found

    def _put(self, resource: Resource) -> None:
        self._write(
            "INSERT OR REPLACE INTO resource VALUES (?,?,?,?)",
            _KINDS[type(resource)],
            resource.region,
            _name(resource),
            self._store._encoder.encode(resource),
        )
        self.touched.append(resource)

    def delete(self, resource: Resource) -> None:
        self._write(
            "DELETE FROM resource WHERE kind=? AND region=? AND name=?",
            _KINDS[type(resource)],
            resource.region,
            _name(resource),
        )
        self._store._read.pop((type(resource), resource.region, _name(resource)), None)
        self.touched.append(resource)

    def add_event(self, event: Event) -> None:
        self._write(
            "INSERT INTO event (at, region, source_type, source_id, message) VALUES (?,?,?,?,?)",
            event.at,
            event.region,
            event.source_type.value,
            event.source_id,
            event.message,
        )
        self._write("DELETE FROM event WHERE region=? AND at<?", event.region, event.at - EVENTS_KEPT_S)

    def add_note(self, note: Note) -> None:
        self._write(
            "INSERT INTO note (at, region, resource_id, sentence) VALUES (?,?,?,?)",
            note.at,
            note.region,
            note.resource_id,
            note.sentence,
        )
        self._write("DELETE FROM note WHERE at<?", note.at - EVENTS_KEPT_S)
        self._write(
            "DELETE FROM note WHERE region=?1 AND resource_id=?2 AND number<=(SELECT number FROM note"
            " WHERE region=?1 AND resource_id=?2 ORDER BY number DESC LIMIT 1 OFFSET ?3)",
            note.region,
            note.resource_id,
            NOTES_KEPT,
        )

    def add_history(self, item: HistoryItem) -> None:
        self._write(
            "INSERT INTO alarm_history (at, region, alarm, kind, summary, data) VALUES (?,?,?,?,?,?)",
            item.at,
            item.region,
            item.alarm,
            item.kind.value,
            item.summary,
            item.data,
        )
        self._write("DELETE FROM alarm_history WHERE region=? AND at<?", item.region, item.at - EVENTS_KEPT_S)

    def addresses(self) -> set[Address]:
        return {Address(host, port) for host, port in self._store._db.execute("SELECT host, port FROM address")}

    def last_claimed(self) -> Address | None:
        row = self._store._db.execute("SELECT value FROM meta WHERE name='last_address'").fetchone()
        if row is None:
            return None
        host, _, port = row[0].rpartition(":")
        return Address(host, int(port))

    def claim(self, owner: str, addresses: Sequence[Address]) -> None:
        for address in addresses:
            self._write("INSERT INTO address VALUES (?,?,?)", address.host, address.port, owner)
        if addresses:
            self._write("INSERT OR REPLACE INTO meta VALUES ('last_address', ?)", str(addresses[-1]))

    def release(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            self._write("DELETE FROM address WHERE host=? AND port=?", address.host, address.port)
