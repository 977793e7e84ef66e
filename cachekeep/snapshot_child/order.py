"""From an order to what comes of it. Called by snapshot_child.__main__.

What only one kind of order needs is imported when it comes: a process for each order is to start quickly.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.catalog_chain import Finding, verify_chain
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.snapshot_work import (
    CopyOrder,
    ExportOrder,
    FeedOrder,
    FillOrder,
    Outcome,
    RemoveOrder,
    SweepOrder,
    TakeInOrder,
    UnpackOrder,
    VerifyOrder,
    WorkFailed,
)
from cachekeep.snapshot_child.compose import Wish, engine_at, repository_of

_ORDERS = {
    kind.__name__: kind
    for kind in (
        CopyOrder,
        VerifyOrder,
        UnpackOrder,
        FeedOrder,
        TakeInOrder,
        FillOrder,
        ExportOrder,
        RemoveOrder,
        SweepOrder,
    )
}
_REFUSED_NAMED = 3


def carried_out(wish: Wish, began: Callable[[str], None], stop: threading.Event) -> Outcome:
    """Raises WorkFailed, what a copy, a restore and a repository raise, and OSError."""
    order = msgspec.json.decode(wish.order, type=_ORDERS[wish.kind])
    if isinstance(order, (RemoveOrder, SweepOrder)):
        return _removed(wish, order)
    repository = repository_of(wish)
    match order:
        case CopyOrder():
            from cachekeep.snapshot_child.copying import copied
            from cachekeep.snapshot_child.read_back import ReadBack

            proof = ReadBack(repository)

            def named(generation: str) -> None:
                began(generation)
                proof.start(generation)

            try:
                found = copied(repository, order, wish, named, stop)
            finally:
                proof.stop()
            if findings := proof.findings(found.generation):
                repository.remove(found.generation)
                raise _damaged(findings)
            return found
        case VerifyOrder(generation):
            if findings := verify_chain(repository, generation):
                raise _damaged(findings)
            return Outcome(generation)
        case UnpackOrder():
            from cachekeep.snapshot_child.files import unpack

            return Outcome(order.generation, lanes=unpack(repository, order, Path(wish.staging), stop))
        case FeedOrder(generation, lanes):
            from cachekeep.snapshot_child.feed import Feeder

            Feeder(repository, generation, stop).feed(lanes)
            return Outcome(generation)
        case TakeInOrder(urls):
            from cachekeep.snapshot_child.files import take_in

            return take_in(repository, urls, wish, began, stop)
        case ExportOrder():
            from cachekeep.snapshot_child.files import export

            export(repository, order, wish, stop)
            return Outcome(order.generation)
        case FillOrder():
            return _filled(repository, order, wish, stop)
    raise ValueError(f"{wish.kind} is no order")


def _damaged(findings: Sequence[Finding]) -> WorkFailed:
    return WorkFailed(f"the data was read back and is damaged: {findings[0]}")


def _filled(repository: Repository, order: FillOrder, wish: Wish, stop: threading.Event) -> Outcome:
    from cachekeep.backup.contents import open_generation
    from cachekeep.backup.restore import restore
    from cachekeep.backup.walk import Halted
    from cachekeep.host.installs import MachineCatalogue
    from cachekeep.host.scratch import LocalScratch
    from cachekeep.remote.open import open_socket

    target = engine_at(wish, order.endpoint)
    scratch = LocalScratch(MachineCatalogue(), open_socket)
    try:
        with open_generation(repository, order.generation, scratch) as contents:
            report = restore(contents, target.remote, target.survey, stop=stop)
    except Halted as stopped:
        raise WorkFailed(str(stopped), again=True) from stopped
    if not report.complete:
        refused = [f"{key[:60]!r}: {why}" for _, key, why in report.refused[:_REFUSED_NAMED]]
        why = report.lost or f"{report.refused_keys} keys were refused ({'; '.join(refused)}), functions: "
        raise WorkFailed(f"not everything could be written: {why}{'' if report.lost else report.functions}")
    return Outcome(order.generation, keys=report.written)


def _removed(wish: Wish, order: RemoveOrder | SweepOrder) -> Outcome:
    from cachekeep.snapshot_child.files import remove_folders

    staging = Path(wish.staging)
    if isinstance(order, SweepOrder):
        remove_folders(staging, [path.name for path in staging.glob("*") if path.name not in order.folders])
    else:
        remove_folders(staging, order.folders)
    try:
        repository = Repository.open(LocalBlobs(Path(wish.repository)))
    except CatalogError as error:
        if error.fault is not CatalogFault.ABSENT:
            raise
        return Outcome()
    root = Path(wish.repository)
    for name in order.generations if isinstance(order, RemoveOrder) else _waste(repository, order):
        repository.remove(name)
        # A process that was killed leaves files that are no objects yet.
        shutil.rmtree(root / name, ignore_errors=True)
    if isinstance(order, SweepOrder):
        there = {one.name for one in repository.generations()}
        for path in root.glob("2*T*Z-*"):
            if path.name not in there:
                shutil.rmtree(path, ignore_errors=True)
    return Outcome()


def _waste(repository: Repository, order: SweepOrder) -> list[str]:
    from cachekeep.snapshot_child.files import FILES

    found = [one for one in repository.generations() if one.name not in order.generations]
    return [one.name for one in found if one.status is Status.UNFINISHED or (one.head and one.head.source == FILES)]
