"""What `/metrics` tells of the file that keeps the metrics."""

from __future__ import annotations

from pathlib import Path

from cachekeep.app.scraping import size_of


def test_what_waits_in_the_log_counts_too(tmp_path: Path) -> None:
    file = tmp_path / "metrics.sqlite"
    assert size_of(file) is None
    file.write_bytes(b"x" * 4096)
    assert size_of(file) == 4096
    (tmp_path / "metrics.sqlite-wal").write_bytes(b"x" * 1000)
    assert size_of(file) == 5096
