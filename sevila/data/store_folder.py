"""The folder of a store: how it is known, what lies in it, how it is emptied.

    store.json                      says that this is a store, and of which form
    content/                        of every video path its content hash, so that a file is hashed once
    videos/CONTENT.json             length, rate and size of every video
    patches/MAKER/                  maker.json says who made them; then CONTENT/VIEW/COUNT-FRAMES.safetensors
    tables/KIND/ID/                 about.json says what of; then rows in jsonl files (keyframes, pseudo-labels)
    .lock                           while somebody uses it (see `share`)

Files are never changed, only added and removed, each under its name only when it is whole. So any number of processes
may read and write a store at once, and a reader sees a file or none. Every file has a checksum, verified on reading,
over its content and its place; links are not followed, for they could lead out of the store.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK, read_json, sealed, sweep, unsealed, write_json
from sevila.locks import LOCK, FolderLock, Held

MARK = "store.json"
FORM = {"sevila": "store", "version": 2}
CONTENT, VIDEOS, PATCHES, TABLES = "content", "videos", "patches", "tables"
_CHUNK = re.compile(r"\d+-[0-9a-f]{16}\.safetensors")


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


def share(folder: Path) -> FolderLock:
    """Say that this process uses the store. Where the last ones to use it were killed, what they left goes first."""
    lock = FolderLock()
    try:
        lock.acquire(folder, shared=True)
        if lock.found and lock.alone():
            sweep(folder)
            lock.share()
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
class Makers:
    """The patches of one maker: its directory's name, what maker.json says, and how much there is."""

    name: str
    about: dict[str, Any]
    videos: int
    frames: int
    bytes: int


@dataclass(frozen=True)
class Rows:
    """A table: its kind and directory, and its rows."""

    kind: str
    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Contents:
    """What a store holds. `unfinished`: bytes of files that killed processes left, or that are being written."""

    makers: tuple[Makers, ...]
    tables: tuple[Rows, ...]
    bytes: int
    unfinished: int


def contents(folder: Path) -> Contents:
    """Look through a store. UserError where the folder is none."""
    check_form(folder)
    return Contents(
        tuple(_maker(sub) for sub in _folders(folder / PATCHES)),
        tuple(_table(kind.name, sub) for kind in _folders(folder / TABLES) for sub in _folders(kind)),
        size_of(folder),
        sum(_bytes(file) for file in _files(folder) if TEMPORARY_MARK in file.name),
    )


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


def _maker(folder: Path) -> Makers:
    about = _about(folder)
    chunks = [file for file in _files(folder) if _CHUNK.fullmatch(file.name)]
    frames = sum(int(file.name.partition("-")[0]) for file in chunks)
    videos = len({file.parent.parent.name for file in chunks})
    return Makers(folder.name, about, videos, frames, size_of(folder))


def _about(folder: Path) -> dict[str, Any]:
    store = folder.parent.parent
    try:
        return read_sealed(store, folder / "maker.json")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        return {"maker": {"maker.json": str(error)}}


def _table(kind: str, folder: Path) -> Rows:
    files = [file for file in _files(folder) if file.suffix == ".jsonl" and TEMPORARY_MARK not in file.name]
    return Rows(kind, folder.name, sum(file.read_bytes().count(b"\n") for file in files), size_of(folder))


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
