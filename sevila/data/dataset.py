"""From records to batches: frames by the rule, decoded, transformed, and put together; and to patches.

It knows no model: whoever asks for patches brings the tower that makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sevila.data.folders import Videos
from sevila.data.loading import stream
from sevila.data.records import Moment, Question
from sevila.data.sampling import EvaluationFrames, FrameKey, FrameRule, ordered_keys
from sevila.data.store import Misses, Store, Stored
from sevila.data.video import CachedVideos, Frames, VideoInfo
from sevila.errors import UserError
from sevila.progress import track
from sevila.transfer import upload

Record = Question | Moment
GROUP = 32  # frames in a pass of the tower for the store, on a GPU


@dataclass(frozen=True, eq=False)
class Sample:
    """A record, its frames as decoded, and `pixels` as the model sees them, but for normalisation: uint8 [T, 3, S, S].

    stored   what a store knows of the frames. Then `pixels` are only those that it lacks, [M, 3, S, S], and
             so are `frames.pixels`, unless the dataset was asked for all of them
    """

    record: Record
    frames: Frames
    pixels: Tensor
    stored: Stored | None = None

    def pin_memory(self) -> Sample:
        """The same sample, what the model gets of it in page-locked memory (what a pinning DataLoader calls)."""
        stored = None if self.stored is None else self.stored.moved(Tensor.pin_memory)
        return replace(self, pixels=self.pixels.pin_memory(), stored=stored)


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples, padded with zeros to the longest T.

    records   questions, or moment queries: a task knows which
    pixels    uint8 [B, T, 3, S, S]: a quarter of the bytes that normalised ones would have on their way
    mask      bool [B, T], False where there is no frame
    indices   of each video, its frame numbers
    times     of each video, its frames' seconds
    stored    what a store knows of the frames. Then `pixels` are only those that it lacks, [M, 3, S, S], video
              by video
    """

    records: list[Any]
    pixels: Tensor
    mask: Tensor
    indices: list[list[int]]
    times: list[list[float]]
    stored: Stored | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def questions(self) -> list[Question]:
        """The records of a training on questions."""
        return [record for record in self.records if isinstance(record, Question)]

    @property
    def moments(self) -> list[Moment]:
        """The records of a training on moment queries."""
        return [record for record in self.records if isinstance(record, Moment)]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on a device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (what a pinning DataLoader calls)."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        stored = None if self.stored is None else self.stored.moved(move)
        return replace(self, pixels=move(self.pixels), mask=move(self.mask), stored=stored)


class FrameDataset(Dataset[Sample]):
    """Records with their frames, by `FrameKey`.

    fixed_indices   qid -> frame numbers, for records whose frames were chosen beforehand; the others follow
                    the rule. The rule's transform goes for both.
    store           looked into before a video is decoded; where it has all frames, nothing is decoded
    pictures        decode also those frames whose patches are stored, for somebody who looks at `frames.pixels`

    A record whose video or clip is faulty raises UserError that names it; it is never replaced by another.
    """

    def __init__(
        self,
        records: Sequence[Record],
        videos: CachedVideos,
        folder: Videos,
        rule: FrameRule,
        fixed_indices: Mapping[str, Sequence[int]] | None = None,
        store: Store | None = None,
        pictures: bool = False,
    ) -> None:
        self.records = records
        self.videos = videos
        self.folder = folder
        self.rule = rule
        self.fixed_indices = dict(fixed_indices or {})
        self.store, self.pictures = store, pictures

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: FrameKey) -> Sample:
        record = self.records[key[1]]
        try:
            return self.sample(record, key)
        except UserError as error:
            raise UserError(f"record {record.qid} (video {record.video}): {error}") from error

    def load(self, key: FrameKey | list[FrameKey]) -> Sample | Batch:
        """The sample of a key, or the batch of a list of keys. UserError as above."""
        return collate([self[each] for each in key]) if isinstance(key, list) else self[key]

    def sample(self, record: Record, key: FrameKey) -> Sample:
        """A record with its frames. UserError about the video alone, without the record's name."""
        path = self.folder.path(record.video)
        if self.store is not None:
            view = self.rule.view(self.videos.size, key)
            if view is not None:
                return self._with_store(self.store, record, path, view, key)
        frames = self.videos.read(path, self._indices(record, self.videos.info(path), key))
        return Sample(record, frames, self.rule.transform(frames.pixels, key))

    def _with_store(self, store: Store, record: Record, path: Path, view: str, key: FrameKey) -> Sample:
        """A sample of which only those frames are decoded that the store lacks."""
        indices = self._indices(record, store.info(path, self.videos.info), key)
        place = store.place(path, view)
        found = store.read(place, indices)
        missing = torch.ones(len(indices), dtype=torch.bool)
        missing[found.rows] = False
        lacking = missing.nonzero().flatten().tolist()
        pixels = torch.empty(0, 3, self.videos.size, self.videos.size, dtype=torch.uint8)
        times = {}
        if self.pictures or lacking:
            decoded = self.videos.read(path, indices if self.pictures else [indices[row] for row in lacking])
            pixels, times = decoded.pixels, dict(zip(decoded.indices, decoded.times, strict=True))
        times.update(found.times)
        frames = Frames(pixels, tuple(indices), tuple(times[index] for index in indices))
        misses = Misses(place, tuple(indices[row] for row in lacking), tuple(frames.times[row] for row in lacking))
        fresh = pixels[missing] if self.pictures else pixels
        stored = Stored(store, missing, spread(found.patches, ~missing), (misses,))
        return Sample(record, frames, self.rule.transform(fresh, key) if lacking else fresh, stored)

    def _indices(self, record: Record, info: VideoInfo, key: FrameKey) -> Sequence[int]:
        if record.qid in self.fixed_indices:
            return self.fixed_indices[record.qid]
        clip = record.clip if isinstance(record, Question) else None
        return self.rule.indices(info, clip, key)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one picture size -> a batch. Videos with fewer frames are padded and masked."""
    longest = max(len(sample.frames.indices) for sample in samples)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, sample in enumerate(samples):
        mask[row, : len(sample.frames.indices)] = True
    kept = [sample.stored for sample in samples if sample.stored is not None]
    if kept:
        pixels = torch.cat([sample.pixels for sample in samples])
    else:
        pixels = samples[0].pixels.new_zeros(len(samples), longest, *samples[0].pixels.shape[1:])
        for row, sample in enumerate(samples):
            pixels[row, : len(sample.pixels)] = sample.pixels
    return Batch(
        records=[sample.record for sample in samples],
        pixels=pixels,
        mask=mask,
        indices=[list(sample.frames.indices) for sample in samples],
        times=[list(sample.frames.times) for sample in samples],
        stored=_collated(kept, mask) if kept else None,
    )


def _collated(stored: Sequence[Stored], mask: Tensor) -> Stored:
    missing = torch.zeros_like(mask)
    for row, one in enumerate(stored):
        missing[row, : len(one.missing)] = one.missing
    known = {row: one.patches for row, one in enumerate(stored) if one.patches is not None}
    patches = None
    for row, part in known.items():
        patches = part.new_zeros((*mask.shape, *part.shape[1:])) if patches is None else patches
        patches[row, : len(part)] = part
    return Stored(stored[0].store, missing, patches, tuple(misses for one in stored for misses in one.misses))


def spread(rows: Tensor | None, places: Tensor) -> Tensor | None:
    """Put rows [M, ...] where bool [T] is True: [T, ...], zeros elsewhere. As they are where all of it is True."""
    if rows is None or bool(places.all()):
        return rows
    out = rows.new_zeros((len(places), *rows.shape[1:]))
    out[places] = rows
    return out


@dataclass(frozen=True)
class VideoSource:
    """Where frames come from: `n_frames` midpoints of every video (or clip), decoded by `workers` processes, ahead.

    store      where the tower's patches of frames are kept, if anywhere
    pictures   whether evaluation looks at the decoded pictures too, so that stored patches do not suffice
    pin        whether what the model gets lies in page-locked memory, for a GPU
    """

    videos: CachedVideos
    folder: Videos
    n_frames: int
    workers: int = 0
    store: Store | None = None
    pictures: bool = False
    pin: bool = False

    def dataset(
        self, records: Sequence[Record], rule: FrameRule, fixed_indices: Mapping[str, Sequence[int]] | None = None
    ) -> FrameDataset:
        """Records with the frames that a rule takes, for a training."""
        return FrameDataset(records, self.videos, self.folder, rule, fixed_indices, self.store)

    def walk(self, records: Sequence[Record], label: str | None = None) -> Iterator[tuple[list[int], Sample]]:
        """For every video and clip: the rows of `records` that ask about it, and its frames.

        `label` names a progress bar, None shows none.
        """
        groups = by_video(records)
        first, rule = [records[group[0]] for group in groups], EvaluationFrames(self.n_frames)
        dataset = FrameDataset(first, self.videos, self.folder, rule, store=self.store, pictures=self.pictures)
        samples = stream(dataset, self.workers, ordered_keys(len(groups)), self.pin)
        walk = zip(groups, samples, strict=True)
        yield from walk if label is None else track(walk, len(groups), label)


def by_video(records: Sequence[Record]) -> list[list[int]]:
    """The rows of `records` that ask about each video and clip, in the order in which these first appear."""
    rows: dict[object, list[int]] = {}
    for row, record in enumerate(records):
        clip = record.clip if isinstance(record, Question) else None
        rows.setdefault((record.video, clip), []).append(row)
    return list(rows.values())


class Tower(Protocol):
    """Makes patches of frames: a backbone."""

    @property
    def device(self) -> torch.device: ...

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, S, S] -> [..., P, Dv]."""
        ...


def patches_of(tower: Tower, item: Sample | Batch) -> Tensor:
    """[T, P, Dv] of a sample, [B, T, P, Dv] of a batch, in the tower's dtype and on its device.

    What the store lacks is encoded and added to it. Padding of a batch comes out as the tower's answer to
    zeros, or with a store as zeros: nobody reads it.
    """
    stored = item.stored
    if stored is None:
        return tower.encode(item.pixels)
    patches = None if stored.patches is None else upload(stored.patches, tower.device)
    if patches is not None and not bool(stored.missing.any()):
        return patches
    fresh = stored.keep(_encoded(tower, item.pixels))
    if patches is None:
        patches = fresh.new_zeros((*stored.missing.shape, *fresh.shape[1:]))
    rows = stored.missing.flatten().nonzero().flatten()  # on the host, where it is known
    patches.view(-1, *fresh.shape[1:])[upload(rows, patches.device)] = fresh
    return patches


def _encoded(tower: Tower, pixels: Tensor) -> Tensor:
    """Patches [M, P, Dv] that do not depend on which frames happen to be missing together.

    On a CPU a frame's patches are the same to the bit in any company (but in MKL's mode for all processors, where the
    last digits differ). A GPU chooses its kernels by the batch's shape and rounds accordingly: so that shape is always
    the same there, filled up with blank frames.
    """
    if tower.device.type == "cpu":
        return tower.encode(pixels)
    parts = []
    for part in pixels.split(GROUP):
        blank = part.new_zeros((GROUP - len(part), *part.shape[1:]))
        parts.append(tower.encode(torch.cat([part, blank]) if len(blank) else part)[: len(part)])
    return torch.cat(parts)
