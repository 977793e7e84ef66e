"""HTTPS for the API: its certificate, renewed while the service runs, and the authority's page. Called by app.serve."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cachekeep.domain.ports import WorldError
from cachekeep.host.authority import Authority, validity_of
from cachekeep.settings import Settings

log = structlog.get_logger()

HOSTS = ("127.0.0.1", "::1", "localhost")
_LOOKS_PER_LIFE = 20
_SELDOM_S = 600.0


class ApiCertificate:
    """The certificate that the API presents, in a file beside the authority's."""

    def __init__(self, authority: Authority, file: Path) -> None:
        self._authority = authority
        self.file = file

    def ready(self) -> Path:
        """The file with a certificate that is good for a while. Raises WorldError."""
        found = validity_of(self.file) if self._authority.exists else None
        # Also when the authority was made anew: what the old one signed is believed by nobody any more.
        if found is None or found.is_due(time.time(), HOSTS) or not self._verifies():
            self._authority.issue(self.file, "Cachekeep API", HOSTS)
        return self.file

    def _verifies(self) -> bool:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        try:
            leaf = x509.load_pem_x509_certificates(self.file.read_bytes())[0]
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(self._authority.certificate().encode()))
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    async def renew(self, context: ssl.SSLContext, life_s: float) -> None:
        """Until cancelled. Open connections stay; new ones see the new certificate. A trouble with the authority is
        logged, and the old certificate stays for as long as it lasts."""
        while True:
            await asyncio.sleep(min(life_s / _LOOKS_PER_LIFE, _SELDOM_S))
            try:
                context.load_cert_chain(await asyncio.to_thread(self.ready))
            except (WorldError, OSError) as error:
                log.warning("the certificate of the API cannot be renewed", reason=str(error))


def authority_page(settings: Settings) -> Route:
    """`/_cachekeep/ca.pem`, unsigned: what clients trust is no secret. It makes nothing: 404 while there is none."""
    authority = Authority(settings.authority_dir)

    async def answer(_: Request) -> Response:
        if not authority.exists:
            return PlainTextResponse("There is no authority yet: `cachekeep ca` makes it.\n", 404)
        try:
            text = await asyncio.to_thread(authority.certificate)
        except WorldError as error:
            log.warning("the authority cannot be read", reason=str(error))
            return PlainTextResponse("The authority cannot be read; the service's log says why.\n", 503)
        return PlainTextResponse(text, media_type="application/x-pem-file")

    return Route("/_cachekeep/ca.pem", answer, methods=["GET"])
