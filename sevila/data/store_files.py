"""The folder of a store: how it is known, the files in it, how it is emptied.

    store.json                      says that this is a store, and of which form
    content/                        of every video path its content hash, so that a file is hashed once
    videos/CONTENT.json             length, rate and size of every video
    patches/MAKER/                  maker.json says who made them; then CONTENT/VIEW/COUNT-FRAMES.safetensors
    tables/KIND/ID/                 about.json says what of; then rows in jsonl files (keyframes, pseudo-labels)
    .lock                           while somebody uses it (see `claim`)

Files are never changed, only added and removed, each under its name only when it is whole. So any number of processes
may read and write a store at once, and a reader sees a file or none. Every file has a checksum, verified on reading,
over its content and its place; links are not followed, for they could lead out of the store.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevila.data.folders import picture_files, rate_file
from sevila.errors import UserError
from sevila.files import (
    TEMPORARY_MARK,
    read_json,
    read_text,
    sealed,
    sweep,
    unsealed,
    write_json,
    write_jsonl,
)
from sevila.locks import LOCK, FolderLock, Held

MARK = "store.json"
FORM = {"sevila": "store", "version": 2}
CONTENT, VIDEOS, PATCHES, TABLES = "content", "videos", "patches", "tables"
_CHUNK = re.compile(r"\d+-[0-9a-f]{16}\.safetensors")


def warn(message: str) -> None:
    """Say something on stderr."""
    print(f"sevila: warning: {message}", file=sys.stderr)


def open_folder(folder: Path) -> None:
    """Make the folder a store, if it is not one yet. UserError where it holds other things or cannot be written."""
    try:
        if (folder / MARK).is_file():
            check_form(folder)
        elif folder.is_dir() and any(TEMPORARY_MARK not in f.name and f.name != LOCK for f in folder.iterdir()):
            if not (folder / MARK).is_file():  # another process may have made it one in the meantime
                raise UserError(f"store.folder={folder}: holds other things than a store; name an empty or new folder")
        else:
            write_json(folder / MARK, FORM)
    except OSError as error:
        raise UserError(f"store.folder={folder}: cannot be written to ({error.strerror}); name another one") from None


def claim(folder: Path) -> FolderLock:
    """Say that this process uses the store. Where the last ones to use it were killed, what they left goes first."""
    lock = FolderLock()
    try:
        lock.acquire(folder, shared=True)
        if lock.found and lock.alone():
            sweep(folder)
            lock.downgrade()
    except (Held, OSError):  # somebody tidies up just now, or the store may only be read
        pass
    return lock


def check_form(folder: Path) -> None:
    """UserError for a folder that is no store, or one of another form."""
    if not (folder / MARK).is_file():
        raise UserError(f"{folder}: is no store (no {MARK} in it); name the folder that store.folder named")
    if read_json(folder / MARK) != FORM:
        raise UserError(
            f"{folder}: a store of another version of sevila, or its {MARK} is damaged; "
            "name another folder, or remove this one"
        )


def inside(folder: Path, path: Path) -> bool:
    """Whether a path below the store's folder leads there, through no link. The folder itself may be one."""
    root = os.path.realpath(folder)
    return os.path.realpath(path) == os.path.join(root, path.relative_to(folder))


def read_sealed(folder: Path, file: Path) -> dict[str, Any]:
    """What `write_sealed` wrote. FileNotFoundError where there is nothing; ValueError for a damaged file or a link."""
    if not os.path.lexists(file):
        raise FileNotFoundError(file)
    if not inside(folder, file):
        raise ValueError("is a link, which a store has none of")
    try:
        return unsealed(read_json(file), str(file.relative_to(folder)))
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"{file}: ")) from None


def known(folder: Path, file: Path, keys: set[str], again: str) -> dict[str, Any] | None:
    """What `write_sealed` wrote; None where there is nothing, or something damaged, which is said on stderr.

    keys    of the object; one with others counts as damaged
    again   what happens then
    """
    try:
        row = read_sealed(folder, file)
        if set(row) != keys:
            raise ValueError(f"holds {', '.join(sorted(row))}, not {', '.join(sorted(keys))}")
        return row
    except FileNotFoundError:
        return None
    except ValueError as error:
        warn(f"{file}: {error}; {again}")
        return None


def write_sealed(folder: Path, file: Path, content: dict[str, Any]) -> None:
    """Write an object with its checksum, which holds at this place in the store. OSError where that cannot be done."""
    refuse_links(folder, file.parent)
    write_json(file, sealed(content, str(file.relative_to(folder))))


def refuse_links(folder: Path, place: Path) -> None:
    """OSError for a place below the store's folder that would lead out of it."""
    if not inside(folder, place):
        raise OSError(errno.ELOOP, "a link in it leads elsewhere", str(place))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder. What vanishes meanwhile does not count."""
    return sum(_bytes(file) for file in _files(folder))


@dataclass(frozen=True)
class Part:
    """What one maker's patches hold, or one table.

    kind    "patches", or the table's
    name    its directory's
    rows    frames, or the table's rows
    videos  that frames are of
    about   what maker.json says; empty for a table
    """

    kind: str
    name: str
    rows: int
    bytes: int
    videos: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """What a store holds. `unfinished`: bytes of files that killed processes left, or that are being written."""

    parts: tuple[Part, ...]
    bytes: int
    unfinished: int


def contents(folder: Path) -> Contents:
    """Look through a store. UserError where the folder is none."""
    check_form(folder)
    makers = [_patches(sub) for sub in _folders(folder / PATCHES)]
    tables = [_table(kind.name, sub) for kind in _folders(folder / TABLES) for sub in _folders(kind)]
    unfinished = sum(_bytes(file) for file in _files(folder) if TEMPORARY_MARK in file.name)
    return Contents((*makers, *tables), size_of(folder), unfinished)


def clear(folder: Path, name: str | None = None) -> int:
    """Empty a store, or remove one maker or table (its directory's name); returns the bytes that are freed.

    Nothing but the store's own files is touched; runs that are under way make again what they miss. UserError where
    the folder is no store, knows no such name, or where a run writes just now.
    """
    check_form(folder)
    try:
        return _clear(folder, name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be cleared ({error.strerror}); try again when no run writes to it") from None


def _clear(folder: Path, name: str | None) -> int:
    before = size_of(folder)
    if name is not None:
        for sub in (found := [sub for sub in _named(folder) if sub.name == name]):
            shutil.rmtree(sub)
        if not found:
            known = ", ".join(sub.name for sub in _named(folder)) or "none"
            raise UserError(f"{folder}: holds no {name}; it has: {known}")
        return before - size_of(folder)
    for part in (PATCHES, TABLES, VIDEOS, CONTENT):
        if (folder / part).is_dir():
            shutil.rmtree(folder / part)
    return before - size_of(folder)  # the mark stays: a run that is under way goes on writing


def _named(folder: Path) -> list[Path]:
    return [*_folders(folder / PATCHES), *(sub for kind in _folders(folder / TABLES) for sub in _folders(kind))]


def _patches(folder: Path) -> Part:
    try:
        about = read_sealed(folder.parent.parent, folder / "maker.json")
    except FileNotFoundError:
        about = {}
    except ValueError as error:
        about = {"maker": {"maker.json": str(error)}}
    chunks = [file for file in _files(folder) if _CHUNK.fullmatch(file.name)]
    frames = sum(int(file.name.partition("-")[0]) for file in chunks)
    return Part(PATCHES, folder.name, frames, size_of(folder), len({file.parent.parent for file in chunks}), about)


def _table(kind: str, folder: Path) -> Part:
    files = [file for file in _files(folder) if file.suffix == ".jsonl" and TEMPORARY_MARK not in file.name]
    return Part(kind, folder.name, sum(file.read_bytes().count(b"\n") for file in files), size_of(folder))


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.is_symlink())


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0


def row_key(*content: Any) -> str:
    """Thirty-two hex digits of what a row is the answer to."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:32]


class Table:
    """The rows of one kind that were made in one way.

    folder   the store's
    about    all that the rows depend on, beside their keys: other facts, another table

    Every addition is a file of its own, so that nobody overwrites another's; of rows with one key any is right. Every
    row has a checksum, which holds in this table alone. Rows that are damaged, and files that cannot be read, are
    passed over, which is said on stderr; the damaged file is replaced by its good rows.
    """

    def __init__(self, folder: Path, kind: str, about: Mapping[str, Any]) -> None:
        self.about, self.store = dict(about), folder
        self.folder = folder / TABLES / kind / row_key(kind, self.about)[:16]

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows by their keys."""
        return dict(self.each())

    def each(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All rows with their keys, a file after the other; a key may come twice."""
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        for name in names:
            if name.endswith(".jsonl") and TEMPORARY_MARK not in name:
                yield from self._read(self.folder / name).items()

    def _read(self, file: Path) -> dict[str, dict[str, Any]]:
        """The good rows of a file."""
        if not inside(self.store, file):
            warn(f"{file}: is a link, which a store has none of: passed over")
            return {}
        try:
            lines = read_text(file).removesuffix("\n").split("\n")  # not splitlines(): rows may hold U+2028
        except UserError as error:
            warn(f"{file}: passed over ({str(error).removeprefix(f'{file}: ')})")
            return {}
        found = {}
        for line in lines:
            with suppress(ValueError, KeyError, RecursionError):  # counted below
                row = unsealed(json.loads(line), self.folder.name)
                found[row["key"]] = row
        if len(found) < len(lines):
            warn(f"{file}: {len(lines) - len(found)} of {len(lines)} rows are damaged; they are made again")
            self._replace(file, found)
        return found

    def _replace(self, file: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put the good rows in a new file, so that the damage is met once."""
        try:
            self._write(rows)
            file.unlink(missing_ok=True)
        except OSError:  # a store that may only be read
            pass

    def add(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Add rows by their keys."""
        try:
            self._write({key: {**row, "key": key} for key, row in rows.items()})
        except OSError as error:
            warn(f"{self.folder}: cannot be written to ({error.strerror}); nothing added")

    def _write(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        if not rows:
            return
        if not self.store.parent.is_dir():  # the table of a run whose folder was removed
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.store.parent))
        refuse_links(self.store, self.folder)
        if not (self.folder / "about.json").exists():
            write_json(self.folder / "about.json", self.about)
        file = self.folder / f"{uuid.uuid4().hex[:16]}.jsonl"
        write_jsonl(file, (sealed(row, self.folder.name) for row in rows.values()))


class ContentHashes:
    """What a video is, whatever it is called: the hash of its bytes, 32 hex digits, computed once for a file's state.

    They are kept in the store by path, size and the times of the last changes (content's and file's, in nanoseconds, so
    that a copy which keeps its times is noticed too). Of a folder of pictures these and their rate count, not their
    names.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._known: dict[str, tuple[Any, str]] = {}  # path -> state, content

    def of(self, path: Path) -> str:
        """UserError where there is no such video."""
        key = os.path.abspath(path)
        name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
        file = self.store / CONTENT / name[:2] / f"{name}.json"
        try:
            state = _folder_state(path) if path.is_dir() else _file_state(path)
            if key not in self._known:
                row = known(self.store, file, {"path", "state", "content"}, "its video is hashed again")
                if row is not None and row["path"] == key:
                    self._known[key] = row["state"], row["content"]
            if key not in self._known or self._known[key][0] != state:
                content = _folder_hash(path) if path.is_dir() else _file_hash(path)
                self._known[key] = state, content
                with suppress(OSError):  # a store that may only be read: this object remembers
                    row = {"path": key, "state": state, "content": content}
                    write_sealed(self.store, file, row)
        except OSError as error:
            raise UserError(f"video {path} cannot be opened ({error.strerror}): check the path") from error
        return self._known[key][1]


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
