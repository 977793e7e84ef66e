"""How an endpoint is copied: its own RDB stream, or SCAN. Pure. Called by copies and by `backup doctor`."""

from __future__ import annotations

from cachekeep.backup.copy_types import CopyOptions, Method
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.codec.dump import rdb_version_of
from cachekeep.domain.remote import RemoteError, RemoteFault, ScratchEngines


def choose(survey: Survey, options: CopyOptions, scratch: ScratchEngines | None) -> tuple[Method, str]:
    """The method and one sentence why. Raises RemoteError(DENIED) when psync was asked for and cannot be."""
    if options.source == "scan":
        return "scan", "SCAN was asked for"
    impossible = _why_impossible(survey, options)
    if options.source == "psync":
        if impossible:
            raise RemoteError(
                RemoteFault.DENIED, f"PSYNC was asked for, but {impossible}", "leave `--source psync` away"
            )
        return "psync", "PSYNC was asked for"
    if reason := impossible or _why_unwise(survey, scratch):
        return "scan", f"SCAN, since {reason}"
    return "psync", f"PSYNC is allowed, and an engine that loads what {survey.server} writes is installed here"


def _why_impossible(survey: Survey, options: CopyOptions) -> str | None:
    if not survey.can(Ability.PSYNC):
        return survey.denied[Ability.PSYNC]
    if options.databases is not None or options.match is not None:
        return "only some of the keys were asked for, and the stream of PSYNC has all"
    return None


def _why_unwise(survey: Survey, scratch: ScratchEngines | None) -> str | None:
    if survey.modules:
        return f"the source has modules ({', '.join(survey.modules)}), without which its RDB file loads nowhere"
    version = rdb_version_of(survey.target)
    if scratch is None or scratch.for_rdb(survey.target.engine, version) is None:
        return f"no engine is installed here that loads RDB version {version} of {survey.server}"
    return None
