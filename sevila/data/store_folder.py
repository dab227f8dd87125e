"""The folder of a store: how it is known, what lies in it, how it is emptied.

    store.json                      says that this is a store, and of which form
    content/                        of every video path its content hash, so that a file is hashed once
    videos/CONTENT.json             length, rate and size of every video
    patches/MAKER/                  maker.json says who made them; then CONTENT/VIEW/COUNT-FRAMES.safetensors
    tables/KIND/ID/                 about.json says what of; then rows in jsonl files (keyframes, pseudo-labels)

Files are never changed, only added and removed, each under its name only when it is whole. So any number of processes
may read and write a store at once, and a reader sees a file or none.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK, read_json, write_json

MARK = "store.json"
FORM = {"sevila": "store", "version": 1}
CONTENT, VIDEOS, PATCHES, TABLES = "content", "videos", "patches", "tables"
_CHUNK = re.compile(r"\d+-[0-9a-f]{16}\.safetensors")


def open_folder(folder: Path) -> None:
    """Make the folder a store, if it is not one yet. UserError where it holds other things or cannot be written."""
    try:
        if (folder / MARK).is_file():
            check_form(folder)
        elif folder.is_dir() and any(TEMPORARY_MARK not in file.name for file in folder.iterdir()):
            if not (folder / MARK).is_file():  # another process may have made it one in the meantime
                raise UserError(f"store.folder={folder}: holds other things than a store; name an empty or new folder")
        else:
            write_json(folder / MARK, FORM)
    except OSError as error:
        raise UserError(f"store.folder={folder}: cannot be written to ({error.strerror}); name another one") from None


def check_form(folder: Path) -> None:
    """UserError for a folder that is no store, or one of another form."""
    if not (folder / MARK).is_file():
        raise UserError(f"{folder}: is no store (no {MARK} in it); name the folder that store.folder named")
    if read_json(folder / MARK) != FORM:
        raise UserError(f"{folder}: a store of another version of sevila; name another folder, or remove it")


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
    about = read_json(folder / "maker.json") if (folder / "maker.json").is_file() else {}
    chunks = [file for file in _files(folder) if _CHUNK.fullmatch(file.name)]
    frames = sum(int(file.name.partition("-")[0]) for file in chunks)
    videos = len({file.parent.parent.name for file in chunks})
    return Makers(folder.name, about, videos, frames, size_of(folder))


def _table(kind: str, folder: Path) -> Rows:
    files = [file for file in _files(folder) if file.suffix == ".jsonl" and TEMPORARY_MARK not in file.name]
    return Rows(kind, folder.name, sum(file.read_bytes().count(b"\n") for file in files), size_of(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
