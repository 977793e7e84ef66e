"""Objects in memory: for tests, and for what never needs to last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo, check_name


class MemoryBlobs:
    """A BlobStore in a dict. `objects` may be looked at and changed freely."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        whole = data if isinstance(data, bytes) else b"".join(data)
        if self.objects.setdefault(check_name(name), whole) is not whole:
            if new:
                raise BlobError(BlobFault.EXISTS, f"memory has {name} already", "another writer made it")
            self.objects[name] = whole

    def get(self, name: str) -> bytes:
        try:
            return self.objects[check_name(name)]
        except KeyError:
            raise BlobError(BlobFault.MISSING, f"memory has no {name}", "it was never written or is deleted") from None

    def open(self, name: str) -> Iterator[bytes]:
        return iter([self.get(name)])

    def list(self, folder: str = "") -> list[BlobInfo]:
        below = f"{check_name(folder)}/" if folder else ""
        return [BlobInfo(name, len(data)) for name, data in sorted(self.objects.items()) if name.startswith(below)]

    def delete(self, name: str) -> None:
        self.objects.pop(check_name(name), None)

    def exists(self, name: str) -> bool:
        return check_name(name) in self.objects
