"""Records shared among the processes of a run: each works on whole videos of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import distributed

from sevila.data.dataset import Record, by_video
from sevila.data.store_files import row_key
from sevila.errors import UserError, for_others

R = TypeVar("R", bound=Record)
T = TypeVar("T")


def own_places(records: Sequence[R]) -> list[int]:
    """Where this process's records stand among all: those of every N-th video of N processes."""
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if _several() else (0, 1)
    return sorted(place for video in by_video(records)[rank::processes] for place in video)


def by_processes(records: Sequence[R], make: Callable[[list[R]], Sequence[T]]) -> list[T]:
    """What `make` gives for this process's records, one each; then all processes' results, in the records' order.

    All processes call it, and all get it. What one raises ends the others too, with a UserError that says why: none
    waits for a process that is gone.
    """
    places = own_places(records)
    own = [records[place] for place in places]
    if not _several():
        return list(make(own))
    error: Exception | None = None
    made: list[tuple[int, T]] = []
    try:
        made = list(zip(places, make(own), strict=True))
    except Exception as raised:
        error = raised
    fault = "" if error is None else for_others(error)
    among = row_key([record.qid for record in records])
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, (fault, among, made))
    if error is not None:
        raise error
    for other, theirs, _ in parts:
        if other or theirs != among:
            raise UserError(other or "the processes read different records: look at the data's files and start again")
    return [result for _, result in sorted((pair for part in parts for pair in part[2]), key=lambda pair: pair[0])]


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
