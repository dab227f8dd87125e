"""The folder of a store and the files in it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sevila.errors import UserError
from sevila.files import (
    TEMPORARY_MARK,
    read_json,
    read_text,
    seal,
    sealed,
    sweep,
    unsealed,
    write_bytes,
    write_json,
    write_jsonl,
)
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


SUFFIX = ".safetensors"


class Refused(Exception):
    """Not a chunk of this owner, or not a whole one; says why."""


@dataclass(frozen=True)
class Chunk:
    """The frames in a file, in its order, and the checksum of each one's patches."""

    file: Path
    indices: tuple[int, ...]
    times: tuple[float, ...]
    checksums: tuple[int, ...]

    def patches(self) -> Tensor:
        """All of them [t, P, Dv], mapped into memory. FileNotFoundError where the file is gone; Refused."""
        return _tensor(self.file, "patches")

    def check(self, patches: Tensor, row: int) -> None:
        """Refused where a frame's patches are not those that were written."""
        if checksum(patches[row]) != self.checksums[row]:
            raise Refused("is damaged (a checksum is wrong)")


def open_chunk(file: Path, owner: Mapping[str, str], dtype: torch.dtype) -> Chunk:
    """Read a chunk's header. FileNotFoundError where there is none; Refused, also for another owner's or dtype's."""
    try:
        with safe_open(file, "pt") as opened:
            said = opened.metadata() or {}
            if {key: said.get(key) for key in owner} != dict(owner):
                raise Refused("is not what its place says")
            indices, times, patches = (opened.get_tensor(name) for name in ("indices", "times", "patches"))
            checksums = tuple(int(word) for word in said["crc32"].split())
            found = Chunk(file, tuple(indices.tolist()), tuple(times.tolist()), checksums)
            if said["seal"] != _seal(found, owner, patches):
                raise Refused("is damaged (a checksum is wrong)")
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise Refused(f"cannot be read ({str(error).splitlines()[0]})") from None
    if len({len(indices), len(times), len(patches), len(checksums)}) > 1 or patches.dtype != dtype:
        raise Refused("is not what its place says")
    return found


def _seal(chunk: Chunk, owner: Mapping[str, str], patches: Tensor) -> str:
    """The checksum of a chunk without its patches."""
    return seal([dict(owner), chunk.indices, chunk.times, chunk.checksums, list(patches.shape), str(patches.dtype)])


def write_chunk(
    file: Path, owner: Mapping[str, str], indices: Sequence[int], times: Sequence[float], patches: Tensor
) -> int:
    """Write patches [t, P, Dv], atomically; returns the file's bytes. OSError where that cannot be done."""
    tensors = {
        "patches": patches,
        "indices": torch.tensor(indices),
        "times": torch.tensor(times, dtype=torch.float64),
    }
    chunk = Chunk(file, tuple(indices), tuple(map(float, times)), tuple(checksum(row) for row in patches))
    checksums = {"crc32": " ".join(map(str, chunk.checksums)), "seal": _seal(chunk, owner, patches)}
    data = save(tensors, {**owner, **checksums})
    write_bytes(file, data)
    return len(data)


def checksum(patches: Tensor) -> int:
    return zlib.crc32(patches.reshape(-1).view(torch.uint8).numpy())


def _tensor(file: Path, name: str) -> Tensor:
    try:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor(name)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise Refused(f"cannot be read ({str(error).splitlines()[0]})") from None


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
        found = {}
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        for name in names:
            if name.endswith(".jsonl") and TEMPORARY_MARK not in name:
                found.update(self._read(self.folder / name))
        return found

    def _read(self, file: Path) -> dict[str, dict[str, Any]]:
        """The good rows of a file."""
        if not inside(self.store, file):
            return self._warn(file, "is a link, which a store has none of: passed over")
        try:
            lines = read_text(file).removesuffix("\n").split("\n")  # not splitlines(): rows may hold U+2028
        except UserError as error:
            return self._warn(file, f"passed over ({str(error).removeprefix(f'{file}: ')})")
        found = {}
        for line in lines:
            with suppress(ValueError, KeyError, RecursionError):  # counted below
                row = unsealed(json.loads(line), self.folder.name)
                found[row["key"]] = row
        if len(found) < len(lines):
            self._warn(file, f"{len(lines) - len(found)} of {len(lines)} rows are damaged; they are made again")
            self._replace(file, found)
        return found

    def _replace(self, file: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put the good rows in a new file, so that the damage is met once."""
        try:
            self._write(rows)
            file.unlink(missing_ok=True)
        except OSError:  # a store that may only be read
            pass

    def _warn(self, place: Path, what: str) -> dict[str, dict[str, Any]]:
        print(f"sevila: warning: {place}: {what}", file=sys.stderr)
        return {}

    def add(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Add rows by their keys."""
        try:
            self._write({key: {**row, "key": key} for key, row in rows.items()})
        except OSError as error:
            self._warn(self.folder, f"cannot be written to ({error.strerror}); nothing added")

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
