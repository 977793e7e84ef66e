"""What `cachekeep doctor` looks at of encryption, of logins and of who may connect. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cachekeep.access import module_build
from cachekeep.cli.checks import Finding, Verdict
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.identity import TOKENS_SINCE, takes_tokens
from cachekeep.domain.world import WorldError
from cachekeep.host.at_rest import encrypted_by
from cachekeep.host.authority import Authority
from cachekeep.settings import Settings


def encryption(settings: Settings) -> Iterator[Finding]:
    """The authority, the disk, and the addresses that may connect."""
    yield _authority(settings)
    by = encrypted_by(settings.state_dir) if settings.state_dir.exists() else None
    if by is None and settings.encrypted_state:
        by = "other means, as encrypted_state says"
    text = (
        f"the state directory is encrypted by {by}" if by else "AtRestEncryptionEnabled is refused: no encrypted volume"
    )
    yield Finding("at rest", Verdict.OK, text)
    who = settings.allowed_sources or "any process of this machine"
    text = f"{who} may connect to the API; caches listen on loopback only, and no firewall rule is set for them"
    yield Finding("sources", Verdict.OK, text)


def logins(settings: Settings, installs: Sequence[EngineInstall]) -> Finding:
    """Whether users of type iam can be made."""
    subject = "IAM logins"
    if not any(takes_tokens(install.engine, install.version) for install in installs):
        return Finding(subject, Verdict.OK, f"users of type iam are refused: no Valkey from {TOKENS_SINCE} on is here")
    if module_build.find(settings.state_dir) is not None:
        return Finding(subject, Verdict.OK, "the module that engines load for them is there")
    compiler = module_build.find_compiler()
    if compiler is not None:
        return Finding(subject, Verdict.OK, f"{compiler} builds what they need when the first user of type iam is made")
    return Finding(
        subject, Verdict.WARN, "users of type iam are refused: there is no C compiler", "install one, such as gcc"
    )


def _authority(settings: Settings) -> Finding:
    authority = Authority(settings.authority_dir)
    if not authority.exists:
        return Finding("authority", Verdict.OK, "none yet; made when TLS is first asked for, or by `cachekeep ca`")
    try:
        authority.certificate()
    except WorldError as error:
        return Finding("authority", Verdict.FAIL, str(error), "nothing new can speak TLS until that is done")
    return Finding("authority", Verdict.OK, f"{authority.ca_file} can sign")
