"""What need not be computed again, on disk, for any number of runs and processes (`store_files` says in which form).

Patches: what the frozen vision tower made of a frame once, it need not make again. They lie in chunks, files with some
frames of one video in one view. A chunk belongs to a maker, the sum of all that patches depend on beside the frame: the
tower's weights, its dtype and device, the picture size, decoder and transform. The maker's digest is part of the path
and stands in the file, so patches of another one are never read.

Tables: rows of results by key (keyframes, pseudo-labels), dear to compute and small to keep.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sevila.data import store_files
from sevila.data.background import BackgroundWriter
from sevila.data.chunks import Chunk, Refused, open_chunk, write_chunk
from sevila.data.quota import Quota
from sevila.data.store_files import ContentHashes, Table, inside, refuse_links, warn
from sevila.data.video import VideoInfo
from sevila.files import TEMPORARY_MARK
from sevila.transfer import download, upload

RULES = "3"  # to be raised when a frame number comes to mean another frame, or a file another form
SUFFIX = ".safetensors"
KNOWN_PLACES = 4096  # directories whose lists of frames a process keeps, and videos whose facts


@dataclass(frozen=True)
class Place:
    """Where patches belong: a video's content hash, and what was done to its pictures (`plain`, or a crop's box)."""

    video: str
    view: str


@dataclass(frozen=True)
class Misses:
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

    store     None on the way from a worker to the main process, whose own store `loading.Loader` puts in
    missing   bool [T] (or [B, T]): True where a frame must be encoded; the sample's pixels are those frames alone
    patches   [T, P, Dv] (or [B, T, P, Dv]) with zeros where a frame is missing or padding; None where all are
    misses    what is missing, video by video, in order
    """

    store: Store | None
    missing: Tensor
    patches: Tensor | None
    misses: tuple[Misses, ...]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "store": None}

    def moved(self, move: Callable[[Tensor], Tensor]) -> Stored:
        """The same with its patches elsewhere."""
        return self if self.patches is None else replace(self, patches=move(self.patches))

    def keep(self, fresh: Tensor) -> Tensor:
        """Write the patches [M, P, Dv] of the missing frames; gives them as they come back from disk.

        So a run computes with the same numbers whether they were there or not.
        """
        assert self.store is not None, "only `loading.Loader` takes samples from workers"
        return self.store.write(self.misses, fresh)


class Store:
    """A store's folder, and in it the patches of one maker.

    maker       all that patches depend on beside the frame
    dtype       of the patches that it takes and gives, the backbone's
    rest        dtype on disk, by default the same; another one rounds, also what was not on disk before
    max_bytes   of the whole folder. Then nothing more is written, said once on stderr: frames come around in the
                same order in every epoch, so making room for new ones would only remove what is needed next
    note        further words for maker.json, which do not tell makers apart

    Files that are not whole, damaged (a frame's checksum is compared when a process reads it first) or not what their
    name says are passed over, said once for each; their frames are made again. A folder that cannot be written to is
    read. UserError for a folder that cannot be a store.

    Patches are written by a thread of the store's own; reading a video's patches waits for those on their way, and
    `flush` for all.
    """

    def __init__(
        self,
        folder: Path,
        maker: Mapping[str, str],
        dtype: torch.dtype,
        rest: torch.dtype | None = None,
        max_bytes: int | None = None,
        note: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.dtype, self.rest = folder.absolute(), dtype, rest or dtype
        store_files.open_folder(self.folder)
        self.lock = store_files.claim(self.folder)
        self.maker = {**maker, "dtype": _name(dtype), "at rest": _name(self.rest), "rules": RULES}
        self.note = dict(note or {})
        self.id = hashlib.sha256(json.dumps(self.maker, sort_keys=True).encode()).hexdigest()[:16]
        self.contents = ContentHashes(self.folder)
        self.quota = Quota(self.folder, max_bytes)
        self._writer = BackgroundWriter()
        self._infos: dict[str, VideoInfo] = {}
        self._places: OrderedDict[Path, dict[str, Chunk]] = OrderedDict()
        self._bad: dict[Path, int] = {}  # file -> when it was written: it may have been made again since
        self._checked: dict[Path, set[int]] = {}  # file -> rows

    def table(self, kind: str, about: Mapping[str, Any]) -> Table:
        """The rows of results of one kind that depend on these facts."""
        return Table(self.folder, kind, about)

    # --- videos ---

    def place(self, path: Path, view: str) -> Place:
        """UserError where there is no such video."""
        return Place(self.contents.of(path), view)

    def info(self, path: Path, probe: Callable[[Path], VideoInfo]) -> VideoInfo:
        """Length, rate and size of a video; `probe` finds them out where no process did before."""
        content = self.contents.of(path)
        if content not in self._infos:
            file = self.folder / store_files.VIDEOS / content[:2] / f"{content}.json"
            row = store_files.known(self.folder, file, {"rules", "info"}, "it is made again")
            if row is not None and row["rules"] == RULES:
                info = VideoInfo(**row["info"])
                self._infos[content] = replace(info, times=info.times and tuple(info.times))
            else:
                self._infos[content] = info = probe(path)
                row = {"rules": RULES, "info": asdict(info)}
                self._writing(lambda: store_files.write_sealed(self.folder, file, row))
            if len(self._infos) > KNOWN_PLACES:
                del self._infos[next(iter(self._infos))]
        return self._infos[content]

    # --- reading patches ---

    def read(self, place: Place, indices: Sequence[int]) -> Found:
        """Of frames asked for, in their order, those that are there."""
        self._writer.wait(self._folder(place))
        chunks = self._chunks(place)
        where = {index: chunk for chunk in reversed(chunks) for index in chunk.indices}  # first written counts
        rows = [row for row, index in enumerate(indices) if index in where]
        wanted = [indices[row] for row in rows]
        out: Tensor | None = None
        for chunk in {where[index].file: where[index] for index in wanted}.values():
            here = [i for i, index in enumerate(wanted) if where[index] is chunk]
            taken = [chunk.indices.index(wanted[i]) for i in here]
            part = self._patches(chunk, taken)
            if part is None:  # bad or gone: it is out of the list now
                return self.read(place, indices)
            if tuple(wanted) == chunk.indices:
                out = part  # as it is mapped: nothing is copied
            else:
                out = part.new_empty((len(rows), *part.shape[1:])) if out is None else out
                out[here] = part[taken]
        times = {index: where[index].times[where[index].indices.index(index)] for index in wanted}
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
            chunk = known.get(name) or self._opened(folder / name, place, found[name])
            if chunk is not None:
                chunks[name] = chunk
        self._places[folder] = chunks
        if len(self._places) > KNOWN_PLACES:
            _, longest_unused = self._places.popitem(last=False)
            for chunk in longest_unused.values():
                self._checked.pop(chunk.file, None)
        return list(chunks.values())

    def _opened(self, file: Path, place: Place, written: int) -> Chunk | None:
        if self._bad.get(file) == written:
            return None
        try:
            if not inside(self.folder, file):
                raise Refused("is a link, which a store has none of")
            return open_chunk(file, self._owner(place), self.rest)
        except FileNotFoundError:
            return None
        except Refused as error:
            self._refuse(file, error)
            return None

    def _patches(self, chunk: Chunk, rows: Sequence[int]) -> Tensor | None:
        """All patches [t, P, Dv] of a file; None where it is gone, or damaged in some of the rows."""
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
            self._refuse(chunk.file, error)
            return None

    def _refuse(self, file: Path, why: Refused) -> None:
        with suppress(FileNotFoundError):
            self._bad[file] = file.stat().st_mtime_ns
        self._checked.pop(file, None)
        warn(f"{file}: {why}; its frames are encoded again")

    # --- writing patches ---

    def write(self, misses: Sequence[Misses], patches: Tensor) -> Tensor:
        """Add the patches [M, P, Dv] of all missing frames, video by video; what is there already stays.

        Gives them as they come back from disk. They get there while the caller goes on: an error that is not the
        disk's is raised by a later call. The disk's own ends the writing, which is said on stderr.
        """
        resting = patches.to(self.rest)
        new: list[_New] = []
        order, start = [], 0
        for each in misses:
            chunk = _New.of(each, self._folder(each.place))
            twice = any(chunk.file == other.file for other in new)  # rows of a batch may ask about one video
            if chunk.rows and not twice and not self.quota.closed and not self._has(chunk.file, each.place):
                new.append(chunk)
                order += [start + row for row in chunk.rows]
            start += len(each.indices)
        if new:
            # one copy to the host for all videos, which only the writing thread waits for
            arrival = download(resting[upload(torch.tensor(order), resting.device)])
            start = 0
            for chunk in new:
                part = slice(start, start := start + len(chunk.rows))
                size = resting[0].nbytes * len(chunk.rows)
                self._writer.write(chunk.file, size, partial(self._add, chunk, size, arrival, part))
        return resting.to(self.dtype)

    def flush(self) -> None:
        """Until all is written. It raises what the writing raised."""
        self._writer.flush()

    def _add(self, new: _New, size: int, arrival: Callable[[], Tensor], part: slice) -> None:
        """In the writing thread: a video's part of patches on their way to the host, into its file."""
        patches = arrival()[part]
        if self.quota.has(size):
            self._writing(lambda: self._put(new, patches))

    def _put(self, new: _New, patches: Tensor) -> None:
        refuse_links(self.folder, new.file.parent)
        if not (self._home / "maker.json").exists():
            about = {"maker": self.maker, "note": self.note}
            store_files.write_sealed(self.folder, self._home / "maker.json", about)
        self.quota.take(write_chunk(new.file, self._owner(new.place), new.indices, new.times, patches))
        self._bad.pop(new.file, None)

    def _has(self, file: Path, place: Place) -> bool:
        """Whether the file is there, and whole, or on its way; a bad one will be replaced."""
        if self._writer.writes(file):
            return True
        if not file.exists():
            return False
        found = [chunk for chunk in self._chunks(place) if chunk.file == file]
        return bool(found) and self._patches(found[0], range(len(found[0].indices))) is not None

    def _writing(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self.quota.close(f"it cannot be written to ({error.strerror})")

    def _owner(self, place: Place) -> dict[str, str]:
        return {"maker": self.id, **asdict(place)}

    @property
    def _home(self) -> Path:
        return self.folder / store_files.PATCHES / self.id

    def _folder(self, place: Place) -> Path:
        return self._home / place.video[:2] / place.video / place.view


@dataclass(frozen=True)
class _New:
    """A file that is to be written: the frames in it, and in which rows of their video's missing ones they stand."""

    file: Path
    place: Place
    indices: list[int]
    times: list[float]
    rows: list[int]

    @classmethod
    def of(cls, misses: Misses, folder: Path) -> _New:
        row = {index: i for i, index in enumerate(misses.indices)}
        indices = sorted(row)
        frames = hashlib.sha256(json.dumps(indices).encode()).hexdigest()[:16]
        file = folder / f"{len(indices)}-{frames}{SUFFIX}"
        rows = [row[index] for index in indices]
        return cls(file, misses.place, indices, [misses.times[i] for i in rows], rows)


def _finished(name: str) -> bool:
    return name.endswith(SUFFIX) and TEMPORARY_MARK not in name


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
