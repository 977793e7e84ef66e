"""The composition root: puts adapters, services and surfaces together. Only the CLI imports it."""

from cachekeep.app.adapters import StartError
from cachekeep.app.serve import serve
from cachekeep.app.services import catalog

__all__ = ["StartError", "catalog", "serve"]
