"""`python -m cachekeep` is the `cachekeep` command; the installed script calls this `main`, too."""

from __future__ import annotations


def main() -> None:
    """Run one command and exit. Ctrl-C ends quietly, also while the command's parts are still being imported."""
    try:
        # Here, as it takes most of a second.
        from cachekeep.cli.main import main as run

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # what shells tell of it; the name for it is among the imports


if __name__ == "__main__":
    main()
