"""Begin a generation, or go on with one that was interrupted. Called by backup.copy.

An interrupted one is gone on with when it is the newest and everything that gives its cursors a meaning is the same:
source, options, engine, and for every node its process (run_id), its slots and its epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cachekeep.backup.catalog import CatalogError, Generation, Repository, Status
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.copy_types import CopyOptions, Method
from cachekeep.backup.interruptions import Journal, now_ms
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.topology import Topology
from cachekeep.backup.writer import GenerationWriter
from cachekeep.domain.engine import Engine


@dataclass(frozen=True)
class Source:
    """What is copied. topology: in cluster mode, as it was when the copy began."""

    survey: Survey
    nodes: tuple[Node, ...]
    topology: Topology | None


def source_of(survey: Survey, topology: Topology | None) -> Source:
    """In cluster mode the nodes are those of the topology, which is newer than the survey."""
    if topology is None:
        return Source(survey, survey.nodes, None)
    run_ids = {(node.host, node.port): node.run_id for node in survey.nodes}
    owners = [owner for owner in topology.owners if owner.slots]
    nodes = tuple(
        Node(owner.host, owner.port, run_ids.get((owner.host, owner.port), ""), owner.slots) for owner in owners
    )
    return Source(survey, nodes, topology)


def begin(
    repository: Repository,
    source: Source,
    options: CopyOptions,
    method: Method,
    journal: Journal,
    named: Callable[[str], None] = lambda name: None,
) -> tuple[GenerationWriter, bool]:
    """The writer, and whether it goes on with an earlier run's. named: told the name of a new one before it is there.

    Raises BlobError, CatalogError.
    """
    head = _head(source, options, method)
    if options.resume and method == "scan" and (name := _resumable(repository, head)):
        try:
            reader = GenerationReader.open(repository, name, unfinished=True)
            lines = list(reader.log_lines())
            writer = GenerationWriter.resume(repository, name)
        except CatalogError as error:
            journal.note(f"the interrupted copy {name} was not gone on with: {error.what}")
        else:
            journal.remember(lines)
            journal.generation = writer
            journal.event("resumed")
            return writer, True
    writer = GenerationWriter.begin(repository, head, named=named)
    journal.generation = writer
    return writer, False


def _head(source: Source, options: CopyOptions, method: Method) -> Head:
    survey, began_ms = source.survey, now_ms()
    described = options.described(method)
    if source.topology:
        described["epochs"] = {owner.lane: owner.epoch for owner in source.topology.owners}
    return Head(
        source=survey.name,
        engine="valkey" if survey.target.engine is Engine.VALKEY else "redis",
        engine_version=str(survey.target.version),
        mode=survey.mode,
        lanes=tuple(Lane(lane=node.lane, run_id=node.run_id, slots=node.slots) for node in source.nodes),
        databases={str(db): size.keys for db, size in sorted(survey.databases.items())},
        began_ms=began_ms,
        source_began_ms=began_ms + survey.clock_ahead_ms,
        options=described,
    )


def _resumable(repository: Repository, head: Head) -> str | None:
    """The newest generation of this source, if it is unfinished and fits."""
    if not all(lane.run_id for lane in head.lanes):
        return None
    own = [found for found in repository.generations() if found.head and found.head.source == head.source]
    return own[-1].name if own and _fits(own[-1], head) else None


def _fits(found: Generation, head: Head) -> bool:
    if found.status is not Status.UNFINISHED or found.head is None:
        return False
    same = ("source", "engine", "engine_version", "mode", "lanes", "options")
    return all(getattr(found.head, name) == getattr(head, name) for name in same)
