"""`cachekeep ca`: the certificate of the installation's own authority, for whoever connects by TLS."""

from __future__ import annotations

from typing import Annotated

import typer

from cachekeep.cli import options
from cachekeep.host.authority import Authority

app = typer.Typer(invoke_without_command=True)


@app.callback()
def ca(
    state_dir: options.StateDir = None,
    path: Annotated[bool, typer.Option("--path", help="Print where the file is instead of what is in it.")] = False,
) -> None:
    """Print the certificate that clients trust: redis-cli --cacert, AWS_CA_BUNDLE, ssl_ca_certs.

    Made when it is first asked for. It is no secret; the key beside it is.
    """
    settings = options.settings_from(state_dir=state_dir)
    authority = Authority(settings.authority_dir)
    text = authority.certificate()
    typer.echo(str(authority.ca_file.absolute()) if path else text, nl=path)
