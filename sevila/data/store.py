"""What need not be computed again: patches on disk."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sevila.data import store_files
from sevila.data.frame_folder import picture_files, rate_file
from sevila.data.store_files import SUFFIX, Chunk, Refused, open_chunk, write_chunk
from sevila.data.video import VideoInfo
from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK, read_text


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
        return self.store / store_files.CONTENT / name[:2] / f"{name}.json"

    def _remembered(self, key: str) -> tuple[Any, str] | None:
        file = self._file(key)
        if file is None:
            return None
        try:
            row = store_files.read_sealed(self.store, file)
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
            store_files.write_sealed(self.store, file, {"path": key, "state": state, "content": content})
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


RULES = "3"  # to be raised when a frame number comes to mean another frame, or a file another form
Facts = tuple[Any, ...]  # the arguments of a `Store`, hashable
KNOWN_PLACES = 4096  # directories whose lists of frames a process keeps


@dataclass(frozen=True)
class Place:
    """Where patches belong: a video's content hash, and what was done to its pictures (`plain`, or a crop's box)."""

    video: str
    view: str


@dataclass(frozen=True)
class Lack:
    """Frames of a video that the store does not have: numbers and seconds."""

    place: Place
    indices: tuple[int, ...]
    times: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What a store has of frames asked for: the patches [T, P, Dv] (None: nothing) and seconds of those at `rows`."""

    rows: list[int]
    patches: Tensor | None
    times: dict[int, float]


@dataclass(frozen=True, eq=False)
class Stored:
    """The part of a sample (or of a batch of B) that a store knows.

    missing   bool [T] (or [B, T]): True where a frame must be encoded; the sample's pixels are those frames alone
    patches   [T, P, Dv] (or [B, T, P, Dv]) with zeros where a frame is missing or padding; None where all are
    lacks     what is missing, video by video, in order
    """

    store: Store
    missing: Tensor
    patches: Tensor | None
    lacks: tuple[Lack, ...]

    def moved(self, move: Callable[[Tensor], Tensor]) -> Stored:
        """The same with its patches elsewhere."""
        return self if self.patches is None else replace(self, patches=move(self.patches))

    def keep(self, fresh: Tensor) -> None:
        """Write the patches [M, P, Dv] of the missing frames."""
        rows = fresh.split([len(lack.indices) for lack in self.lacks])
        for lack, patches in zip(self.lacks, rows, strict=True):
            self.store.write(lack, patches)


class Store:
    """The patches of one maker in a store's folder; get one by `open_store`.

    maker       all that patches depend on beside the frame
    dtype       of the patches that it takes and gives, the backbone's
    rest        dtype on disk; another one than `dtype` rounds, also what was not on disk before (see `settle`)
    max_bytes   of the whole folder. Then nothing more is written, said once on stderr: frames come around in the
                same order in every epoch, so making room for new ones would only remove what is needed next
    note        further words for maker.json, which do not tell makers apart

    Files that are not whole, damaged (a frame's checksum is compared when a process reads it first) or not what their
    name says are passed over, said once for each; their frames are made again. A folder that cannot be written to is
    read.
    """

    def __init__(
        self,
        folder: Path,
        maker: Mapping[str, str],
        dtype: torch.dtype,
        rest: torch.dtype,
        max_bytes: int | None = None,
        note: Mapping[str, str] | None = None,
    ) -> None:
        store_files.open_folder(folder)
        self.lock = store_files.share(folder)
        self.facts: Facts = (folder, _pairs(maker), dtype, rest, max_bytes, _pairs(note or {}))
        self.folder, self.dtype, self.rest = folder, dtype, rest
        self.maker = {**maker, "dtype": _name(dtype), "at rest": _name(rest), "rules": RULES}
        self.note = dict(note or {})
        self.id = hashlib.sha256(json.dumps(self.maker, sort_keys=True).encode()).hexdigest()[:16]
        self.contents = ContentHashes(folder)
        self.room = Room(folder, max_bytes)
        self._infos: dict[str, VideoInfo] = {}
        self._places: OrderedDict[Path, dict[str, Chunk]] = OrderedDict()
        self._bad: set[Path] = set()
        self._checked: dict[Path, set[int]] = {}  # file -> rows

    def __reduce__(self) -> tuple[Callable[[Facts], Store], tuple[Facts]]:
        """What comes back from a worker finds this process's own store: its count of bytes, its warnings."""
        return _opened, (self.facts,)

    # --- videos ---

    def place(self, path: Path, view: str) -> Place:
        return Place(self.contents.of(path), view)

    def info(self, path: Path, probe: Callable[[Path], VideoInfo]) -> VideoInfo:
        """Length, rate and size of a video; `probe` finds them out where no process did before."""
        content = self.contents.of(path)
        if content not in self._infos:
            file = self.folder / store_files.VIDEOS / content[:2] / f"{content}.json"
            self._infos[content] = self._read_info(file) or self._new_info(file, probe(path))
        return self._infos[content]

    def _read_info(self, file: Path) -> VideoInfo | None:
        try:
            row = store_files.read_sealed(self.folder, file)
            info = VideoInfo(**row["info"]) if row["rules"] == RULES else None
            return info and replace(info, times=info.times and tuple(info.times))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            print(f"sevila: warning: {file}: {error}; it is made again", file=sys.stderr)
            return None

    def _new_info(self, file: Path, info: VideoInfo) -> VideoInfo:
        self._writing(lambda: store_files.write_sealed(self.folder, file, {"rules": RULES, "info": asdict(info)}))
        return info

    # --- reading ---

    def read(self, place: Place, indices: Sequence[int]) -> Found:
        """Of frames asked for, in their order, those that are there."""
        chunks = self._chunks(place)
        where = {index: chunk for chunk in reversed(chunks) for index in chunk.indices}  # first written counts
        rows = [row for row, index in enumerate(indices) if index in where]
        wanted = [indices[row] for row in rows]
        out: Tensor | None = None
        for chunk in {where[index].file: where[index] for index in wanted}.values():
            source = {index: row for row, index in enumerate(chunk.indices)}
            here = [i for i, index in enumerate(wanted) if where[index] is chunk]
            taken = [source[wanted[i]] for i in here]
            part = self._patches(chunk, taken)
            if part is None:  # bad or gone: it is out of the list now
                return self.read(place, indices)
            if tuple(wanted) == chunk.indices:
                out = part  # as it is mapped: nothing is copied
            else:
                out = part.new_empty((len(rows), *part.shape[1:])) if out is None else out
                out[here] = part[taken]
        times = {index: _time(where[index], index) for index in wanted}
        return Found(rows, None if out is None else out.to(self.dtype), times)

    def _chunks(self, place: Place) -> list[Chunk]:
        """The whole files of a place, the first written first."""
        folder = self._folder(place)
        try:
            found = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder) if _finished(entry.name)}
        except FileNotFoundError:
            found = {}
        known = self._places.pop(folder, {})
        chunks = {}
        for name in sorted(found, key=lambda name: (found[name], name)):
            chunk = known.get(name) or self._opened(folder / name, place)
            if chunk is not None:
                chunks[name] = chunk
        self._places[folder] = chunks
        if len(self._places) > KNOWN_PLACES:
            self._places.popitem(last=False)
        return list(chunks.values())

    def _opened(self, file: Path, place: Place) -> Chunk | None:
        if file in self._bad:
            return None
        try:
            if not store_files.inside(self.folder, file):
                raise Refused("is a link, which a store has none of")
            return open_chunk(file, self._owner(place), self.rest)
        except FileNotFoundError:
            return None
        except Refused as error:
            return self._refuse(file, error)

    def _patches(self, chunk: Chunk, rows: Sequence[int]) -> Tensor | None:
        """All patches of a file; None where it is gone, or damaged in some of the rows."""
        checked = self._checked.setdefault(chunk.file, set())
        try:
            patches = chunk.patches()
            for row in set(rows) - checked:
                chunk.check(patches, row)
                checked.add(row)
            return patches
        except FileNotFoundError:
            self._places.pop(chunk.file.parent, None)
            return None
        except Refused as error:
            self._places.pop(chunk.file.parent, None)
            return self._refuse(chunk.file, error)

    def _refuse(self, file: Path, why: Refused) -> None:
        self._bad.add(file)
        self._checked.pop(file, None)
        print(f"sevila: warning: {file}: {why}; its frames are encoded again", file=sys.stderr)

    # --- writing ---

    def settle(self, patches: Tensor) -> Tensor:
        """Patches as they come back from disk: a run computes with the same numbers whether they were there or not."""
        return patches.to(self.rest).to(self.dtype)

    def write(self, lack: Lack, patches: Tensor) -> None:
        """Add the patches [T, P, Dv] of frames; what is there already stays."""
        row = {index: i for i, index in enumerate(lack.indices)}
        indices = sorted(row)
        frames = hashlib.sha256(json.dumps(indices).encode()).hexdigest()[:16]
        file = self._folder(lack.place) / f"{len(indices)}-{frames}{SUFFIX}"
        if not indices or self._has(file, lack.place) or not self.room.has(patches.nbytes):
            return
        resting = patches[[row[index] for index in indices]].to("cpu", self.rest).contiguous()
        times = [lack.times[row[index]] for index in indices]

        def add() -> None:
            store_files.refuse_links(self.folder, file.parent)
            if not (self._home / "maker.json").exists():
                about = {"maker": self.maker, "note": self.note}
                store_files.write_sealed(self.folder, self._home / "maker.json", about)
            self.room.taken(write_chunk(file, self._owner(lack.place), indices, times, resting))
            self._bad.discard(file)

        self._writing(add)

    def _has(self, file: Path, place: Place) -> bool:
        """Whether the file is there, and whole; a bad one will be replaced."""
        if not file.exists():
            return False
        found = [chunk for chunk in self._chunks(place) if chunk.file == file]
        return bool(found) and self._patches(found[0], range(len(found[0].indices))) is not None

    def _writing(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self.room.close(f"it cannot be written to ({error.strerror})")

    def _owner(self, place: Place) -> dict[str, str]:
        return {"maker": self.id, **asdict(place)}

    @property
    def _home(self) -> Path:
        return self.folder / store_files.PATCHES / self.id

    def _folder(self, place: Place) -> Path:
        return self._home / place.video[:2] / place.video / place.view


class Room:
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
            self._used, self._new = store_files.size_of(self.folder), 0
        if self._used + self._new + size > self.limit:
            self.close(f"it is full (store.max_gb={self.limit / 1e9:g})")
        return not self.closed

    def taken(self, size: int) -> None:
        self._new += size

    def close(self, why: str) -> None:
        """Write nothing more."""
        if not self.closed:
            print(f"sevila: warning: store.folder={self.folder}: {why}; nothing is added any more", file=sys.stderr)
        self.closed = True


def open_store(
    folder: Path,
    maker: Mapping[str, str],
    dtype: torch.dtype,
    rest: torch.dtype | None = None,
    max_bytes: int | None = None,
    note: Mapping[str, str] | None = None,
) -> Store:
    """The store in a folder. UserError where the folder cannot be one."""
    store = Store(folder.absolute(), maker, dtype, rest or dtype, max_bytes, note)
    _OPEN[store.facts] = store
    return store


_OPEN: dict[Facts, Store] = {}  # the stores of this process


def _opened(facts: Facts) -> Store:
    """The store of this process that was opened so, or one in a process that has none yet, such as a worker."""
    if facts not in _OPEN:
        folder, maker, dtype, rest, max_bytes, note = facts
        _OPEN[facts] = Store(folder, dict(maker), dtype, rest, max_bytes, dict(note))
    return _OPEN[facts]


def _pairs(words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(words.items()))


def _time(chunk: Chunk, index: int) -> float:
    return chunk.times[chunk.indices.index(index)]


def _finished(name: str) -> bool:
    return name.endswith(SUFFIX) and TEMPORARY_MARK not in name


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
