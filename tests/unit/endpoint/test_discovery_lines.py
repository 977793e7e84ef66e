import pytest

from cachekeep.endpoint.discovery import data_length


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (b"set a 0 0 5", 7),
        (b"set a 0 0 5 noreply", 7),
        (b"cas a 0 0 5 77", 7),
        (b"ms a 5 T30", 7),
        (b"set a 0 0 -5", 0),
        (b"set a 0 0", 0),
        (b"set a 0 0 x", 0),
        (b"get set 0 0 5", 0),
        (b"mg a v", 0),
        (b"", 0),
    ],
)
def test_length_of_the_data_behind_a_command(line: bytes, length: int) -> None:
    assert data_length(line.split()) == length
