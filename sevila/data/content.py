"""What a video is, whatever it is called: the hash of its bytes, computed once for each state of a file."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from sevila.data import store_folder
from sevila.data.frame_folder import picture_files, rate_file
from sevila.errors import UserError
from sevila.files import read_text


class ContentHashes:
    """Content hashes of videos, files or folders of pictures; 32 hex digits.

    store   the folder of the store where they are remembered by path, size and the times of the last changes
            (content's and file's, in nanoseconds, so that a copy which keeps its times is noticed too); None: by this
            object only

    Of a folder the pictures and their rate count, not their names.
    """

    def __init__(self, store: Path | None = None) -> None:
        self.store = store
        self._known: dict[str, tuple[Any, str]] = {}  # path -> state, content

    def of(self, path: Path) -> str:
        """UserError where there is no such video."""
        try:
            state = _folder_state(path) if path.is_dir() else _file_state(path)
            key = os.path.abspath(path)
            known = self._known.get(key) or self._remembered(key)
            if known is None or known[0] != state:
                known = (state, _folder_hash(path) if path.is_dir() else _file_hash(path))
                self._remember(key, *known)
            self._known[key] = known
            return known[1]
        except OSError as error:
            raise UserError(f"video {path} cannot be opened ({error.strerror}): check the path") from error

    def _file(self, key: str) -> Path | None:
        if self.store is None:
            return None
        name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
        return self.store / store_folder.CONTENT / name[:2] / f"{name}.json"

    def _remembered(self, key: str) -> tuple[Any, str] | None:
        file = self._file(key)
        if file is None:
            return None
        try:
            row = store_folder.read_sealed(self.store, file)
            return (row["state"], row["content"]) if row["path"] == key else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            print(f"sevila: warning: {file}: {error}; its video is hashed again", file=sys.stderr)
            return None

    def _remember(self, key: str, state: Any, content: str) -> None:
        file = self._file(key)
        if file is None:
            return
        try:
            store_folder.write_sealed(self.store, file, {"path": key, "state": state, "content": content})
        except OSError:  # a store that may only be read: this object remembers
            self.store = None


def _file_state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _folder_state(folder: Path) -> list[Any]:
    """A digest of all pictures' states, and what is said of their rate."""
    states = [[file.name, *_file_state(file)] for file in picture_files(folder)]
    digest = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    return [digest, _rate(folder)]


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256(f"pictures, frames a second: {_rate(folder)}\n".encode())
    for file in picture_files(folder):
        with file.open("rb") as picture:
            digest.update(hashlib.file_digest(picture, "sha256").digest())
    return digest.hexdigest()[:32]


def _rate(folder: Path) -> str:
    """What the file says that holds the rate of a folder's pictures; empty where there is none."""
    file = rate_file(folder)
    return "" if file is None else read_text(file).strip()
