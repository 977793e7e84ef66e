"""The `cachekeep` command."""

from cachekeep.app import serve
from cachekeep.settings import load


def main() -> None:
    serve(load())
