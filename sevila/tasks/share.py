"""Work on whole videos, shared among the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import distributed

from sevila.data.dataset import Record, by_video
from sevila.data.store_files import row_key
from sevila.errors import UserError

R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class Share(Generic[R]):
    """The records of every N-th video, for one of N processes: all of them where a process is alone.

    places    where they stand among all records
    among     digest of all records' ids
    """

    places: list[int]
    records: list[R]
    among: str

    @classmethod
    def of(cls, records: Sequence[R]) -> Share[R]:
        """This process's share."""
        rank, processes = (distributed.get_rank(), distributed.get_world_size()) if _several() else (0, 1)
        places = sorted(place for video in by_video(records)[rank::processes] for place in video)
        return cls(places, [records[place] for place in places], row_key([record.qid for record in records]))

    def work(self, make: Callable[[list[R]], Sequence[T]]) -> list[T]:
        """What `make` gives for the records, one result each; then all processes' results, in the records' order.

        All of them call it, and all get it. A UserError of one is raised by all, so that none waits for it.
        """
        if not _several():
            return list(make(self.records))
        fault, made = "", []
        try:
            made = list(zip(self.places, make(self.records), strict=True))
        except UserError as error:
            fault = str(error)
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, (fault, self.among, made))
        for other, among, _ in parts:
            if other or among != self.among:
                raise UserError(
                    other or "the processes read different records: look at the data's files and start again"
                )
        return [result for _, result in sorted((pair for part in parts for pair in part[2]), key=lambda pair: pair[0])]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
