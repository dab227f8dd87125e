"""Work on whole videos, shared among the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import distributed

from sevila.data.loading import Record
from sevila.tasks.source import by_video

R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class Share(Generic[R]):
    """The records of every N-th video, for one of N processes: all of them where a process is alone.

    places    where they stand among all records
    """

    places: list[int]
    records: list[R]

    @classmethod
    def of(cls, records: Sequence[R]) -> Share[R]:
        """This process's share."""
        shared = distributed.is_available() and distributed.is_initialized()
        rank, processes = (distributed.get_rank(), distributed.get_world_size()) if shared else (0, 1)
        places = sorted(place for video in by_video(records)[rank::processes] for place in video)
        return cls(places, [records[place] for place in places])

    def gather(self, results: Sequence[T]) -> list[T]:
        """The results of all processes, one a record, in the records' order. All of them call it, and all get it."""
        made = list(zip(self.places, results, strict=True))
        if distributed.is_available() and distributed.is_initialized():
            parts: list[list[tuple[int, T]]] = [[] for _ in range(distributed.get_world_size())]
            distributed.all_gather_object(parts, made)
            made = [pair for part in parts for pair in part]
        return [result for _, result in sorted(made, key=lambda pair: pair[0])]
