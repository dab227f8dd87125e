"""How large a store may become."""

from __future__ import annotations

from pathlib import Path

from sevila.data.store_files import size_of, warn


class Quota:
    """How much may still be written: what other processes add is counted anew from time to time."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.folder, self.limit = folder, limit
        self.closed = False
        self._used: int | None = None
        self._new = 0

    def has(self, size: int) -> bool:
        """Whether so many bytes may be added; the first time they may not is said on stderr."""
        if self.closed or self.limit is None:
            return not self.closed
        if self._used is None or self._new > self.limit // 20:
            self._used, self._new = size_of(self.folder), 0
        if self._used + self._new + size > self.limit:
            self.close(f"it is full (store.max_gb={self.limit / 1e9:g})")
        return not self.closed

    def take(self, size: int) -> None:
        self._new += size

    def close(self, why: str) -> None:
        """Write nothing more."""
        if not self.closed:
            warn(f"store.folder={self.folder}: {why}; nothing is added any more")
        self.closed = True
