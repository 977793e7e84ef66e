"""`python -m cachekeep` is the `cachekeep` command."""

from cachekeep.cli.main import main

main()
