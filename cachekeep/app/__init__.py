"""The composition root: puts adapters, services and surfaces together. Only the CLI imports it."""

from cachekeep.app.serve import StartError, catalog, serve

__all__ = ["StartError", "catalog", "serve"]
