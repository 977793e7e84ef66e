"""What the tests of restores share: backups of a server, made by means of their own, restored by the product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backup_samples import backup_of

from cachekeep.backup.catalog import Repository
from cachekeep.backup.contents import Contents, open_generation
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.codec.record import Record
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote


class Backups:
    """Makes backups of servers by means of its own, and restores them with the product."""

    def __init__(self, folder: Path, scratch: LocalScratch) -> None:
        self.folder, self.scratch = folder, scratch

    def of(self, server: Any, records: list[Record], **more: Any) -> tuple[Repository, str]:
        return backup_of(self.folder, survey(open_remote(server.url)), records, **more)

    @contextmanager
    def contents(self, made: tuple[Repository, str], **how: Any) -> Iterator[Contents]:
        with open_generation(*made, self.scratch, **how) as contents:
            yield contents

    def restore(self, made: tuple[Repository, str], server: Any, **options: Any) -> RestoreReport:
        remote = open_remote(server.url)
        with self.contents(made) as contents:
            return restore(contents, remote, survey(remote), RestoreOptions(**options))
